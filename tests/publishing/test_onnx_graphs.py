"""ONNX graphs of models with random parameters, against JAX."""

import dataclasses
import json
import math
import sys
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from flax import traverse_util
from onnx.reference import ReferenceEvaluator

from flax_punkvae.config import ModelConfig, TrainConfig
from flax_punkvae.errors import UserError
from flax_punkvae.model import inference
from flax_punkvae.model.palette import Support
from flax_punkvae.model.pixels import LEAST
from flax_punkvae.publishing import onnx_check, onnx_graphs
from flax_punkvae.trained.model import Model
from flax_punkvae.training.state import init, make_module
from helpers.descriptions import DESCRIPTION

DENSE: dict[str, Any] = {"encoder_widths": (), "decoder_widths": (), "hidden": 12, "latent": 5}
PALETTE: dict[str, Any] = {**DENSE, "likelihood": "categorical", "embedding": 3}
# (config, image size, colours)
CASES = {
    "convolutions": (
        ModelConfig(encoder_widths=(4, 6, 8), decoder_widths=(6, 4), hidden=12, latent=5, residual_blocks=1),
        *((24, 24), 0),
    ),
    "dense": (ModelConfig(**DENSE), (13, 16), 0),
    "independent": (ModelConfig(**PALETTE, prior="autoregressive"), (13, 16), 7),
    "independent after convolutions": (
        ModelConfig(**{**PALETTE, "encoder_widths": (4, 6), "decoder_widths": (4,)}),
        *((24, 24), 7),
    ),
    "many colours": (ModelConfig(**PALETTE), (8, 8), 300),
    "pixel by pixel": (ModelConfig(**PALETTE, pixel_hidden=6, residual_blocks=2), (13, 16), 7),
    "pixel by pixel, learned prior": (
        ModelConfig(**{**PALETTE, "encoder_widths": (4,)}, pixel_hidden=6, prior="autoregressive"),
        *((8, 8), 6),
    ),
    "pixel by pixel, all positions": (
        ModelConfig(**PALETTE, positions="all", pixel_hidden=6, residual_blocks=2),
        *((13, 16), 7),
    ),
    "nothing open": (ModelConfig(**PALETTE, pixel_hidden=6), (2, 3), 5),
}
LEARNED = "pixel by pixel, learned prior"


@cache
def model_of(case: str) -> Model:
    """A model whose parameters are all random, so that no part of it computes 0."""
    config, size, colours = CASES[case]
    random = np.random.default_rng(3)
    support, described = None, {}
    if colours:
        # A band shows one colour, and other positions up to four.
        sprites = random.integers(0, colours, (1 if case == "nothing open" else 4, *size, 1)).astype(np.uint16)
        sprites[:, 2:4] = 3
        support = Support.of(sprites, colours)
        palette = random.integers(0, 256, (colours, 3)).astype(np.uint8)
        described = {"support": support, "palette": palette, "render": "indices"}
    shape = (*size, 1 if colours else 3)
    # Models that were trained in bfloat16 are exported in float32.
    train = TrainConfig(batch_size=2, precision="bf16" if case == "dense" else "f32")
    module = make_module(config, train, shape, support)
    shapes = jax.eval_shape(lambda: init(module, jax.random.key(0)))
    leaves: dict[str, Any] = traverse_util.flatten_dict(shapes, sep=".")
    params = {name: jnp.asarray(values(random, name, leaf.shape), jnp.float32) for name, leaf in leaves.items()}
    if config.pixel_hidden:
        # The weight of the softmax, so that neighbours' copies do not fill a sprite with one colour.
        params["pixels.layers_2.bias"] = params["pixels.layers_2.bias"].at[16].add(3)
    described |= {"model": config, "train": train, "image_shape": shape, "params_sha256": "ab" * 32}
    return Model(dataclasses.replace(DESCRIPTION, **described), traverse_util.unflatten_dict(params, sep="."), "last")


