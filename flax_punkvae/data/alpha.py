"""What becomes of transparent pixels: kept, made hard, or composited over the background."""

from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from flax_punkvae import images as im
from flax_punkvae import transparency
from flax_punkvae.config import DataConfig


def decided(config: DataConfig, has_background: bool) -> DataConfig:
    """The config with `alpha` other than auto; `has_background`: the images are always shown over their background."""
    if config.alpha != "auto":
        return config
    return replace(config, alpha="keep" if config.render == "indices" and not has_background else "background")


def is_kept(config: DataConfig) -> bool:
    """Whether images may have transparent pixels; with auto, as long as it is not known what they are."""
    return config.render == "indices" and config.alpha != "background"


def applied(pixels: UInt8[np.ndarray, "n h w _"], config: DataConfig) -> UInt8[np.ndarray, "n h w c"]:
    """RGBA images as the config wants them: in RGB unless some pixel of them stays transparent. RGB is unchanged."""
    if pixels.shape[-1] == 3:
        return pixels
    if not is_kept(config):
        return im.over_background(pixels, im.parse_colour(config.background))
    alter = transparency.hardened if config.alpha == "hard" else transparency.cleared
    return transparency.without_needless_alpha(alter(pixels))


def note(
    before: UInt8[np.ndarray, "n h w _"], after: UInt8[np.ndarray, "n hs ws _"] | None, config: DataConfig
) -> tuple[str, ...]:
    """A line for the user if pixels were transparent, given the sprites after alpha was applied."""
    if before.shape[-1] == 3 or (before[..., 3] == 255).all():
        return ()
    if after is None or not is_kept(config):
        return (f"transparent pixels were composited over {config.background} (--data.background)",)
    if after.shape[-1] == 3:
        return ("no pixel is transparent after alpha was made hard (--data.alpha)",)
    levels = len(np.unique(after[..., 3]))
    soft = f", at {levels} levels of alpha" if levels > 2 else ""
    return (f"transparent pixels are kept{soft} (--data.alpha)",)
