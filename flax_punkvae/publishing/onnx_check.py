"""Compare ONNX graphs with the model in JAX, on random inputs."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flax_punkvae.devices import backend
from flax_punkvae.errors import UserError
from flax_punkvae.model import inference
from flax_punkvae.model.palette import Support
from flax_punkvae.model.vae import PunkVAE
from flax_punkvae.publishing.onnx_builder import import_onnx
from flax_punkvae.publishing.onnx_graphs import DECODER, ENCODER, PRIOR
from flax_punkvae.trained.model import Model

# The largest difference allowed, relative to the largest value or 1. On a CPU, that of the trained reference and sprite
# models was at most 5e-7, from sums in another order; the rest is for other models and for JAX on GPUs.
BOUND = 1e-4
# Choices with a smaller margin may differ by rounding, so they are not compared. Leads in probability of the sprite
# model differed by at most 3e-7.
_CLEAR = 1e-4
# A graph that is wrong may have no clear choice at all.
_LEAST_COMPARED = 0.1
_COUNT = 64
# Inputs per call: the last call has fewer, so that batches of two sizes are run.
_BATCH = 24


class Agreement(NamedTuple):
    """How far an output of a graph is from JAX's.

    difference: the largest absolute difference; for indices, the largest fraction of an image's pixels that differ.
    compared: how many of the `total` values were compared. The others are a choice that rounding may change, of a
    colour or of a component of the prior's mixtures, or come after one, where each choice depends on those before it.
    """

    file: str
    output: str
    difference: float
    compared: int
    total: int


def check(model: Model, files: dict[str, bytes]) -> list[Agreement]:
    """Run each graph of `onnx_graphs.files` on 64 random inputs, with onnxruntime on the CPU, and compare with JAX.

    A model trained in bfloat16 is compared in float32, as the graphs compute. Raises UserError if a graph is invalid,
    an output differs by more than `BOUND`, an index differs at all, or hardly any can be compared, or if onnx or
    onnxruntime is not installed.
    """
    precision = backend.matmul_precision(jax.default_backend())
    module = model.module.clone(dtype=jnp.float32)
    checks = {ENCODER: _encoder, DECODER: _decoder, PRIOR: _prior}
    found = []
    with jax.default_matmul_precision(precision) if precision else contextlib.nullcontext():
        for file, content in files.items():
            rows = checks[file](_runner(file, content), module, model.params)
            for output, (difference, bound, compared, total) in rows:
                # Written so that NaN is refused.
                if not difference <= bound:
                    raise UserError(
                        f"{file}: the difference of {output} from JAX is {difference:.2g}, above {bound:.2g}: do not "
                        "use the file; update onnxruntime and jax, then export again"
                    )
                if compared < _LEAST_COMPARED * total:
                    raise UserError(
                        f"{file}: only {compared} of {total} values of {output} can be compared with JAX, since the "
                        "others are close to ties: train the model for longer, then export again"
                    )
                found.append(Agreement(file, output, difference, compared, total))
    return found


# (difference, bound, values compared, values in all) of an output.
_Row = tuple[str, tuple[float, float, int, int]]
_Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


def _encoder(run: _Run, module: PunkVAE, params: Any) -> Iterator[_Row]:
    random, (height, width, channels) = np.random.RandomState(0), module.image_shape
    if module.support:
        indices = random.randint(0, module.support.colours, (_COUNT, height, width)).astype(np.int32)
        inputs, pixels = {"indices": indices}, indices[..., None]
    else:
        pixels = random.randint(0, 256, (_COUNT, height, width, channels)).astype(np.uint8)
        inputs = {"image": pixels}
    expected = inference.encode(module, params, pixels)
    for output, ours, theirs in zip(("mean", "logvar"), run(inputs), expected, strict=True):
        yield output, _compared(ours, np.asarray(theirs))


def _decoder(run: _Run, module: PunkVAE, params: Any) -> Iterator[_Row]:
    # Latents as they are decoded in use, also where the prior is learned.
    z = np.asarray(inference.from_prior(module, params, *_draws(module)))
    support = module.support
    if not support:
        (ours,) = run({"z": z})
        yield "image", _compared(ours, np.asarray(inference.decode(module, params, z)))
        return
    if not module.config.pixel_hidden:
        yield "indices", _chosen(run({"z": z}), inference.decode(module, params, z), support, False)
        return
    count, seeds = len(support.open), np.arange(_COUNT, dtype=np.uint32)
    uniform = jax.vmap(lambda seed: jax.random.uniform(jax.random.key(seed), (count,)))(seeds)
    for output, draws, given in (
        ("indices, most probable", np.full((_COUNT, count), -1, np.float32), None),
        ("indices, drawn", np.asarray(uniform), seeds),
    ):
        ours = run({"z": z, "uniform": draws})
        yield output, _chosen(ours, inference.decode(module, params, z, given), support, True)


def _prior(run: _Run, module: PunkVAE, params: Any) -> Iterator[_Row]:
    noise, uniform = _draws(module)
    (ours,) = run({"noise": noise, "uniform": uniform})
    sampled = inference.from_prior(module, params, noise, uniform)
    log_weights, _, _ = inference.apply(
        module, params, sampled, method=lambda module, z: module.learned_prior.mixtures(z)
    )
    # Between two components lies a boundary, but not after the last.
    ends = np.exp(np.asarray(log_weights)).cumsum(axis=-1)[..., :-1]
    clear = np.abs(ends - uniform[..., None]).min(axis=-1) > _CLEAR
    yield "z", _compared(ours, np.asarray(sampled), np.logical_and.accumulate(clear, axis=1))


def _draws(module: PunkVAE) -> tuple[np.ndarray, np.ndarray]:
    """(noise, uniform), the prior's inputs."""
    random, shape = np.random.RandomState(0), (_COUNT, module.config.latent)
    return random.standard_normal(shape).astype(np.float32), random.random_sample(shape).astype(np.float32)


