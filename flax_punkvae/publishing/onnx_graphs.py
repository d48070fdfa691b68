"""A trained model as ONNX graphs, which run without Python and JAX: in a browser, a game engine or on a phone.

Three files: the encoder, the decoder and, where it is learned, the prior. They compute in float32, whatever precision
the model was trained in, without dropout, and take batches of any size. `onnx_check` compares them with JAX.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from flax_punkvae.model import inference
from flax_punkvae.publishing import onnx_draws
from flax_punkvae.publishing.onnx_builder import BATCH, OPSET, Graph, Kind, import_onnx, integers
from flax_punkvae.trained.model import Model

ENCODER, DECODER, PRIOR = "encoder.onnx", "decoder.onnx", "prior.onnx"
_F32 = np.float32

Params = Mapping[str, np.ndarray]


def files(model: Model) -> dict[str, bytes]:
    """The content of each file by name: the encoder, the decoder and, if it is learned, the prior.

    Encoder: `image` uint8 [batch, h, w, 3] or, for a palette model, `indices` int32 [batch, h, w], to `mean` and
    `logvar` [batch, d]. Decoder: `z` [batch, d] to `image` [batch, h, w, 3] in [0, 1] or, for a palette model, to
    `indices` int32 and `margin` [batch, h, w]; if it is autoregressive, it also takes `uniform` [batch, o], one number
    per open position. Prior: `noise` and `uniform` [batch, d] to `z` [batch, d]. Floats are float32. Each file's
    documentation says more, and its metadata what it is.

    Raises UserError if onnx is not installed, or a file would exceed 2 GB.
    """
    import_onnx()
    params: Any = traverse_util.flatten_dict(jax.tree.map(np.asarray, model.params), sep=".")
    found = {ENCODER: _encoder(model, params), DECODER: _decoder(model, params)}
    if not model.module.prior.is_standard:
        found[PRIOR] = _prior(model)
    return found


def _encoder(model: Model, params: Params) -> bytes:
    height, width, channels = model.description.image_shape
    graph, stages = Graph(), len(model.description.model.encoder_widths)
    if model.module.support:
        inputs = {"indices": Kind(np.int32, (BATCH, height, width), _INDICES)}
        x, channels = "indices", model.description.model.embedding
        if dense := model.module.dense_support:
            x = graph.add("Reshape", x, integers(-1, height * width))
            x = graph.add("Gather", x, dense.open.astype(np.int64), axis=1)
            height, width = len(dense.open), 1
        x = graph.add("Gather", graph.constant("encoder.colours", params["encoder.colours"]), x)
    else:
        inputs = {"image": Kind(np.uint8, (BATCH, height, width, channels), "RGB, 0..255")}
        x = graph.add("Div", graph.cast("image", _F32), _F32(255))
    if stages:
        x = graph.add("Transpose", x, perm=[0, 3, 1, 2])
        for index in range(stages):
            x = _convolution(graph, x, params, f"encoder.conv_{index}")
        x = graph.add("Transpose", x, perm=[0, 2, 3, 1])
        height, width, channels = height >> stages, width >> stages, model.description.model.encoder_widths[-1]
    x = graph.add("Reshape", x, integers(-1, height * width * channels))
    x = graph.add("Relu", _dense(graph, x, params, "encoder.dense"))
    x = _residual_blocks(graph, x, params, "encoder", model.description.model.residual_blocks)
    outputs = {
        name: (_dense(graph, x, params, f"encoder.{name}"), Kind(_F32, (BATCH, model.description.model.latent), doc))
        for name, doc in (
            ("mean", "The mean of each latent; decode this to reconstruct the image"),
            ("logvar", "The logarithm of the variance of each latent"),
        )
    }
    doc = "Encodes images as the Gaussian posterior of their latents, q(z | image) = N(mean, exp(logvar))."
    return graph.model("encoder", doc, inputs, outputs, _metadata(model, "encoder"))


def _decoder(model: Model, params: Params) -> bytes:
    module, (height, width, channels) = model.module, model.description.image_shape
    graph, support = Graph(), module.support
    inputs = {"z": Kind(_F32, (BATCH, model.description.model.latent), "Latents")}
    if not support:
        image = _decoded(graph, model, params, channels)
        kind = Kind(_F32, (BATCH, height, width, channels), "RGB, 0..1")
        doc = "Decodes latents to images, the means of p(image | z)."
        return graph.model("decoder", doc, inputs, {"image": (image, kind)}, _metadata(model, "decoder"))
    features = model.description.model.embedding
    x = _decoded(graph, model, params, features)
    if module.dense_support:
        x = graph.add("Transpose", x, perm=[1, 0, 2])
    else:
        x = onnx_draws.at_open(graph, x, support, features)
    if model.description.model.pixel_hidden:
        inputs["uniform"] = Kind(_F32, (BATCH, len(support.open)), _UNIFORM)
        colours, margins = onnx_draws.decode_pixels(graph, x, "uniform", support, params)
        doc, lead = "Decodes latents to images of palette indices, pixel by pixel.", f"{_LEAD}. {_CLEARANCE}"
    else:
        colours, margins = onnx_draws.most_probable(graph, x, support, params)
        doc, lead = "Decodes latents to images of palette indices, each the most probable at its pixel.", _LEAD
    shape, only = (BATCH, height, width), support.lists[..., 0].astype(np.int32)
    outputs = {
        "indices": (onnx_draws.sprite(graph, colours, support, only), Kind(np.int32, shape, _INDICES)),
        "margin": (onnx_draws.sprite(graph, margins, support, np.ones_like(only, _F32)), Kind(_F32, shape, lead)),
    }
    return graph.model("decoder", doc, inputs, outputs, _metadata(model, "decoder"))


def _prior(model: Model) -> bytes:
    module, graph = model.module, Graph()
    layers, components = inference.apply(
        module, model.params, method=lambda module: (module.learned_prior.layers(), module.learned_prior.components)
    )
    arrays = [(np.asarray(kernel), np.asarray(bias)) for kernel, bias in layers]
    shape = (BATCH, model.description.model.latent)
    inputs = {
        "noise": Kind(_F32, shape, "Draws from N(0, 1), times the temperature"),
        "uniform": Kind(_F32, shape, "Draws from the uniform distribution on [0, 1)"),
    }
    z = onnx_draws.sample_prior(graph, "noise", "uniform", arrays, components)
    outputs = {"z": (z, Kind(_F32, shape, "Latents, to be decoded"))}
    doc = "Samples latents from the learned prior p(z), one by one, each given those before it."
    return graph.model("prior", doc, inputs, outputs, _metadata(model, "prior"))


_INDICES = "Rows of the palette, which the metadata holds"
_UNIFORM = (
    "One number per position that showed several colours in training, row by row: from 0 to below 1 to draw the colour "
    "with it, below 0 for the most probable colour"
)
_LEAD = "How far the most probable colour's probability is above that of the next colour; 1 where only one is possible"
_CLEARANCE = (
    "For a drawn colour, the least change, of the draw or of a probability relative to the largest, that might give "
    "another one"
)


def _metadata(model: Model, graph: str) -> dict[str, str]:
    """What the file is, as text or JSON."""
    described = model.description
    facts = {
        "kind": "flax_punkvae",
        "graph": graph,
        "params_sha256": described.params_sha256,
        "render": described.render,
        # [height, width] in pixels; null if the images are not of sprites.
        "image_size": json.dumps(described.image_shape[:2]),
        "sprite_size": json.dumps(described.sprite_size),
        "jax": jax.__version__,
        "opset": str(OPSET),
    }
    if (palette := model.index_palette) is not None:
        facts["palette"] = json.dumps([f"#{bytes(colour).hex()}" for colour in palette])
    return facts


def _decoded(graph: Graph, model: Model, params: Params, channels: int) -> str:
    """The output of `networks.Decoder` for "z", [b h w c], or [b o c] if it decodes the open positions only."""
    config, (height, width, _) = model.description.model, model.description.image_shape
    stages = len(config.encoder_widths)
    start = (height >> stages, width >> stages, config.encoder_widths[-1] if stages else channels)
    x = graph.add("Relu", _dense(graph, "z", params, "decoder.dense_0"))
    x = _residual_blocks(graph, x, params, "decoder", config.residual_blocks)
    x = _dense(graph, x, params, "decoder.dense_1")
    if dense := model.module.dense_support:
        return graph.add("Reshape", x, integers(-1, len(dense.open), channels))
    if not stages:
        x = graph.add("Reshape", x, integers(-1, *start))
        return graph.add("Sigmoid", x) if model.module.likelihood.squashed else x
    x = graph.add("Transpose", graph.add("Reshape", x, integers(-1, *start)), perm=[0, 3, 1, 2])
    for index in range(stages):
        x = _transposed_convolution(graph, graph.add("Relu", x), params, f"decoder.conv_transpose_{index}")
    x = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    return graph.add("Sigmoid", x) if model.module.likelihood.squashed else x


def _dense(graph: Graph, x: str, params: Params, layer: str) -> str:
    return graph.add("Gemm", x, *(graph.constant(name, params[name]) for name in (f"{layer}.kernel", f"{layer}.bias")))


def _residual_blocks(graph: Graph, x: str, params: Params, of: str, count: int) -> str:
    for index in range(count):
        y = graph.add("Relu", _dense(graph, x, params, f"{of}.residual_{index}_0"))
        x = graph.add("Add", x, _dense(graph, y, params, f"{of}.residual_{index}_1"))
    return x


def _convolution(graph: Graph, x: str, params: Params, layer: str) -> str:
    """One block of the encoder, channels first: `ops.convolution` and `ops.max_pool_relu_dropout`."""
    kernel = graph.constant(f"{layer}.kernel", params[f"{layer}.kernel"].transpose(3, 2, 0, 1))
    bias = graph.constant(f"{layer}.bias", params[f"{layer}.bias"])
    x = graph.add("Conv", x, kernel, bias, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    return graph.add("Relu", graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0]))


def _transposed_convolution(graph: Graph, x: str, params: Params, layer: str) -> str:
    """`ops.transposed_convolution`, channels first."""
    kernel = graph.constant(f"{layer}.kernel", params[f"{layer}.kernel"].transpose(2, 3, 0, 1))
    bias = graph.constant(f"{layer}.bias", params[f"{layer}.bias"])
    sizes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}
    return graph.add("ConvTranspose", x, kernel, bias, **sizes)
