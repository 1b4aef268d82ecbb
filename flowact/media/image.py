"""A picture as people have it on disk, made into one RGB frame."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from flowact.media.files import input_file

# A quarter of a gigabyte of RGB, where Pillow too begins to suspect a decompression bomb.
MAX_PIXELS = 1024**3 // 4 // 3
# Below this there is nobody to be seen.
MIN_SIDE = 16
# The share of what is cut from a picture's height that is cut from its top. People stand with
# their heads near the upper edge: a central crop beheads them, and a crop from the very top
# loses the mouth of a close-up.
TOP_CUT = 1 / 8
BACKGROUND = (128, 128, 128)


def load_image(source: str | Path | Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """The picture, upright and in sRGB, scaled to cover ``height`` x ``width`` and cropped to it.

    Sides are cropped equally; of the height, an eighth of the cut is taken from the top. Embedded
    colour profiles are applied, transparency is laid over grey, 16-bit samples are scaled to 8, and
    of an animation the first frame is taken.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        ValueError: the file is missing, empty, truncated or no image, a side is shorter than
            ``MIN_SIDE``, or it holds more than ``MAX_PIXELS``.
    """
    if isinstance(source, Image.Image):
        return _frame(source, "the image", height, width)
    path = input_file(source, "image")
    name = f"image file {path}"
    with _named_errors(name):
        image = Image.open(path)
    with image:
        return _frame(image, name, height, width)


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Turns what Pillow raises into a ``ValueError`` that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about bombs, which are refused, and odd metadata
            yield
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} has more than {MAX_PIXELS} pixels; scale it down") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not an image of a known format, or is damaged") from error
    except Exception as error:  # Pillow's parsers raise anything on malformed bytes
        reason = " ".join(str(error).split())
        raise ValueError(f"{name} cannot be decoded: {reason}") from error


def _frame(image: Image.Image, name: str, height: int, width: int) -> NDArray[np.uint8]:
    if min(image.size) < MIN_SIDE:
        size = f"{image.width}x{image.height}"
        raise ValueError(f"{name} is {size} pixels; each side must have {MIN_SIDE} or more")
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{name} has more than {MAX_PIXELS} pixels; scale it down")
    with _named_errors(name):
        profile = image.info.get("icc_profile")
        flat = _eight_bit(ImageOps.exif_transpose(image))
        return np.array(_srgb(_cover(flat, height, width), profile))


def _eight_bit(image: Image.Image) -> Image.Image:
    """``image`` in mode L, RGB or CMYK, the modes that colour profiles are made for."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit samples, which some decoders widen to 32
        samples = np.asarray(image).clip(0, 65535)
        return Image.fromarray((samples / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, BACKGROUND)
        ground.alpha_composite(image.convert("RGBA"))
        return ground.convert("RGB")
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")


def _cover(image: Image.Image, height: int, width: int) -> Image.Image:
    """The largest part of ``image`` with the aspect of the frame, at the frame's size."""
    part_width = min(image.width, image.height * width / height)
    part_height = min(image.height, image.width * height / width)
    left = (image.width - part_width) / 2
    top = (image.height - part_height) * TOP_CUT
    box = (left, top, left + part_width, top + part_height)
    return image.resize((width, height), Image.Resampling.LANCZOS, box, reducing_gap=3.0)


def _srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            return ImageCms.buildTransform(source, target, image.mode, "RGB").apply(image)
        except (OSError, ImageCms.PyCMSError):
            pass  # a broken profile, or one for other channels: the pixels are still good
    return image.convert("RGB")
