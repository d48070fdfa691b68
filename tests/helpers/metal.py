"""The ops and types that Apple's METAL plugin has patterns for: `metal_ops.txt`, read from jax-metal 0.1.1."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

SUPPORTED = set((Path(__file__).parent / "metal_ops.txt").read_text().split())


# The module and its functions, which are no ops.
# What is no op; a custom call is judged by its target; `chlo.square` comes with jax newer than the plugin takes.
STRUCTURE = {"func.func", "func.call", "func.return", "stablehlo.custom_call", "chlo.square"}


TYPES = {"i1", "i8", "i32", "ui8", "ui32", "f32"}


def unsupported(function: Callable[..., Any], *arguments: Any, **named: Any) -> set[str]:
    """The ops and element types in the METAL lowering that the plugin does not know."""
    # As the programs set it there: the default brings in 64-bit integers.
    with jax.threefry_partitionable(False):
        lowered = jax.jit(function).trace(*arguments, **named).lower(lowering_platforms=("METAL",))
    text = lowered.as_text()
    ops = set(re.findall(r'(?:^|[=(])\s*"?((?:stablehlo|mhlo|chlo|func|shape|arith|tensor)\.\w+)', text, re.MULTILINE))
    assert ops, "the lowering has no op that the pattern finds"
    types = set(re.findall(r"tensor<(?:[0-9?]+x)*([a-z]+[0-9]+)", text))
    targets = {f"custom_call.{target}" for target in re.findall(r"stablehlo\.custom_call @(\w+)", text)}
    return ((ops | targets) - SUPPORTED - STRUCTURE) | (types - TYPES)
