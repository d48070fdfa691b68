"""PunkVAE: the reference's shapes, its geometry against float64 NumPy, initialisation, noise."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from flax_punkvae.config import Config, ModelConfig
from flax_punkvae.model.palette import Support
from flax_punkvae.model.vae import PunkVAE
from flax_punkvae.training import state as train_state
from helpers.convolutions import convolution, transposed_convolution

SMALL = PunkVAE(ModelConfig(encoder_widths=(4, 8), decoder_widths=(6,), hidden=16, latent=5), image_shape=(16, 16, 3))

# The reference, layer for layer: kernel shapes, and the fan-in that bounds the initial kernel and bias.
REFERENCE = {
    ("encoder", "conv_0"): ((3, 3, 3, 32), 27),
    ("encoder", "conv_1"): ((3, 3, 32, 64), 288),
    ("encoder", "conv_2"): ((3, 3, 64, 128), 576),
    ("encoder", "conv_3"): ((3, 3, 128, 256), 1152),
    ("encoder", "dense"): ((16384, 512), 16384),
    ("encoder", "mean"): ((512, 256), 512),
    ("encoder", "logvar"): ((512, 256), 512),
    ("decoder", "dense_0"): ((256, 512), 256),
    ("decoder", "dense_1"): ((512, 16384), 512),
    ("decoder", "conv_transpose_0"): ((3, 3, 256, 128), 9 * 128),
    ("decoder", "conv_transpose_1"): ((3, 3, 128, 64), 9 * 64),
    ("decoder", "conv_transpose_2"): ((3, 3, 64, 32), 9 * 32),
    ("decoder", "conv_transpose_3"): ((3, 3, 32, 3), 9 * 3),
}


def keys(seed: int, count: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


# One for all tests, so that each method is compiled once for each shape.
apply: Any = jax.jit(SMALL.apply, static_argnames=("method", "train"))


@pytest.fixture(scope="module")
def small_variables() -> Any:
    images = jnp.zeros((1, 16, 16, 3))
    return jax.jit(lambda key: SMALL.init(key, images, keys(1, 1), train=False))(jax.random.key(0))


def test_no_arguments_give_the_reference():
    variables: Any = jax.eval_shape(
        lambda: PunkVAE(ModelConfig()).init(jax.random.key(0), jnp.zeros((1, 128, 128, 3)), keys(1, 1), train=False)
    )
    shapes = variables["params"]
    found = {(part, layer): leaf["kernel"].shape for part, layers in shapes.items() for layer, leaf in layers.items()}
    assert found == {name: shape for name, (shape, _) in REFERENCE.items()}
    biases = {(part, layer): leaf["bias"].shape for part, layers in shapes.items() for layer, leaf in layers.items()}
    assert biases == {name: shape[-1:] for name, (shape, _) in REFERENCE.items()}


def test_initialisation_is_uniform_in_the_references_bounds():
    params = train_state.create_state(Config(), jax.random.key(0)).params
    for (part, layer), (_, fan_in) in REFERENCE.items():
        for name in ("kernel", "bias"):
            values = np.asarray(params[part][layer][name], np.float64) * np.sqrt(fan_in)
            assert np.all(np.abs(values) <= 1 + 1e-6), (part, layer, name)
            # A uniform on [-1, 1] has variance 1/3 and fourth moment 1/5.
            error = np.sqrt((1 / 5 - 1 / 9) / values.size)
            assert abs(np.mean(values**2) - 1 / 3) < 5 * error, (part, layer, name)


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def test_encode_and_decode_equal_float64_numpy(small_variables):
    images = np.random.default_rng(0).random((2, 16, 16, 3))
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), small_variables["params"])
    encoder, decoder = params["encoder"], params["decoder"]
    x = images
    for index in range(2):
        # In the reference's order: ReLU, then pool.
        x = relu(convolution(x, encoder[f"conv_{index}"]["kernel"]) + encoder[f"conv_{index}"]["bias"])
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
    x = relu(x.reshape(2, -1) @ encoder["dense"]["kernel"] + encoder["dense"]["bias"])
    mean, logvar = (x @ encoder[head]["kernel"] + encoder[head]["bias"] for head in ("mean", "logvar"))
    ours = apply(small_variables, images.astype(np.float32), method="encode")
    np.testing.assert_allclose(ours[0], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours[1], logvar, rtol=1e-4, atol=1e-5)

    x = relu(mean @ decoder["dense_0"]["kernel"] + decoder["dense_0"]["bias"])
    x = relu(x @ decoder["dense_1"]["kernel"] + decoder["dense_1"]["bias"]).reshape(2, 4, 4, 8)
    first, last = decoder["conv_transpose_0"], decoder["conv_transpose_1"]
    x = relu(transposed_convolution(x, first["kernel"]) + first["bias"])
    logits = transposed_convolution(x, last["kernel"]) + last["bias"]
    decoded = apply(small_variables, mean.astype(np.float32), method="decode")
    assert decoded.shape == (2, 16, 16, 3)
    np.testing.assert_allclose(decoded, 1 / (1 + np.exp(-logits)), rtol=1e-4, atol=1e-5)


def test_z_is_mean_plus_sigma_times_normal_noise(small_variables):
    """Moments of the z that reaches the decoder, over many copies of one image."""
    copies = 4_000
    image = np.random.default_rng(1).random((1, 16, 16, 3)).astype(np.float32)

    @jax.jit
    def drawn(image: jax.Array, keys: jax.Array) -> list[jax.Array]:
        seen = []

        def record(method, args, kwargs, context):
            if context.method_name == "distortions":
                seen.append(args[1])
            return method(*args, **kwargs)

        with nn.intercept_methods(record):
            SMALL.apply(small_variables, jnp.repeat(image, copies, axis=0), keys, train=False)
        return seen

    mean, logvar = apply(small_variables, image, method="encode")
    (z,) = (np.asarray(z, np.float64) for z in drawn(image, keys(2, copies)))
    sigma = np.exp(np.asarray(logvar[0], np.float64) / 2)
    assert np.all(np.abs(z.mean(0) - np.asarray(mean[0])) < 5 * sigma / np.sqrt(copies))
    assert np.all(np.abs(z.var(0) / sigma**2 - 1) < 5 * np.sqrt(2 / copies))


def test_noise_is_an_explicit_choice(small_variables):
    images = np.random.default_rng(3).random((2, 16, 16, 3)).astype(np.float32)

    def means(seed: int, train: bool):
        return apply(small_variables, images, keys(seed, 2), train=train)[2]

    # Without training no dropout: the posterior does not depend on the key. With it, it does, and on the key alone.
    np.testing.assert_array_equal(means(0, False), means(1, False))
    assert np.any(np.asarray(means(0, True)) != np.asarray(means(1, True)))
    np.testing.assert_array_equal(means(0, True), means(0, True))


def test_bf16_computes_nearly_the_same_with_f32_parameters_and_outputs(small_variables):
    images = np.random.default_rng(4).random((2, 16, 16, 3)).astype(np.float32)
    coarse: Any = jax.jit(SMALL.clone(dtype=jnp.bfloat16).apply, static_argnames="method")
    z = np.random.default_rng(5).standard_normal((2, 5)).astype(np.float32)
    for method, inputs in (("encode", images), ("decode", z)):
        pairs = zip(
            jax.tree.leaves(coarse(small_variables, inputs, method=method)),
            jax.tree.leaves(apply(small_variables, inputs, method=method)),
            strict=True,
        )
        for ours, theirs in pairs:
            assert ours.dtype == jnp.float32
            assert np.any(np.asarray(ours) != np.asarray(theirs))
            np.testing.assert_allclose(ours, theirs, atol=0.03)


def with_zeros(values: Any, places: np.ndarray, axis: int, size: int) -> np.ndarray:
    """`values` at these places along an axis of this size, and zeros elsewhere."""
    found = np.zeros((*values.shape[:axis], size, *values.shape[axis + 1 :]), np.float32)
    np.moveaxis(found, axis, 0)[places] = np.moveaxis(np.asarray(values), axis, 0)
    return found


def test_dense_layers_see_the_open_positions_only():
    """Oracle: a model whose dense layers see all positions, with weights of 0 at the closed ones."""
    sprites = np.random.default_rng(0).integers(0, 4, (6, 3, 5, 1), np.uint8)
    sprites[0], sprites[1], sprites[:, 1, 1:4] = 0, 1, 2
    support, images = Support.of(sprites, 4), jnp.array(sprites)
    config = ModelConfig("categorical", 3, (), (), 6, "all", pixel_hidden=4, latent=2)
    ours, theirs = (PunkVAE(replace(config, positions=seen), (3, 5, 1), support) for seen in ("open", "all"))
    params = jax.jit(lambda: ours.init(jax.random.key(0), images, keys(0, 6), train=False)["params"])()
    flat: dict[str, Any] = traverse_util.flatten_dict(params, sep=".")
    places = (3 * support.open[:, None] + np.arange(3)).ravel()
    assert len(support.open) == 12 and flat["encoder.dense.kernel"].shape == (36, 6)
    for name, axis in (("encoder.dense.kernel", 0), ("decoder.dense_1.kernel", 1), ("decoder.dense_1.bias", 0)):
        flat[name] = with_zeros(flat[name], places, axis, 45)
    all_params = traverse_util.unflatten_dict(flat, sep=".")
    z = np.random.default_rng(1).standard_normal((6, 2)).astype(np.float32)
    for method, given in (("encode", (images,)), ("distortions", (images, z)), ("decode", (z, keys(2, 6)))):
        found = jax.jit(partial(ours.apply, method=method))({"params": params}, *given)
        expected = jax.jit(partial(theirs.apply, method=method))({"params": all_params}, *given)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), found, expected)


def test_extreme_images_stay_finite(small_variables):
    for value in (0.0, 1.0):
        images = np.full((2, 16, 16, 3), value, np.float32)
        assert all(np.all(np.isfinite(part)) for part in apply(small_variables, images, keys(0, 2), train=True))
        out = apply(small_variables, apply(small_variables, images, method="encode")[0], method="decode")
        assert np.all((np.asarray(out) >= 0) & (np.asarray(out) <= 1))
