"""Every shape annotation is checked, promotion is strict, properties have no deadline."""

import atexit
import gc
import os
import tempfile
from collections.abc import Callable
from typing import Any

import hypothesis
import jax
import numpy as np
import optax
import pytest
from jaxtyping import install_import_hook

install_import_hook("flax_punkvae", "beartype.beartype")

# After the hook, which checks what is imported from now on.
from flax_punkvae.config import Config, DataConfig, ModelConfig, TrainConfig  # noqa: E402
from flax_punkvae.measures import features  # noqa: E402
from flax_punkvae.trained import model  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
# Traced functions are many objects that stay: looking through them as often as Python does by default takes time.
gc.set_threshold(100_000, 20, 100)
# Most of the tests' time is compilation, of the programs that they start too: these read the environment.
jax.config.update("jax_disable_most_optimizations", True)
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# Nor is each operation lowered with all the calls that led to it, which under pytest are many.
jax.config.update("jax_traceback_in_locations_limit", 1)
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "1"
if jax.__version__ != "0.5.0":  # which does not know it and would abort
    # Nor are modules split into parts to compile in turn: each part has a price, and the workers keep every core busy.
    _FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}"
# Tests ask for few images at a time, and these sizes are padded to: most of the computing would be of padding. Programs
# that are started have their own.
model._BATCH = features._BATCH = 8
# Programs that the tests start compile the same steps over and over: they share what one of them compiled. So do
# pytest-xdist's workers, which inherit the directory from the process that starts them. They also share small runs that
# several files only read (helpers/pages.py).
if "PYTEST_XDIST_WORKER" not in os.environ:
    _cache, _runs = tempfile.TemporaryDirectory(), tempfile.TemporaryDirectory()
    atexit.register(_cache.cleanup)
    atexit.register(_runs.cleanup)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
    os.environ["SHARED_TEST_RUNS"] = _runs.name
# Not single operations, which take some milliseconds to compile: few are compiled again elsewhere, and writing them
# takes time too.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
# pytest-xdist's workers keep every core busy: threads of small products would only wait for each other in busy loops.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"


def lenient(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under standard promotion."""

    def called(*arguments: Any, **options: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return function(*arguments, **options)

    return called


_schedule = optax.warmup_cosine_decay_schedule
# All that mixes types in the optimiser: both make floats of an integer count. The rest is strict, gradients, moments
# and parameters included.
optax.tree.bias_correction = lenient(optax.tree.bias_correction)
optax.warmup_cosine_decay_schedule = lambda *arguments, **options: lenient(_schedule(*arguments, **options))

hypothesis.settings.register_profile("house", deadline=None, max_examples=20)
hypothesis.settings.load_profile("house")


# Folders whose tests start programs, then all others.
_SLOWEST = ("programs", "page", "training", "trained")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest files first."""
    items.sort(key=lambda item: _SLOWEST.index(name) if (name := item.path.parent.name) in _SLOWEST else len(_SLOWEST))


@pytest.fixture(scope="session")
def small() -> Config:
    """A config whose model trains in milliseconds, on 40 made-up characters: 32 to train on, 8 to test on."""
    return Config(
        data=DataConfig(source="synthetic", synthetic_count=40),
        model=ModelConfig(encoder_widths=(4,), decoder_widths=(), hidden=8, latent=4),
        train=TrainConfig(epochs=2, batch_size=7),
    )


@pytest.fixture(scope="session")
def photos() -> np.ndarray:
    """Twenty random uint8 images, 128x128."""
    return np.random.default_rng(0).integers(0, 256, (20, 128, 128, 3), np.uint8)
