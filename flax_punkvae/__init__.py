"""flax_punkvae: a beta-VAE that learns the 10,000 CryptoPunks, as a functional JAX/Flax program.

Six nouns carry it: Config, Dataset, PunkVAE (the module), TrainState, run directory, Model (a trained model, apart from
the run that made it). Everything else is a function. Each folder answers one question, which its first line says.

Train with `python -m flax_punkvae.experiments.train`, then use what was trained:

    model = flax_punkvae.load("runs/sprite")
    sprites = model.sample(8, seed=0)       # uint8 RGB [8, 24, 24, 3]
    mean, logvar = model.encode(sprites)    # float32 [8, d] each
    again = model.decode(mean)              # uint8 RGB [8, 24, 24, 3]
    model.is_new(sprites)                   # bool [8]: none of the training sprites
"""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flax_punkvae.trained.model import Model

__all__ = ["load"]
__version__ = version("flax-punkvae")


def load(where: str | Path, checkpoint: str | int | None = None) -> "Model":
    """Open the trained model in a run directory, on JAX's default device. It needs no images.

    `checkpoint` is "last", "best" (by validation loss) or the number of a step; the default is "best" for runs with
    validation images and "last" for others. Raises `flax_punkvae.errors.UserError`, one line that says what is wrong
    and what to do, if there is no run, no such checkpoint or no intact one.

    A run that was saved before checkpoints held a description of the model is opened through its images, which must
    then be where they were; `Model.notes` says so.
    """
    # Here, since it imports JAX, which the programs set up first.
    from flax_punkvae.trained import runs

    return runs.load(where, checkpoint)
