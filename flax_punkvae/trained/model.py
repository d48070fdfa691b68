"""Model: a trained PunkVAE, independent of its run. `runs.load` opens one without the training images."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, UInt, UInt8, UInt32

from flax_punkvae import images as im
from flax_punkvae import transparency
from flax_punkvae.devices import backend, parallel
from flax_punkvae.errors import UserError
from flax_punkvae.model import inference
from flax_punkvae.model.vae import PunkVAE
from flax_punkvae.trained import completion, samplers, selection
from flax_punkvae.trained.samplers import Draws, Posteriors, SamplerName
from flax_punkvae.trained.selection import Selected, Wanted
from flax_punkvae.trained.traits import Reader
from flax_punkvae.training.description import Description, digests
from flax_punkvae.training.state import make_module

# The largest number of times that samples may be re-encoded.
MOST_PASSES = 100
# Rows per call; a smaller last batch is padded, so that only one shape is compiled.
_BATCH = 64


@dataclass(frozen=True, eq=False)
class Model:
    """A trained PunkVAE: its parameters, on the default device, and their description.

    An image has the network's resolution; a sprite has one array element per pixel of the character. Both are uint8 RGB
    or, if the model was trained on sprites with transparent pixels, RGBA; methods take either and return the model's
    own. They are the same if sprites are not resized, as in the sprite preset; the reference model uses 128x128 images
    of 24x24 sprites. Methods that take images also take sprites. Latents are float32 [n, d].

    `checkpoint` says how the checkpoint was selected: last, best or by its step. `notes` are lines to show to the user,
    such as which damaged checkpoints were skipped.
    """

    description: Description
    params: Any = field(repr=False)
    checkpoint: str
    notes: tuple[str, ...] = ()

    @cached_property
    def module(self) -> PunkVAE:
        """The Flax module that the parameters belong to."""
        described = self.description
        return make_module(described.model, described.train, described.image_shape, described.support)

    @property
    def index_palette(self) -> UInt8[np.ndarray, "p c"] | None:
        """The palette that the network's images index into; None if these are colours."""
        return self.description.palette if self.description.render == "indices" else None

    @property
    def default_reencode(self) -> int:
        """How often samples are re-encoded unless a caller says otherwise: twice if images are indices of a palette.

        A sample of an RGB model is smooth, with no pixel of a wrong colour to correct.
        """
        return 2 if self.index_palette is not None else 0

    def sample(
        self,
        count: int,
        seed: int = 0,
        temperature: float = 1.0,
        new: bool = False,
        reencode: int | None = None,
        having: Sequence[str] = (),
        lacking: Sequence[str] = (),
        reader: Reader | None = None,
    ) -> UInt8[np.ndarray, "n h w c"]:
        """Sample `count` images from the prior; a larger count starts with the same images.

        `temperature` scales the latents' standard deviation; pixels are drawn as `decode` does with seeds. `reencode`
        is the number of times that each sample is decoded and encoded again, which corrects pixels that do not fit;
        None is `default_reencode`. With `new`, keeps sampling until `count` images are distinct and `is_new`; with
        `having` and `lacking`, until they have and lack these labels according to `reader`: that of `probing.fit` or,
        for punks, None. Raises UserError if an argument is out of range, a label is unknown or cannot be read or too
        few such images are found.
        """
        passes = self.default_reencode if reencode is None else reencode
        _check_ranges("sample", count=(count, 1, 10**7), seed=(seed, 0, 2**31 - 1), reencode=(passes, 0, MOST_PASSES))
        if isinstance(having, str) or isinstance(lacking, str):
            raise UserError("sample: expected a sequence of labels, got a string: put the label into a tuple or list")
        if not (math.isfinite(temperature) and 0 <= temperature <= 100):
            raise UserError(f"sample: expected a temperature from 0 to 100, got {temperature}")
        wanted = Wanted(new, tuple(having), tuple(lacking))
        draws, drawn = self.select(wanted, "prior", count, seed, temperature, reencode=passes, reader=reader)
        if len(draws.latents) < count:
            instead = "ask for other labels" if wanted.labels else "sample without new=True"
            raise UserError(
                f"sample: found only {len(draws.latents)} of {count} {wanted.described} in {drawn} draws: ask for "
                f"fewer, raise the temperature, or {instead}"
            )
        return self.decode(*draws)

    def encode(self, images: UInt8[np.ndarray, "n h w c"]) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
        """(mean, logvar) of the posterior q(z | image) of each image.

        Sprites are rendered first. A palette model replaces colours outside its palette by the nearest ones in it.
        Raises UserError if the images are not uint8 or not of the size of the model's images or sprites.
        """
        images = self._checked("encode", images)
        if images.shape[1:3] != self.description.image_shape[:2]:
            images = im.render(images, self.description.render)
        if self.index_palette is not None:
            images = im.to_indices(images, self.index_palette)[..., None]
        return self.encode_pixels(images)

    def encode_pixels(
        self, pixels: UInt[np.ndarray, "n h w c"]
    ) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
        """`encode` for images in the format of a Dataset: RGB or, for a palette model, indices."""
        return self._batched(inference.encode, parallel.widened(pixels))

    def decode(
        self, z: Float[np.ndarray, "n d"], seeds: UInt32[np.ndarray, "m"] | None = None
    ) -> UInt8[np.ndarray, "n h w c"]:
        """Decode latents to images: the mean of the likelihood or, for a palette model, the most probable colours.

        With m = n seeds, an autoregressive decoder draws the colours from their distributions: small parts that the
        latents leave open, such as a mole, appear as often as in training. Raises UserError if a shape is wrong.
        """
        latents, width = np.asarray(z, np.float32), self.description.model.latent
        if latents.ndim != 2 or latents.shape[1] != width or not len(latents):
            raise UserError(f"decode: expected latents of shape [n, {width}], got {list(latents.shape)}")
        if seeds is None:
            return im.to_colours(self._batched(inference.decode, latents), self.index_palette)
        given = np.asarray(seeds, np.uint32)
        if given.shape != latents.shape[:1]:
            raise UserError(f"decode: expected seeds of shape [{len(latents)}], got {list(given.shape)}")
        return im.to_colours(self._batched(inference.decode, latents, given), self.index_palette)

    def decode_one(self, z: Float[np.ndarray, "d"], seed: int | None = None) -> UInt8[np.ndarray, "h w c"]:
        """`decode` for one latent, in a call of its own: faster than a padded batch.

        Sums in another order than `decode`, so that a pixel may, very rarely, differ.
        """
        seeds = None if seed is None else np.array([seed], np.uint32)
        with _float32_products():
            image = inference.decode(self.module, self.params, z[None], *(() if seeds is None else (seeds,)))
        return im.to_colours(np.asarray(image), self.index_palette)[0]

    def decode_sprites(
        self, z: Float[np.ndarray, "n d"], seeds: UInt32[np.ndarray, "n"] | None = None
    ) -> UInt8[np.ndarray, "n hs ws c"]:
        """Decode latents to sprites in the decoded colours, without holding all images in memory.

        Raises UserError as `decode` does.
        """
        parts = (slice(start, start + _BATCH) for start in range(0, max(len(z), 1), _BATCH))
        images = (self.decode(z[part], None if seeds is None else seeds[part]) for part in parts)
        return np.concatenate([im.read_sprites(image, self.description.render) for image in images])

    def to_sprites(self, images: UInt8[np.ndarray, "n h w _"]) -> UInt8[np.ndarray, "n hs ws c"]:
        """The sprite in each image, snapped to the colours of the training sprites.

        Returns the images themselves if the model was not trained on sprites. Raises UserError as `encode` does.
        """
        images, described = self._checked("to_sprites", images), self.description
        if described.palette is None:
            return images
        if images.shape[1:3] != described.sprite_size:
            images = im.read_sprites(images, described.render)
        return im.snap(images, described.palette)

    def complete(
        self,
        sprite: UInt8[np.ndarray, "h w _"],
        known: Bool[np.ndarray, "h w"],
        count: int = 8,
        seed: int = 0,
        steps: int = 30,
    ) -> UInt8[np.ndarray, "n h w c"]:
        """Fill in the pixels of a sprite that are not known, in `count` ways; see `completion.complete`.

        The unknown pixels begin as those of samples from the prior. The known ones, snapped to the training palette,
        stay. Returns sprites in that palette (images, if the model was not trained on sprites), of which some may be
        the same. Raises UserError if a size is wrong, no pixel or every pixel is known, or a number is out of range.
        """
        _check_ranges("complete", count=(count, 1, 1000), seed=(seed, 0, 2**31 - 1), steps=(steps, 0, 10**4))
        sprite, known, described = np.asarray(sprite), np.asarray(known), self.description
        completion.check(sprite, known, (*(described.sprite_size or described.image_shape[:2]), described.channels))
        random = np.random.RandomState([seed, 2])
        shape = (count, described.model.latent)
        return completion.complete(
            self.encode,
            lambda z: self.to_sprites(self.decode(z)),
            self.to_sprites(sprite[None])[0],
            known,
            np.concatenate([self.to_sprites(self.decode(*draws)) for draws in self.draw("prior", count, seed)]),
            (random.standard_normal(shape).astype(np.float32) for _ in range(steps)),
        )

    def is_new(self, images: UInt8[np.ndarray, "n h w c"]) -> Bool[np.ndarray, "n"]:
        """Whether each image, after `to_sprites`, differs from every training sprite; compares SHA-256 digests.

        Raises UserError as `encode` does.
        """
        known = set(map(bytes, self.description.train_digests))
        return np.array([bytes(digest) not in known for digest in digests(self.to_sprites(images))])

    def reencode(self, draws: Draws, times: int) -> Draws:
        """Decode draws and encode the images again, `times` times; their latents become the posterior means."""
        z, seeds = draws
        for _ in range(times):
            parts = (slice(start, start + _BATCH) for start in range(0, len(z), _BATCH))
            z = np.concatenate([self.encode(self.decode(z[part], seeds[part]))[0] for part in parts])
        return Draws(z, seeds)

    def draw(
        self,
        how: SamplerName,
        count: int,
        seed: int,
        temperature: float = 1.0,
        posteriors: Posteriors | None = None,
        reencode: int | None = None,
    ) -> Iterator[Draws]:
        """Yield `count` draws from a sampler, in chunks; a larger count starts with the same draws.

        `posteriors` computes (means, logvars) of the training images, for samplers that are fitted to them. The draws
        are re-encoded `reencode` times; None is `default_reencode`. Raises UserError if such a sampler gets no
        posteriors.
        """
        passes = self.default_reencode if reencode is None else reencode
        source = samplers.Source(self.description.model.latent, posteriors or _no_posteriors, self._from_prior)
        chunks = samplers.samples(samplers.SAMPLERS[how], source, count, seed, temperature)
        return (self.reencode(draws, passes) for draws in chunks)

    def select(
        self,
        wanted: Wanted,
        how: SamplerName,
        count: int,
        seed: int,
        temperature: float = 1.0,
        posteriors: Posteriors | None = None,
        reencode: int | None = None,
        report: selection.Report = lambda *_: None,
        reader: Reader | None = None,
    ) -> Selected:
        """The first draws of `draw` whose sprites are wanted: `count`, or fewer after `wanted.draws(count)` draws.

        `report` is called as `selection.select` does, and labels are read by `reader`, as `selection.keep` does. Raises
        UserError as `draw` and `selection.keep` do.
        """
        kept = selection.keep(wanted, self.description, reader)
        limit = wanted.draws(count) if wanted.selective else count
        chunks = self.draw(how, limit, seed, temperature, posteriors, reencode)
        if not wanted.selective:
            return Selected(selection.joined(chunks), count)
        chosen = ((draws, kept(self.to_sprites(self.decode(*draws)))) for draws in chunks)
        return selection.select(chosen, count, self.description.model.latent, report)

    def kl_per_latent(self, pixels: UInt[np.ndarray, "n h w c"], seed: int) -> Float[np.ndarray, "d"]:
        """KL divergence of the posterior from the prior per latent, in nats, averaged over images (as in a Dataset).

        Computed in closed form or at one sample of z per image, depending on the prior.
        """
        return self.kl_of_posteriors(*self.encode_pixels(pixels), seed)

    def kl_of_posteriors(
        self, means: Float[np.ndarray, "n d"], logvars: Float[np.ndarray, "n d"], seed: int
    ) -> Float[np.ndarray, "d"]:
        """`kl_per_latent`, given the posteriors of the images."""
        noise, _ = samplers.prior_noise(samplers.streams(seed), len(means), means.shape[1], 1.0)
        z = means + np.exp(0.5 * logvars) * noise
        return self._batched(inference.kl, means, logvars, z).astype(np.float64).mean(axis=0)

    def _from_prior(self, noise: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        return self._batched(inference.from_prior, noise, uniform)

    def _batched(self, function: Callable[..., Any], *rows: np.ndarray) -> Any:
        """function(module, params, *rows), an array or a tuple of arrays, computed in batches of a fixed size."""
        parts = []
        with _float32_products():
            for start in range(0, len(rows[0]), _BATCH):
                batch = [part[start : start + _BATCH] for part in rows]
                count = len(batch[0])
                padded = (part[np.resize(np.arange(count), _BATCH)] for part in batch)
                found = function(self.module, self.params, *padded)
                parts.append(jax.tree.map(lambda x, count=count: np.asarray(x)[:count], found))
        return jax.tree.map(lambda *batches: np.concatenate(batches), *parts)

    def to_channels(self, pixels: UInt8[np.ndarray, "*n _"]) -> UInt8[np.ndarray, "*n c"]:
        """RGB or RGBA pixels as the model has them: RGB over its background, or RGBA, opaque if they had no alpha."""
        described = self.description
        return transparency.to_channels(pixels, described.channels, im.parse_colour(described.background))

    def _checked(self, method: str, images: UInt8[np.ndarray, "n h w _"]) -> UInt8[np.ndarray, "n h w c"]:
        """The images in the model's channels. Raises UserError if they are not uint8 or of another size."""
        sizes = {self.description.image_shape[:2], self.description.sprite_size or self.description.image_shape[:2]}
        images = np.asarray(images)
        right = images.ndim == 4 and images.shape[1:3] in sizes and images.shape[3] in im.MODES
        if images.dtype != np.uint8 or not right:
            channels = self.description.channels
            expected = " or ".join(f"[n, {height}, {width}, {channels}]" for height, width in sorted(sizes))
            got = f"{images.dtype} {list(images.shape)}"
            raise UserError(f"{method}: expected uint8 {im.MODES[channels]} {expected}, got {got}")
        if not len(images):
            raise UserError(f"{method}: expected at least one image, got none")
        return self.to_channels(images)


def _check_ranges(method: str, **ranges: tuple[int, int, int]) -> None:
    """Raise UserError if a value is not between its bounds; each is given as (value, low, high)."""
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:
            raise UserError(f"{method}: expected {name} from {low} to {high}, got {value}")


def _no_posteriors() -> Any:
    raise UserError("this sampler is fitted to the training images: pass their posteriors")


def _float32_products() -> contextlib.AbstractContextManager[Any]:
    # Programs set this in `backend.prepare`, which a notebook has not called.
    precision = backend.matmul_precision(jax.default_backend())
    return jax.default_matmul_precision(precision) if precision else contextlib.nullcontext()