def _compared(ours: np.ndarray, theirs: np.ndarray, clear: np.ndarray | None = None) -> tuple[float, float, int, int]:
    where = np.ones(theirs.shape, bool) if clear is None else clear
    # `max` of Python would ignore NaN.
    difference = float(np.max(np.abs(ours - theirs), where=where, initial=0))
    return difference, BOUND * max(1, float(np.abs(theirs).max())), int(where.sum()), where.size


def _chosen(outputs: list[np.ndarray], theirs: Any, support: Support, in_order: bool) -> tuple[float, float, int, int]:
    """Of indices [b h w], what has a clear margin; of those chosen `in_order`, what comes before the first other.

    Counts open positions only, since at the others there is nothing to choose.
    """
    indices, margin = (output.reshape(_COUNT, -1) for output in outputs)
    clear = margin > _CLEAR
    if in_order:
        clear = np.logical_and.accumulate(clear, axis=1)
    differ = (indices != np.asarray(theirs).reshape(_COUNT, -1)) & clear
    at_open = clear[:, support.open]
    return float(differ.mean(axis=1).max()), 0.0, int(at_open.sum()), at_open.size


def _runner(file: str, content: bytes) -> _Run:
    """A function that runs the graph on inputs by name, and returns its outputs in order."""
    onnx = import_onnx()
    try:
        # Imported here: it is an optional dependency.
        import onnxruntime
    except ImportError as error:
        raise UserError(f"checking a graph needs {error.name}: pip install '.[onnx]'") from error
    with _explained(file):
        onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        batches = [slice(start, start + _BATCH) for start in range(0, _COUNT, _BATCH)]
        with _explained(file):
            found: Any = [session.run(None, {name: rows[batch] for name, rows in inputs.items()}) for batch in batches]
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    return run


@contextlib.contextmanager
def _explained(file: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # protobuf, onnx and onnxruntime each have exceptions of their own, some of no common class.
        what = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{file} does not run ({what}): export it again") from error
