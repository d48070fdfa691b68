"""Keep the draws that are wanted: new sprites, or sprites that have some labels and lack others."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from flax_punkvae.errors import UserError
from flax_punkvae.trained import traits
from flax_punkvae.trained.samplers import Draws
from flax_punkvae.training.description import Description, digests

# The default limits on draws: this many per sprite, and with labels, of which some are rare, at least this many in all.
TRIES = 20
LABEL_DRAWS = 50_000

Report = Callable[[int, int], None]
Keep = Callable[[UInt8[np.ndarray, "b h w c"]], Bool[np.ndarray, "b"]]


@dataclass(frozen=True)
class Wanted:
    """Which draws to keep; by default, all.

    new: sprites that are distinct and not training sprites. having, lacking: labels that the trait reader must find in
    a sprite, and those that it must not. limit: the largest number of draws, None for `draws`.
    """

    new: bool = False
    having: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    limit: int | None = None

    @property
    def described(self) -> str:
        """What is wanted, in words."""
        words = ["new and distinct sprites" if self.new else "sprites"]
        words += [f"with {' and '.join(self.having)}"] if self.having else []
        words += [f"without {' and '.join(self.lacking)}"] if self.lacking else []
        return " ".join(words)

    @property
    def selective(self) -> bool:
        """Whether any draw may be left out."""
        return self.new or bool(self.labels)

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels of the condition."""
        return (*self.having, *self.lacking)

    def draws(self, count: int) -> int:
        """The largest number of draws for `count` sprites."""
        return self.limit or max(TRIES * count, LABEL_DRAWS if self.labels else 0)


class Selected(NamedTuple):
    """The draws that were kept, and how many were drawn up to the last of them, or in all."""

    draws: Draws
    drawn: int


def keep(wanted: Wanted, described: Description) -> Keep:
    """A function that says which sprites of a batch to keep; it remembers the new ones of earlier batches.

    Raises UserError if a label is unknown, both wanted and unwanted, or cannot be read.
    """
    if both := set(wanted.having) & set(wanted.lacking):
        raise UserError(f"no sprite can have and lack {min(both)!r}: name it once")
    columns = [traits.column(described, name) for name in wanted.labels]
    expected = np.arange(len(columns)) < len(wanted.having)
    network, note = traits.load_network(described) if columns else (None, "")
    if columns and network is None:
        raise UserError(f"labels of samples can be read for 24x24 punks only ({note}): leave the labels out")
    seen = set(map(bytes, described.train_digests))

    def kept(sprites: np.ndarray) -> np.ndarray:
        chosen = np.ones(len(sprites), bool)
        if network is not None:
            chosen &= (traits.read(network, sprites)[:, columns] == expected).all(axis=1)
        if wanted.new:
            for row in np.flatnonzero(chosen):
                digest = bytes(digests(sprites[[row]])[0])
                chosen[row] = digest not in seen
                seen.add(digest)
        return chosen

    return kept


def select(
    batches: Iterable[tuple[Draws, Bool[np.ndarray, "b"]]], count: int, latent: int, report: Report = lambda *_: None
) -> Selected:
    """The first `count` draws of those that are kept, or fewer if the batches of (draws, kept) end before.

    After each batch that leaves some missing, `report` is called with how many were kept and drawn until then.
    """
    found = [Draws(np.zeros((0, latent), np.float32), np.zeros(0, np.uint32))]
    drawn, missing = 0, count
    for draws, kept in batches:
        rows = np.flatnonzero(kept)[:missing]
        found.append(Draws(*(values[rows] for values in draws)))
        missing -= len(rows)
        if not missing:
            drawn += int(rows[-1]) + 1
            break
        drawn += len(draws.latents)
        report(count - missing, drawn)
    return Selected(joined(found), drawn)


def joined(parts: Iterable[Draws]) -> Draws:
    """All draws of the parts."""
    return Draws(*map(np.concatenate, zip(*parts, strict=True)))
