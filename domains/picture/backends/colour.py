"""Pictures of every mode as 8-bit sRGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

_WHITE = (255, 255, 255)
_SIXTEEN_BITS = 65_535
# Levels by which greys of one sRGB profile may differ from those of another.
_MOST_ROUNDING = 16
# The colour space that a profile must be of, by the mode of the pixels that it describes.
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}


def to_srgb(image: Image.Image, *, keep_alpha: bool = False) -> Image.Image:
    """A loaded picture as mode RGB; what is transparent shows white, or with `keep_alpha` stays
    so, in mode RGBA.

    A colour profile is followed where it goes with the pixels, by relative colorimetry with
    black point compensation, and passed over where it is broken. Pixels without one, or with
    sRGB's, are sRGB and keep their values.
    """
    image = _eight_bits(image)
    opaque, alpha = _parted(image)
    converted = _followed(opaque, image.info.get("icc_profile")).convert("RGB")
    if alpha is None:
        return converted
    if keep_alpha:
        if alpha.getextrema() != (255, 255):
            converted.putalpha(alpha)
        return converted
    flattened = Image.new("RGB", converted.size, _WHITE)
    flattened.paste(converted, mask=alpha)
    return flattened


def to_grey(image: Image.Image) -> Image.Image:
    """The brightness of a loaded picture as mode L, whatever its alpha says."""
    image = _eight_bits(image)
    # Of a palette the transparent entry's colour counts as well.
    return (image.convert("RGB") if image.mode == "P" else image).convert("L")


def _eight_bits(image: Image.Image) -> Image.Image:
    """With at most 8 bits a channel: Pillow cuts what is above 255 instead of scaling it."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image, np.float64).clip(0, _SIXTEEN_BITS)
    scaled = Image.fromarray((values / 257.0).round().astype(np.uint8))
    scaled.info = {k: v for k, v in image.info.items() if k == "icc_profile"}
    return scaled


def _parted(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Its colours, in a mode that a profile can describe, and its alpha."""
    if image.has_transparency_data:
        grey = image.mode in ("L", "LA", "1")
        whole = image.convert("RGBA")
        alpha = whole.getchannel("A")
        return (whole.getchannel("R") if grey else whole.convert("RGB")), alpha
    if image.mode in ("1", "L"):
        return image.convert("L"), None
    return (image if image.mode == "CMYK" else image.convert("RGB")), None


def _followed(image: Image.Image, profile_bytes: object) -> Image.Image:
    """The picture in sRGB, by its profile."""
    if not isinstance(profile_bytes, bytes) or not profile_bytes:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_bytes))
        if profile.profile.xcolor_space.strip() != _SPACES[image.mode]:
            return image
        named = (profile.profile.profile_description or "").startswith("sRGB")
        if named and not _changes_greys(image.mode, profile):
            return image
        converted = _converted(image, profile)
    except (OSError, ImageCms.PyCMSError, ValueError, TypeError):
        # Viewers show such pictures all the same.
        return image
    return image if converted is None else converted


def _changes_greys(mode: str, profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether a profile's greys are clearly others than sRGB's: those of linear light are,
    whatever it is called."""
    greys = np.arange(256, dtype=np.uint8)[None]
    shown = _converted(Image.fromarray(greys).convert(mode), profile)
    if shown is None:
        return False
    return bool(np.abs(np.asarray(shown, np.int16) - greys[..., None]).max() > _MOST_ROUNDING)


def _converted(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image | None:
    return ImageCms.profileToProfile(
        image,
        profile,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
