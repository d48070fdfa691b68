"""Read the fields of a JSON body: each method returns one valid value or raises UserError with one line."""

import json
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool

from flax_punkvae.errors import UserError
from flax_punkvae.trained import recipes
from flax_punkvae.trained.recipes import Recipe
from flax_punkvae.training.description import Description

T = TypeVar("T")
LARGEST_SEED = 2**31 - 1


class Fields:
    """The fields of a request. Every field must be read: `done` refuses those that nobody asked for."""

    def __init__(self, body: bytes, described: Description) -> None:
        try:
            found = json.loads(body, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise UserError("the body is not valid JSON") from error
        if not isinstance(found, dict):
            raise UserError("the body is not a JSON object")
        self._left: dict[str, Any] = found
        self._described = described

    def done(self) -> None:
        """Raise UserError if a field is left."""
        if self._left:
            raise UserError(f"unknown field {min(self._left)[:40]!r}")

    def recipe(self, name: str = "recipe") -> Recipe:
        """A recipe of this model."""
        return recipes.parse(self._text(name, self._take(name)), self._described)

    def recipes(self, name: str, least: int, most: int) -> list[Recipe]:
        """Several recipes of this model."""
        return [recipes.parse(self._text(name, text), self._described) for text in self._list(name, least, most)]

    def whole(self, name: str, low: int, high: int) -> int:
        """A whole number."""
        value = self._take(name)
        if type(value) is not int or not low <= value <= high:
            raise UserError(f"{name}: expected a whole number from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        """A finite number."""
        return self._number(name, self._take(name), low, high)

    def numbers(self, name: str, count: int, low: float, high: float) -> list[float]:
        """`count` finite numbers."""
        return [self._number(name, value, low, high) for value in self._list(name, count, count)]

    def flag(self, name: str) -> bool:
        """true or false."""
        value = self._take(name)
        if type(value) is not bool:
            raise UserError(f"{name}: expected true or false")
        return value

    def choice(self, name: str, choices: Sequence[T]) -> T:
        """One of several words."""
        value = self._take(name)
        for choice in choices:
            if value == choice:
                return choice
        raise UserError(f"{name}: expected one of {', '.join(map(str, choices))}")

    def labels(self, name: str, most: int = 16) -> tuple[str, ...]:
        """Names of labels."""
        return tuple(self._text(name, value) for value in self._list(name, 0, most))

    def mask(self, name: str, shape: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
        """A string of one 0 or 1 for each pixel, row by row."""
        text = self._text(name, self._take(name))
        if len(text) != shape[0] * shape[1] or set(text) - {"0", "1"}:
            raise UserError(f"{name}: expected {shape[0] * shape[1]} digits, 0 or 1")
        return (np.frombuffer(text.encode(), np.uint8) == ord("1")).reshape(shape)

    def _take(self, name: str) -> Any:
        if name not in self._left:
            raise UserError(f"{name} is missing")
        return self._left.pop(name)

    def _list(self, name: str, least: int, most: int) -> list[Any]:
        value = self._take(name)
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise UserError(f"{name}: expected a list of {least if least == most else f'{least} to {most}'} values")
        return value

    def _text(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise UserError(f"{name}: expected text")
        return value

    def _number(self, name: str, value: Any, low: float, high: float) -> float:
        # Comparing rather than converting first: an int may be too large for a float.
        if type(value) not in (int, float) or not low <= value <= high or not math.isfinite(value):
            raise UserError(f"{name}: expected a number from {low:g} to {high:g}")
        return float(value)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