def values(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    lookup = "palette" in name or name.endswith(("colours", "embedding"))
    # Layers whose outputs are about as large as their inputs.
    return random.normal(size=shape) / (1 if lookup or len(shape) == 1 else math.sqrt(math.prod(shape[:-1])))


@cache
def files_of(case: str) -> dict[str, bytes]:
    return onnx_graphs.files(model_of(case))


def run(content: bytes, *inputs: Any) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    found: Any = session.run(None, dict(zip(names, map(np.asarray, inputs), strict=True)))
    return found


def latents(count: int, case: str = LEARNED) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, CASES[case][0].latent)).astype(np.float32)


def uniforms(model: Model, seeds: np.ndarray) -> np.ndarray:
    """The draws that `PunkVAE.decode` makes with these seeds."""
    assert model.module.support
    count = len(model.module.support.open)
    draw = jax.jit(jax.vmap(lambda seed: jax.random.uniform(jax.random.key(seed), (count,))))
    return np.array(draw(seeds))


@pytest.mark.parametrize("case", CASES)
def test_graphs_equal_jax(case: str):
    """Oracle: JAX, on 64 inputs; onnx's own checker."""
    rows = onnx_check.check(model_of(case), files_of(case))
    config, _, colours = CASES[case]
    outputs = ["indices"] if colours else ["image"]
    if config.pixel_hidden:
        outputs = ["indices, most probable", "indices, drawn"]
    learned = ["z"] if config.prior == "autoregressive" else []
    assert [row.output for row in rows] == ["mean", "logvar", *outputs, *learned]
    for row in rows:
        assert row.difference <= (0 if row.output.startswith("indices") else 1e-5)
        assert row.compared > 0.8 * row.total


@pytest.mark.parametrize("case", ["convolutions", LEARNED])
def test_batches_have_any_size(case: str):
    """Oracle: JAX on 64 rows, for which it is compiled already; graphs get one, or five."""
    model, files = model_of(case), files_of(case)
    module, params, z = model.module, model.params, latents(64, case)
    uniform = np.random.default_rng(2).random(z.shape, np.float32)
    pixels = np.random.default_rng(4).integers(0, 5, (64, *model.description.image_shape))
    pixels = pixels.astype(np.int32 if case == LEARNED else np.uint8)
    mean, _ = inference.encode(module, params, pixels)
    images = np.asarray(inference.decode(module, params, z))
    for count in (1, 5):
        given, draws = pixels[:count], []
        if case == LEARNED:
            given, draws = given[..., 0], [np.full((count, open_of(model)), -1, np.float32)]
            found = run(files["prior.onnx"], z[:count], uniform[:count])[0]
            expected = np.asarray(inference.from_prior(module, params, z, uniform))[:count]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(run(files["encoder.onnx"], given)[0], mean[:count], rtol=1e-5, atol=1e-5)
        decoded = run(files["decoder.onnx"], z[:count], *draws)[0]
        np.testing.assert_allclose(decoded.reshape(images[:count].shape), images[:count], atol=1e-5)


def open_of(model: Model) -> int:
    assert model.module.support
    return len(model.module.support.open)


def test_each_number_says_how_its_pixel_is_chosen():
    """Oracle: `inference.decode` with seeds and without, of which each takes every other sprite."""
    model, seeds, z = model_of(LEARNED), np.arange(64, dtype=np.uint32), latents(64)
    uniform = uniforms(model, seeds)
    uniform[::2] = -0.5
    found, _ = run(files_of(LEARNED)["decoder.onnx"], z, uniform)
    drawn, best = (np.asarray(inference.decode(model.module, model.params, z, given)) for given in (seeds, None))
    np.testing.assert_array_equal(found[::2], best[::2, ..., 0])
    np.testing.assert_array_equal(found[1::2], drawn[1::2, ..., 0])
    assert (drawn != best).any(axis=(1, 2, 3)).mean() > 0.9


