"""Keep the draws that are wanted: new sprites, or sprites that have some labels and lack others."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from flax_punkvae.errors import UserError
from flax_punkvae.trained import traits
from flax_punkvae.trained.samplers import Draws
from flax_punkvae.trained.traits import Reader
from flax_punkvae.training.description import Description, digests

# The default limits on draws: this many per sprite, and with labels, of which some are rare, at least this many in all.
TRIES = 20
LABEL_DRAWS = 50_000

Report = Callable[[int, int], None]
Keep = Callable[[UInt8[np.ndarray, "b h w c"]], Bool[np.ndarray, "b"]]


@dataclass(frozen=True)
class Wanted:
    """Which draws to keep; by default, all.

    new: sprites that are distinct and not training sprites. having, lacking: labels that the reader of traits must find
    in a sprite, and those that it must not. limit: the largest number of draws, None for `draws`.
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


def check(wanted: Wanted, described: Description) -> None:
    """Raise UserError if a label is unknown, or both wanted and unwanted."""
    if both := set(wanted.having) & set(wanted.lacking):
        raise UserError(f"no sprite can have and lack {min(both)!r}: name it once")
    for name in wanted.labels:
        traits.column(described, name)


def keep(wanted: Wanted, described: Description, reader: Reader | None = None) -> Keep:
    """A function that says which sprites of a batch to keep; it remembers the new ones of earlier batches.

    Labels are read by `reader`, without one by that of `traits.shipped`. Raises UserError as `check` does, or if a
    label cannot be read.
    """
    check(wanted, described)
    columns, note = [], ""
    if wanted.labels:
        if reader is None:
            reader, note = traits.shipped(described)
        if reader is None:
            raise UserError(
                f"{note}, so a reader of labels has to be learned from the training images: use the program sample, or "
                "pass reader=probing.fit(runs.open_run(RUN), LABELS)"
            )
        columns = [reader.check(name) for name in wanted.labels]
    expected = np.arange(len(columns)) < len(wanted.having)
    seen = set(map(bytes, described.train_digests))

    def kept(sprites: np.ndarray) -> np.ndarray:
        chosen = np.ones(len(sprites), bool)
        if reader is not None and columns:
            chosen &= (reader.read(sprites)[:, columns] == expected).all(axis=1)
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
