"""The training state, and its creation from a config and images: model, initial parameters, optimiser."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Key, UInt

from flax_punkvae.config import Config, ModelConfig, TrainConfig, batches
from flax_punkvae.data import LazyImages
from flax_punkvae.devices import parallel
from flax_punkvae.errors import UserError
from flax_punkvae.model.palette import Support, listed, log_frequencies
from flax_punkvae.model.vae import PunkVAE
from flax_punkvae.training.augmentation import Augmentation

# The fraction of steps over which the auxiliary loss's weight falls.
_AUXILIARY_FRACTION = 0.8


class TrainState(struct.PyTreeNode):
    """The step number, the parameters and Adam's moments, replicated on every device; each step updates them.

    The other fields are static: the model (with its likelihood), the optimiser, beta, the number of steps over which
    beta ramps up, the auxiliary loss's final weight and the number of steps over which it falls from 1 to that, the
    mesh of devices (None for one device), and the augmentation.
    """

    step: Any
    params: Any
    opt_state: Any
    model: PunkVAE = struct.field(pytree_node=False)
    tx: optax.GradientTransformation = struct.field(pytree_node=False)
    beta: float = struct.field(pytree_node=False)
    beta_warmup: int = struct.field(pytree_node=False)
    auxiliary: float = struct.field(pytree_node=False)
    auxiliary_steps: int = struct.field(pytree_node=False)
    mesh: Mesh | None = struct.field(pytree_node=False)
    augmentation: Augmentation = struct.field(pytree_node=False, default=Augmentation())


def make_module(
    model: ModelConfig, train: TrainConfig, image_shape: tuple[int, int, int], support: Support | None
) -> PunkVAE:
    """The PunkVAE of a config; a categorical likelihood has a support."""
    dtype = {"f32": jnp.float32, "bf16": jnp.bfloat16}[train.precision]
    return PunkVAE(model, image_shape=image_shape, support=support, dtype=dtype)


def make_optimiser(train: TrainConfig, steps: int) -> optax.GradientTransformation:
    """The optimiser of a run of `steps` steps."""
    return _optimiser(train.learning_rate, train.weight_decay, steps if train.schedule == "cosine" else None)


@cache
def _optimiser(peak: float, weight_decay: float, steps: int | None) -> optax.GradientTransformation:
    """Cached, since jit compares it by identity, as a static argument. Without steps, the learning rate is constant."""
    rate: Any = peak
    if steps is not None:
        warmup = max(steps // 20, 1)
        rate = optax.warmup_cosine_decay_schedule(rate / warmup, rate, warmup, max(steps, warmup + 1), 0.01 * rate)
    return optax.adamw(rate, weight_decay=weight_decay) if weight_decay else optax.adam(rate)


@partial(jax.jit, static_argnames="model")
def init(model: PunkVAE, key: Key[Array, ""]) -> Any:
    """Initial parameters."""
    images = model.likelihood.pixels(jnp.zeros((1, *model.image_shape), jnp.uint8))
    # The second key is for noise, which does not affect the parameters.
    return model.init(key, images, key[None], train=False)["params"]


def create_state(
    config: Config,
    key: Key[Array, ""],
    train_images: LazyImages | UInt[np.ndarray, "n h w c"] | None = None,
    colours: int = 0,
    mesh: Mesh | None = None,
) -> TrainState:
    """The state before the first step: parameters drawn from `key`, Adam's moments zero.

    The training images give the image size, the total number of steps and, if they are indices into `colours` colours,
    the colours at each position and the biases of their logits, the log frequencies. Without them, the images are
    128x128x3. Raises UserError if the images cannot be halved as often as the encoder has widths, or are smaller than
    data.shift.
    """
    state = state_shapes(config, train_images, colours, mesh)
    params = init(state.model, key)
    if state.model.support:
        assert train_images is not None
        bias = listed(state.model.support, log_frequencies(np.asarray(train_images), colours))
        # A copy for each: training donates its state, and a buffer can be donated once.
        for part in (params, params["pixels"]) if config.model.pixel_hidden else (params,):
            part["palette"]["bias"] = jnp.array(bias)
    step, params, opt_state = parallel.replicated(mesh, (jnp.zeros((), jnp.int32), params, state.tx.init(params)))
    return state.replace(step=step, params=params, opt_state=opt_state)


def state_shapes(
    config: Config,
    train_images: LazyImages | UInt[np.ndarray, "n h w c"] | None = None,
    colours: int = 0,
    mesh: Mesh | None = None,
) -> TrainState:
    """The state of `create_state` with shapes in place of arrays, as the target for restoring a checkpoint."""
    shape, steps, support = (128, 128, 3), config.train.epochs, None
    if train_images is not None:
        _, *sides = train_images.shape
        shape = (sides[0], sides[1], sides[2])
        steps *= batches(config.train, len(train_images))[0]
    _check_stages(len(config.model.encoder_widths), shape)
    _check_shift(config.data.shift, shape)
    if train_images is not None and colours:
        support = Support.of(np.asarray(train_images), colours, config.data.shift, config.data.flip)
    model = make_module(config.model, config.train, shape, support)
    tx = make_optimiser(config.train, steps)

    def arrays() -> tuple[Array, Any, Any]:
        params = init(model, jax.random.key(0))
        return jnp.zeros((), jnp.int32), params, tx.init(params)

    step, params, opt_state = parallel.placed(mesh, jax.eval_shape(arrays))
    return TrainState(
        step,
        params,
        opt_state,
        model=model,
        tx=tx,
        beta=config.train.beta,
        beta_warmup=round(config.train.beta_warmup * steps),
        auxiliary=config.train.auxiliary,
        auxiliary_steps=max(round(_AUXILIARY_FRACTION * steps), 1),
        mesh=mesh,
        augmentation=Augmentation(config.data.shift, config.data.flip, round(config.data.augment_until * steps)),
    )


def _check_stages(stages: int, shape: tuple[int, int, int]) -> None:
    height, width, _ = shape
    if height % 2**stages or width % 2**stages:
        most = next(count for count in range(stages, -1, -1) if not (height % 2**count or width % 2**count))
        raise UserError(
            f"model.encoder_widths: expected at most {most} for images of {width}x{height}, since each halves them, "
            f"got {stages}: leave some out, also of model.decoder_widths"
        )


def _check_shift(shift: int, shape: tuple[int, int, int]) -> None:
    height, width, _ = shape
    if shift >= min(height, width):
        raise UserError(
            f"data.shift: {shift} pixels move images of {width}x{height} out of sight: choose less than "
            f"{min(height, width)}"
        )
