"""The parts of a model that choose or draw, as ONNX graphs: colours from a palette, and latents from a learned prior.

They compute what `model.palette`, `model.pixels` and `model.priors` do, in the same order. An axis `o` is the open
positions of a sprite, `m` the colours listed at one, `n` a pixel's neighbours.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from flax_punkvae.model.palette import NEVER, Support
from flax_punkvae.model.pixels import LEAST, NEIGHBOURS, neighbours
from flax_punkvae.model.priors import LOG_SCALES
from flax_punkvae.publishing.onnx_builder import BATCH, Graph, Kind, integers

_F32, _I32 = np.float32, np.int32
_AFFINE = ("kernel", "bias")


def at_open(graph: Graph, values: str, support: Support, width: int) -> str:
    """[b h w f] to [o b f]: the values at the open positions; `width` is f."""
    height, across, _ = support.lists.shape
    flat = graph.add("Transpose", values, perm=[1, 2, 0, 3])
    flat = graph.add("Reshape", flat, integers(height * across, -1, width))
    return graph.add("Gather", flat, support.open.astype(np.int64))


def sprite(graph: Graph, chosen: str, support: Support, elsewhere: np.ndarray) -> str:
    """[o b] to [b h w]: the values at the open positions, and `elsewhere` [h w] at the others."""
    places = np.zeros(elsewhere.size, np.int64)
    places[support.open] = np.arange(len(support.open))
    is_open = np.zeros(elsewhere.size, bool)
    is_open[support.open] = True
    found = graph.add("Gather", graph.add("Transpose", chosen, perm=[1, 0]), places, axis=1)
    found = graph.add("Where", is_open, found, elsewhere.ravel())
    return graph.add("Reshape", found, integers(-1, *elsewhere.shape))


def most_probable(graph: Graph, x: str, support: Support, params: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """`Palette.most_probable` of features [o b e]: (colours, margins), both [o b]."""
    lists = support.open_lists
    rows, bias = _listed(lists, support.colours, params["palette.bias"])
    kernel = graph.add("Gather", graph.constant("palette.kernel", params["palette.kernel"]), rows)
    logits = graph.add("MatMul", x, graph.add("Transpose", kernel, perm=[0, 2, 1]))
    logits = graph.add("Add", logits, graph.constant("palette.bias", bias[:, None]))
    places = graph.add("ArgMax", logits, axis=2, keepdims=0)
    starts = np.arange(len(lists), dtype=np.int64)[:, None] * lists.shape[1]
    colours = graph.add("Gather", lists.ravel(), graph.add("Add", places, starts))
    # Lists have at least two columns.
    top, _ = graph.add_many("TopK", 2, graph.add("Softmax", logits, axis=2), integers(2), axis=2)
    return colours, graph.add("ReduceSum", graph.add("Mul", top, np.array([1, -1], _F32)), integers(2), keepdims=0)


def _listed(lists: np.ndarray, colours: int, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a palette's kernel, and its biases, where lists that have ended get practically -infinity."""
    ended = lists == colours
    return np.where(ended, 0, lists).astype(_I32), np.where(ended, NEVER, bias).astype(_F32)


def decode_pixels(
    graph: Graph, features: str, uniform: str, support: Support, params: Mapping[str, np.ndarray]
) -> tuple[str, str]:
    """`PixelDecoder.decode` of features [o b f], pixel by pixel: (colours, margins), both [o b].

    A uniform draw [b o] below 0 takes the most probable colour. The margin of such a colour is its lead in probability;
    that of a drawn one the least change, of the draw or of a probability relative to the largest, that might give
    another colour.
    """
    height, width, _ = support.lists.shape
    batch = graph.add("Shape", uniform, start=0, end=1)
    only = np.append(support.lists[..., 0].ravel(), support.colours).astype(_I32)[:, None]
    canvas = graph.add("Expand", only, graph.add("Concat", integers(1), batch, axis=0))
    column = graph.add("Concat", batch, integers(1), axis=0)
    draws = graph.add("Transpose", uniform, perm=[1, 0])
    pixel = _Pixel(graph, support, params)
    positions = graph.constant("open", support.open.astype(np.int64))

    def step(body: Graph, number: str, canvas: str) -> Sequence[str]:
        draw = body.add("Unsqueeze", body.add("Gather", draws, number), integers(1))
        candidates, probabilities, same = pixel.distribution(body, number, features, canvas, column)
        chosen, margin = _choose(body, candidates, probabilities, same, draw, pixel.listed)
        place = body.add("Reshape", body.add("Gather", positions, number), integers(1, 1))
        canvas = body.add("ScatterND", canvas, place, body.add("Transpose", chosen, perm=[1, 0]))
        return canvas, *(body.add("Squeeze", value, integers(1)) for value in (chosen, margin))

    each = Kind(_I32, (BATCH,)), Kind(_F32, (BATCH,))
    state = Kind(_I32, (height * width + 1, BATCH))
    _, colours, margins = graph.loop(len(support.open), step, canvas, state, each)
    return colours, margins