def probabilities(model: Model, z: np.ndarray, sprites: np.ndarray, last: bool = False) -> np.ndarray:
    """q(colour | z, the pixels before it) [b o p] of sprites [b h w], at all open positions or the last.

    One evaluation for each colour and position, by what training maximises.
    """
    support = model.module.support
    assert support
    numbers = np.arange(len(support.open))[-1 if last else 0 :]
    found = np.zeros((len(z), len(numbers), support.colours), np.float32)

    def log_probabilities(module: Any, images: Any, z: Any) -> Any:
        x = module.features(z)
        if not module.config.pixel_hidden:
            return module.palette.log_probabilities(x, support.at_open(images.transpose(1, 2, 0, 3))[..., 0])
        return module.pixels.log_probabilities(images, x)

    evaluate = jax.jit(
        lambda images, z: inference.apply(model.module, model.params, images, z, method=log_probabilities)
    )
    for place, number in enumerate(numbers):
        images = np.repeat(sprites.reshape(len(z), 1, -1), support.colours, axis=1)
        images[:, :, support.open[number]] = np.arange(support.colours)
        rows = evaluate(images.reshape(-1, *sprites.shape[1:], 1), np.repeat(z, support.colours, axis=0))
        found[:, place] = np.exp(rows[number]).reshape(len(z), -1)
    return found


@pytest.mark.parametrize("case", ["independent", LEARNED])
def test_a_margin_is_a_lead_in_probability(case: str):
    """Oracle: the probability of every colour at every position, from the likelihood that training uses."""
    model, z = model_of(case), latents(3, case)
    support = model.module.support
    assert support
    more = [np.full((3, len(support.open)), -1, np.float32)] if CASES[case][0].pixel_hidden else []
    indices, margin = run(files_of(case)["decoder.onnx"], z, *more)
    each = np.sort(probabilities(model, z, indices), axis=2)
    flat = margin.reshape(3, -1)
    np.testing.assert_allclose(flat[:, support.open], each[..., -1] - each[..., -2], atol=1e-5)
    assert (np.delete(flat, support.open, axis=1) == 1).all() and flat.shape[1] > len(support.open)


def test_a_drawn_margin_is_the_distance_from_another_colour():
    """Oracle: for the cut, the probability of every colour; for the boundaries, draws moved across them.

    At the last position, on which no other depends.
    """
    model, count = model_of(LEARNED), 80
    z, uniform, support = latents(count), uniforms(model, np.arange(count, dtype=np.uint32)), model.module.support
    assert support

    # Nothing lies beyond the last candidate.
    uniform[:8, -1] = 1 - 2**-10

    def decoded(draws: np.ndarray) -> tuple[np.ndarray, ...]:
        sprites, margin = run(files_of(LEARNED)["decoder.onnx"], z, draws)
        return sprites, *(output.reshape(count, -1)[:, support.open[-1]] for output in (sprites, margin))

    sprites, colours, margin = decoded(uniform)
    each = probabilities(model, z, sprites, last=True)[:, 0]
    relative = each / each.max(axis=1, keepdims=True)
    from_cut = np.where((relative > 0) & (relative < 1), np.abs(relative - LEAST), 1).min(axis=1)
    assert (margin > 0).all() and (margin <= from_cut + 1e-5).all()
    changes = []
    for share in (-0.99, 0.99, -1.01, 1.01):
        moved = uniform.copy()
        moved[:, -1] = np.clip(moved[:, -1] + share * margin, 0, 1 - 2**-23)
        changes.append(decoded(moved)[1] != colours)
    assert not (changes[0] | changes[1]).any()
    by_boundary = margin < from_cut - 1e-5
    assert by_boundary.any() and not by_boundary.all()
    np.testing.assert_array_equal((changes[2] | changes[3])[by_boundary], True)


@pytest.mark.parametrize("case", ["convolutions", LEARNED])
def test_the_reference_evaluator_agrees(case: str):
    """Oracle: onnx.reference, which implements the specification in NumPy."""
    files, z = files_of(case), latents(2, case)
    inputs = {"decoder.onnx": [z]}
    if case == LEARNED:
        uniform = np.random.default_rng(2).random(z.shape, np.float32)
        draws = uniforms(model_of(case), np.arange(2, dtype=np.uint32))
        draws[1] = -1
        inputs = {"decoder.onnx": [z, draws], "prior.onnx": [z, uniform]}
    pixels = np.random.default_rng(4).integers(0, 5, (2, *model_of(case).description.image_shape))
    inputs["encoder.onnx"] = [pixels[..., 0].astype(np.int32) if case == LEARNED else pixels.astype(np.uint8)]
    assert inputs.keys() == files.keys()
    for name, given in inputs.items():
        evaluator: Any = ReferenceEvaluator(files[name])
        expected = evaluator.run(None, dict(zip(evaluator.input_names, given, strict=True)))
        for mine, theirs in zip(run(files[name], *given), expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["convolutions", "independent", LEARNED])
