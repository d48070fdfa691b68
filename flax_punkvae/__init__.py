"""flax_punkvae: a beta-VAE that learns the 10,000 CryptoPunks, as a functional JAX/Flax program.

It has six main concepts: Config, Dataset, PunkVAE (the module), TrainState, run directory and Model (a trained model,
independent of the run that produced it). Everything else is a function. Each folder answers the question in its
`__init__.py`.

Train with `python -m flax_punkvae.experiments.train`, then use the trained model:

    model = flax_punkvae.load("runs/sprite")
    sprites = model.sample(8, seed=0)       # uint8 RGB [8, 24, 24, 3]
    mean, logvar = model.encode(sprites)    # float32 [8, d] each
    again = model.decode(mean)              # uint8 RGB [8, 24, 24, 3]
    model.is_new(sprites)                   # bool [8]: whether each is not a training sprite
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

    Checkpoints of older versions hold no description of the model; opening them needs the training images in their
    original place, and `Model.notes` says so.
    """
    # Imported here, because it imports JAX, which programs configure first.
    from flax_punkvae.trained import runs

    return runs.load(where, checkpoint)