class _Pixel:
    """The constants of a PixelDecoder, and the distribution of one pixel given those before it."""

    def __init__(self, graph: Graph, support: Support, params: Mapping[str, np.ndarray]) -> None:
        height, width, _ = support.lists.shape
        self.listed = support.open_lists.shape[1]
        self._outside = support.colours
        # The places of a pixel's neighbours in the canvas, whose last row is the outside.
        near = neighbours(height, width).reshape(height * width, -1)[support.open]
        self._near = graph.constant("neighbours", near.astype(_I32))
        self._lists = graph.constant("colours", support.open_lists.astype(_I32))
        rows, bias = _listed(support.open_lists, support.colours, params["pixels.palette.bias"])
        self._rows = graph.constant("rows", rows)
        stored = {name: params[f"pixels.{name}"] for name in ("embedding", "palette.kernel")}
        stored |= {f"layers_{i}.{part}": params[f"pixels.layers_{i}.{part}"] for i in range(3) for part in _AFFINE}
        stored["palette.bias"] = bias
        self._params = {name: graph.constant(f"pixels.{name}", value) for name, value in stored.items()}
        self._output = stored["palette.kernel"].shape[1]

    def distribution(self, body: Graph, number: str, features: str, canvas: str, column: str) -> tuple[str, str, str]:
        """(candidates, probabilities, whether a neighbour's colour is the candidate's): [b m+n], [b m+n], [b m+n n].

        The candidates are the listed colours, then the neighbours'. The first candidate of a colour has all of its
        probability.
        """
        near = body.add("Transpose", body.add("Gather", canvas, body.add("Gather", self._near, number)), perm=[1, 0])
        output, weights = self._mixture(body, body.add("Gather", features, number), near)
        softmax_weight, copy_weights = body.add_many("Split", 2, weights, integers(1, NEIGHBOURS), axis=1)
        kernel = body.add("Gather", self._params["palette.kernel"], body.add("Gather", self._rows, number))
        bias = body.add("Gather", self._params["palette.bias"], number)
        softmax = body.add("Softmax", body.add("Gemm", output, kernel, bias, transB=1), axis=1)
        softmax = body.add("Mul", softmax, softmax_weight)
        listed = body.add("Expand", body.add("Gather", self._lists, number), column)
        candidates = body.add("Concat", listed, near, axis=1)
        same = body.add("Equal", *(body.add("Unsqueeze", x, integers(i)) for x, i in ((candidates, 2), (near, 1))))
        copied = body.add("Where", same, body.add("Unsqueeze", copy_weights, integers(1)), _F32(0))
        copied = body.add("ReduceSum", copied, integers(2), keepdims=0)
        return candidates, body.add("Add", copied, body.add("Pad", softmax, integers(0, 0, 0, NEIGHBOURS))), same

    def _mixture(self, body: Graph, features: str, near: str) -> tuple[str, str]:
        """What is multiplied with the colours' embeddings, and the weights of the softmax and of each copy."""
        embedded = body.add("Reshape", body.add("Gather", self._params["embedding"], near), integers(0, -1))
        x = body.add("Concat", features, embedded, axis=1)
        for index in range(3):
            x = body.add("Gemm", x, *(self._params[f"layers_{index}.{part}"] for part in _AFFINE))
            if index < 2:
                x = body.add("Relu", x)
        output, drawn, copies = body.add_many("Split", 3, x, integers(self._output, 1, NEIGHBOURS), axis=1)
        inside = body.add("Less", near, _I32(self._outside))
        copies = body.add("Where", inside, copies, _F32(NEVER))
        return output, body.add("Softmax", body.add("Concat", drawn, copies, axis=1), axis=1)