def test_a_graph_with_other_weights_is_refused(case: str):
    files = files_of(case)
    for name, content in files.items():
        proto: Any = onnx.load_from_string(content)
        kernel = next(tensor for tensor in proto.graph.initializer if "kernel" in tensor.name)
        array = onnx.numpy_helper.to_array(kernel)
        kernel.CopyFrom(onnx.numpy_helper.from_array(array + np.float32(0.5), kernel.name))
        with pytest.raises(
            UserError, match=f"{name}: the difference of .* from JAX is .*: do not use the file"
        ) as caught:
            onnx_check.check(model_of(case), {name: proto.SerializeToString()})
        assert "\n" not in str(caught.value)


def test_a_graph_without_clear_choices_is_refused():
    """With zero logits, every choice is a tie."""
    proto: Any = onnx.load_from_string(files_of("independent")["decoder.onnx"])
    for tensor in proto.graph.initializer:
        if tensor.name.startswith("palette."):
            array = np.zeros_like(onnx.numpy_helper.to_array(tensor))
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    with pytest.raises(UserError, match=r"only \d+ of \d+ values of indices can be compared .*: train the model"):
        onnx_check.check(model_of("independent"), {"decoder.onnx": proto.SerializeToString()})


def test_files_are_the_same_each_time():
    assert onnx_graphs.files(model_of(LEARNED)) == files_of(LEARNED)


def test_what_is_no_graph_is_refused():
    content = files_of("dense")["decoder.onnx"]
    proto: Any = onnx.load_from_string(content)
    proto.graph.node[0].op_type = "Unknown"
    for broken in (b"", content[:-9], proto.SerializeToString()):
        with pytest.raises(UserError, match=r"decoder\.onnx does not run .*: export it again") as caught:
            onnx_check.check(model_of("dense"), {"decoder.onnx": broken})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_one_line(package: str, monkeypatch: pytest.MonkeyPatch):
    files = files_of("dense")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs {package}: pip install '\.\[onnx\]'"):
        onnx_check.check(model_of("dense"), files)
    if package == "onnx":
        with pytest.raises(UserError, match=rf"needs {package}: pip install '\.\[onnx\]'"):
            onnx_graphs.files(model_of("dense"))


@pytest.mark.parametrize("case", ["dense", LEARNED])
def test_files_say_what_they_are(case: str):
    model, (_, size, _) = model_of(case), CASES[case]
    signatures = {}
    for name, content in files_of(case).items():
        proto: Any = onnx.load_from_string(content)
        facts = {entry.key: entry.value for entry in proto.metadata_props}
        assert facts["kind"] == "flax_punkvae" and facts["params_sha256"] == "ab" * 32
        assert facts["graph"] == name.removesuffix(".onnx") and facts["jax"] == jax.__version__
        assert json.loads(facts["image_size"]) == list(size) and facts["render"] == model.description.render
        (opset,) = proto.opset_import
        assert opset.version == int(facts["opset"]) == 17
        if case == LEARNED:
            palette = [tuple(bytes.fromhex(colour[1:])) for colour in json.loads(facts["palette"])]
            assert model.index_palette is not None and palette == [tuple(c) for c in model.index_palette.tolist()]
            assert json.loads(facts["sprite_size"]) == list(size)
        else:
            assert "palette" not in facts
        ends = [*proto.graph.input, *proto.graph.output]
        assert proto.doc_string and proto.graph.doc_string and all(end.doc_string for end in ends)
        assert {end.type.tensor_type.shape.dim[0].dim_param for end in ends} == {"batch"}
        assert not any(attribute.name == "auto_pad" for node in proto.graph.node for attribute in node.attribute)
        signatures[facts["graph"]] = " ".join(end.name for end in ends)
    if case == "dense":
        assert signatures == {"encoder": "image mean logvar", "decoder": "z image"}
    else:
        decoder = "z uniform indices margin"
        assert signatures == {"encoder": "indices mean logvar", "decoder": decoder, "prior": "noise uniform z"}
