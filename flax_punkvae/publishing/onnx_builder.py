"""Build an ONNX graph node by node, so that it holds exactly what its code says.

Operators are those of the ONNX specification, https://onnx.ai/onnx/operators, in the version of `OPSET`. Values are
known by their names.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flax_punkvae import __version__
from flax_punkvae.errors import UserError

# The version of the operators, and that of the file format which came with it (ONNX 1.12): every runtime since
# onnxruntime 1.12 reads both.
OPSET = 17
_IR_VERSION = 8
# The name of the free dimension of all inputs and outputs.
BATCH = "batch"
# protobuf's limit on a file, less what the nodes may take.
_MOST_BYTES = 2**31 - 2**20


class Kind(NamedTuple):
    """The element type and shape of a value, with names for free dimensions, and what it means."""

    dtype: type[np.generic]
    shape: tuple[int | str, ...]
    doc: str = ""


def import_onnx() -> Any:
    """The onnx package. Raises UserError if it is missing."""
    try:
        # Imported here: it is an optional dependency.
        import onnx
    except ImportError as error:
        raise UserError(f"exporting a model needs {error.name}: pip install '.[onnx]'") from error
    return onnx


def integers(*values: int) -> np.ndarray:
    """An int64 vector, as operators take shapes, axes and sizes."""
    return np.array(values, np.int64)


class Graph:
    """A graph under construction; that of a loop's body also sees the values and constants of its `outer` graph."""

    def __init__(self, outer: "Graph | None" = None) -> None:
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = outer._constants if outer else {}
        self._numbers: Any = outer._numbers if outer else itertools.count()

    def constant(self, name: str, value: np.ndarray) -> str:
        """Store a named array once, and return its name."""
        self._constants.setdefault(name, np.asarray(value))
        return name

    def add(self, operator: str, *inputs: str | np.ndarray | np.generic, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name. Inputs are names, or arrays to be stored."""
        return self.add_many(operator, 1, *inputs, **attributes)[0]

    def add_many(
        self, operator: str, outputs: int, *inputs: str | np.ndarray | np.generic, **attributes: Any
    ) -> list[str]:
        """`add` for a node with several outputs."""
        names = [
            value if isinstance(value, str) else self.constant(self._name("constant"), np.asarray(value))
            for value in inputs
        ]
        found = [self._name(operator) for _ in range(outputs)]
        self._nodes.append(import_onnx().helper.make_node(operator, names, found, name=found[0], **attributes))
        return found

    def cast(self, value: str, dtype: type[np.generic]) -> str:
        """The value, converted to another type."""
        return self.add("Cast", value, to=_element_type(dtype))

    def loop(
        self,
        count: int,
        step: Callable[["Graph", str, str], Sequence[str]],
        state: str,
        kind: Kind,
        collected: Sequence[Kind] = (),
    ) -> list[str]:
        """(the last state, what each step returned beside it, stacked along a new first axis).

        step(body, number, state) adds the nodes of one step to `body`, and returns the names of the next state and of
        values of the kinds `collected`. `number` is the step's, an int64 scalar.
        """
        body = Graph(self)
        number, unbroken, before = (body._name(what) for what in ("number", "unbroken", "state"))
        found = [body.add("Identity", value) for value in (unbroken, *step(body, number, before))]
        flag = Kind(np.bool_, ())
        inputs = zip((number, unbroken, before), (Kind(np.int64, ()), flag, kind), strict=True)
        outputs = zip(found, (flag, kind, *collected), strict=True)
        graph = body._finished("step", dict(inputs), dict(outputs), "")
        # The condition is optional, but onnx.reference takes a missing one for false.
        return self.add_many("Loop", len(found) - 1, np.int64(count), np.bool_(True), state, body=graph)

    def model(
        self,
        name: str,
        doc: str,
        inputs: Mapping[str, Kind],
        outputs: Mapping[str, tuple[str, Kind]],
        metadata: Mapping[str, str],
    ) -> bytes:
        """The file. `outputs` are (the name of a value, its kind) by their name in the file.

        Raises UserError if the constants exceed protobuf's 2 GB.
        """
        onnx = import_onnx()
        if sum(array.nbytes for array in self._constants.values()) > _MOST_BYTES:
            raise UserError(f"the {name} is larger than the 2 GB of an ONNX file: export a smaller model")
        for label, (value, _) in outputs.items():
            self._nodes.append(onnx.helper.make_node("Identity", [value], [label], name=label))
        kinds = {label: kind for label, (_, kind) in outputs.items()}
        graph = self._finished(name, inputs, kinds, doc)
        # Also those of loops' bodies, which share them.
        arrays = self._constants.items()
        graph.initializer.extend(
            onnx.numpy_helper.from_array(np.asarray(array, order="C"), key) for key, array in arrays
        )
        model = onnx.helper.make_model(
            graph,
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="flax_punkvae",
            producer_version=__version__,
            doc_string=doc,
        )
        onnx.helper.set_model_props(model, dict(metadata))
        return model.SerializeToString()

    def _finished(self, name: str, inputs: Mapping[str, Kind], outputs: Mapping[str, Kind], doc: str) -> Any:
        helper = import_onnx().helper

        def declared(values: Mapping[str, Kind]) -> list[Any]:
            return [
                helper.make_tensor_value_info(label, _element_type(kind.dtype), kind.shape, kind.doc)
                for label, kind in values.items()
            ]

        return helper.make_graph(self._nodes, name, declared(inputs), declared(outputs), doc_string=doc)

    def _name(self, what: str) -> str:
        return f"{what}_{next(self._numbers)}"


def _element_type(dtype: type[np.generic]) -> int:
    return import_onnx().helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
