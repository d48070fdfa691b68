"""A model as StableHLO, by `jax.export`: programs that jax runs without this package, Flax or the model's config.

They are a convenience for a while, not an archive: StableHLO can be read by later versions of jax for six months and by
earlier ones for three weeks (https://docs.jax.dev/en/latest/export/export.html).
"""

import datetime
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export

from flax_punkvae.errors import UserError
from flax_punkvae.model import inference
from flax_punkvae.trained.model import Model

FACTS = "stablehlo.json"
PLATFORMS = ("cpu", "cuda", "tpu")
# Differences above this, relative to the largest value or 1, are refused. Both sides run the same operations, but they
# may be compiled in another order.
BOUND = 1e-4
_COUNT = 5
# The parts of the parameters that encoding and sampling from the prior need; decoding needs the others.
_ENCODER, _PRIOR = "encoder", "learned_prior"


class _Program(NamedTuple):
    """A function of rows, and random arguments to check it with: its name, what it gives, the arguments by name."""

    name: str
    gives: str
    function: Callable[..., Any]
    arguments: dict[str, np.ndarray]


class Agreement(NamedTuple):
    """How far a program is from JAX: the largest absolute difference or, for indices, the fraction that differ."""

    file: str
    difference: float


def files(model: Model) -> dict[str, bytes]:
    """The programs by file name, and stablehlo.json, which says what they take and give. The batch size is free.

    encoder: images to (mean, logvar); decoder: latents to images in [0, 1] or indices of the palette; drawing, for an
    autoregressive decoder: latents and seeds (uint32) to indices; prior, if it is learned: noise to latents. Raises
    UserError if flatbuffers is not installed.
    """
    (batch,) = export.symbolic_shape("b")
    content, programs = {}, []
    for program in _programs(model):
        shapes = [jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype) for x in program.arguments.values()]
        # Whichever platform runs it: full float32, not TF32.
        with jax.default_matmul_precision("highest"):
            exported = export.export(jax.jit(jax.vmap(program.function)), platforms=PLATFORMS)(*shapes)
        file = f"{program.name}.stablehlo"
        try:
            content[file] = bytes(exported.serialize())
        except ImportError as error:
            raise UserError(f"--format stablehlo needs {error.name}: pip install '.[stablehlo]'") from error
        takes = {name: f"{x.dtype} {['b', *x.shape[1:]]}" for name, x in program.arguments.items()}
        programs.append({"file": file, "takes": takes, "gives": program.gives})
    described = model.description
    facts = {
        "kind": "flax_punkvae",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "jax": jax.__version__,
        "platforms": PLATFORMS,
        "load": "jax.export.deserialize(bytearray(open(FILE, 'rb').read())).call(*arguments)",
        "programs": programs,
        "render": described.render,
        "image_shape": described.image_shape,
        "palette": None if model.index_palette is None else [f"#{bytes(x).hex()}" for x in model.index_palette],
        "params_sha256": described.params_sha256,
    }
    return {**content, FACTS: (json.dumps(facts, indent=2) + "\n").encode()}


def check(model: Model, content: dict[str, bytes]) -> list[Agreement]:
    """Read the programs back, run them on 5 random rows and compare them with the model.

    Raises UserError if a difference is above BOUND or, for indices, more than one in a thousand differs, which rounding
    of ties explains.
    """
    found = []
    for program in _programs(model):
        file = f"{program.name}.stablehlo"
        expected = jax.vmap(program.function)(*program.arguments.values())
        given = export.deserialize(bytearray(content[file])).call(*program.arguments.values())
        for ours, theirs in zip(jax.tree.leaves(given), map(np.asarray, jax.tree.leaves(expected)), strict=True):
            whole = np.issubdtype(theirs.dtype, np.integer)
            difference = float(np.mean(ours != theirs) if whole else np.abs(np.asarray(ours) - theirs).max())
            bound = 1e-3 if whole else BOUND * max(1.0, float(np.abs(theirs).max()))
            # Written so that NaN is refused.
            if not difference <= bound:
                raise UserError(f"{file} differs from the model by {difference:.2g}: do not use it; update jax")
            found.append(Agreement(file, difference))
    return found


def _programs(model: Model) -> list[_Program]:
    """The functions of one row each: mapped, they need no batch size."""
    module, params, described = model.module, model.params, model.description
    random, width = np.random.RandomState(0), described.model.latent
    decoding = {name: part for name, part in params.items() if name not in (_ENCODER, _PRIOR)}
    z = random.standard_normal((_COUNT, width)).astype(np.float32)

    def first(rows: Any) -> Any:
        return jax.tree.map(lambda row: row[0], rows)

    def encode(image: Any) -> Any:
        return first(inference.encode(module, {_ENCODER: params[_ENCODER]}, image[None]))

    def decode(z: Any) -> Any:
        return first(inference.decode(module, decoding, z[None]))

    def draw(z: Any, seed: Any) -> Any:
        return first(inference.decode(module, decoding, z[None], seed[None]))

    def sample(noise: Any, uniform: Any) -> Any:
        return first(inference.from_prior(module, {_PRIOR: params[_PRIOR]}, noise[None], uniform[None]))

    colours = 256 if described.support is None else described.support.colours
    kind = np.uint8 if colours <= 256 else np.int32
    image = random.randint(0, colours, (_COUNT, *described.image_shape)).astype(kind)
    picture = "image, float32 in [0, 1]" if described.support is None else "indices of the palette"
    programs = [
        _Program("encoder", "mean and logvar of the latents", encode, {"image": image}),
        _Program("decoder", picture, decode, {"z": z}),
    ]
    if described.model.pixel_hidden:
        seeds = np.arange(_COUNT, dtype=np.uint32)
        programs.append(_Program("drawing", "indices, drawn from their distributions", draw, {"z": z, "seed": seeds}))
    if not module.prior.is_standard:
        uniform = random.random_sample((_COUNT, width)).astype(np.float32)
        programs.append(_Program("prior", "latents", sample, {"noise": z, "uniform": uniform}))
    return programs