def _choose(body: Graph, candidates: str, probabilities: str, same: str, draw: str, listed: int) -> tuple[str, str]:
    """(the colour, its margin), both [b 1]: the most probable or, for a draw of at least 0, a drawn one."""
    largest = body.add("ReduceMax", probabilities, axes=[1])
    masses, repeated = _masses(body, probabilities, largest, same, listed)
    size = listed + NEIGHBOURS
    # The mass of a candidate and of those before it.
    ends = body.add("MatMul", masses, np.triu(np.ones((size, size), _F32)))
    total = body.add("Gather", ends, integers(size - 1), axis=1)
    has_mass = body.add("Greater", masses, _F32(0))
    beyond = body.add("And", has_mass, body.add("Greater", ends, body.add("Mul", draw, total)))
    drawn = body.add("ArgMax", body.cast(beyond, _I32), axis=1)
    greedy = body.add("Less", draw, _F32(0))
    index = body.add("Where", greedy, body.add("ArgMax", probabilities, axis=1), drawn)
    chosen = body.add("GatherElements", candidates, index, axis=1)

    others = body.add("Where", body.add("Equal", candidates, chosen), _F32(0), probabilities)
    lead = body.add("Sub", largest, body.add("ReduceMax", others, axes=[1]))
    # Between two candidates lies a boundary, but not after the last.
    between = body.add("And", has_mass, body.add("Less", ends, total))
    from_ends = _distance(body, between, draw, body.add("Div", ends, total))
    open_to_cut = body.add("And", body.add("Less", probabilities, largest), body.add("Not", repeated))
    open_to_cut = body.add("And", open_to_cut, body.add("Greater", probabilities, _F32(0)))
    from_cut = _distance(body, open_to_cut, _F32(LEAST), body.add("Div", probabilities, largest))
    clearance = body.add("ReduceMin", body.add("Min", from_ends, from_cut), axes=[1])
    return chosen, body.add("Where", greedy, lead, clearance)


def _masses(body: Graph, probabilities: str, largest: str, same: str, listed: int) -> tuple[str, str]:
    """(the probabilities that are drawn from, whether a candidate has the colour of an earlier one)."""
    number = NEIGHBOURS
    as_numbers = body.cast(same, _F32)
    in_list, in_copies = body.add_many("Split", 2, as_numbers, integers(listed, number), axis=1)
    earlier = np.tri(number, k=-1, dtype=_F32)
    repeats = [
        body.add("ReduceMax", in_list, axes=[1], keepdims=0),
        body.add("ReduceMax", body.add("Mul", in_copies, earlier), axes=[2], keepdims=0),
    ]
    repeated = body.add("Pad", body.add("Max", *repeats), integers(0, listed, 0, 0))
    repeated = body.add("Greater", repeated, _F32(0))
    likely = body.add("GreaterOrEqual", probabilities, body.add("Mul", largest, _F32(LEAST)))
    drawable = body.add("And", likely, body.add("Not", repeated))
    return body.add("Where", drawable, probabilities, _F32(0)), repeated


def _distance(body: Graph, where: str, left: str | np.generic, right: str) -> str:
    return body.add("Where", where, body.add("Abs", body.add("Sub", left, right)), _F32(1))


def sample_prior(
    graph: Graph, noise: str, uniform: str, layers: Sequence[tuple[np.ndarray, np.ndarray]], components: int
) -> str:
    """`AutoregressivePrior.sample`, latent by latent; `layers` are its masked ones. Inputs and output are [b d]."""
    (k0, b0), (k1, b1), (k2, b2) = layers
    d, width = k0.shape
    first, second = (
        (graph.constant(f"prior.kernel_{i}", kernel), graph.constant(f"prior.bias_{i}", bias))
        for i, (kernel, bias) in enumerate(((k0, b0), (k1, b1)))
    )
    # Each step needs the outputs for one latent alone.
    kernels = graph.constant("prior.kernel_2", k2.reshape(width, d, -1).transpose(1, 0, 2))
    biases = graph.constant("prior.bias_2", b2.reshape(d, -1))
    ends_of = np.triu(np.ones((components, components), _F32))

    def step(body: Graph, number: str, z: str) -> Sequence[str]:
        x = body.add("Relu", body.add("Gemm", z, *first))
        x = body.add("Add", x, body.add("Relu", body.add("Gemm", x, *second)))
        outputs = body.add("Gemm", x, body.add("Gather", kernels, number), body.add("Gather", biases, number))
        logits, means, log_scales = body.add_many("Split", 3, outputs, integers(*[components] * 3), axis=1)
        ends = body.add("MatMul", body.add("Softmax", logits, axis=1), ends_of)
        here = body.add("Reshape", number, integers(1))
        draw, deviation = (body.add("Gather", values, here, axis=1) for values in (uniform, noise))
        passed = body.cast(body.add("LessOrEqual", ends, draw), np.int64)
        passed = body.add("ReduceSum", passed, integers(1))
        chosen = body.add("Min", passed, integers(components - 1))
        log_scales = body.add("Clip", log_scales, *map(_F32, LOG_SCALES))
        mean, log_scale = (body.add("GatherElements", part, chosen, axis=1) for part in (means, log_scales))
        value = body.add("Add", mean, body.add("Mul", body.add("Exp", log_scale), deviation))
        return (body.add("Where", body.add("Equal", np.arange(d), number), value, z),)

    zeros = graph.add("ConstantOfShape", graph.add("Shape", noise))
    return graph.loop(d, step, zeros, Kind(_F32, (BATCH, d)))[0]
