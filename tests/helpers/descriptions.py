"""A description of a model, for tests of what is saved beside it."""

import numpy as np

from flax_punkvae.config import ModelConfig, TrainConfig
from flax_punkvae.training.description import Description

# What it says does not matter where checkpoints are only saved and chosen.
DESCRIPTION = Description(
    model=ModelConfig(),
    train=TrainConfig(batch_size=2),
    seed=0,
    image_shape=(128, 128, 3),
    render="reference",
    background="#638596",
    palette=np.array([[0, 0, 0], [255, 255, 255]], np.uint8),
    support=None,
    label_names=("pipe",),
    source="made up",
    images_sha256="0" * 64,
    train_indices=np.arange(4),
    train_digests=np.zeros((4, 32), np.uint8),
)
