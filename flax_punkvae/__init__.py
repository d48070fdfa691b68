"""flax_punkvae: a beta-VAE that learns the 10,000 CryptoPunks, as a functional JAX/Flax program.

Five nouns carry it: Config, Dataset, PunkVAE (the module), TrainState, run directory. Everything else is a function.
Each folder answers one question, which its first line says.
Train with `python -m flax_punkvae.experiments.train`.
"""

from importlib.metadata import version

__version__ = version("flax-punkvae")
