"""flax_punkvae: a beta-VAE that learns the 10,000 CryptoPunks, as a functional JAX/Flax program.

Five nouns carry it: Config, Dataset, PunkVAE (the module), TrainState, run directory. Everything else is a function.
Train with `python -m flax_punkvae.experiments.train`.
"""

__version__ = "0.1.0"
