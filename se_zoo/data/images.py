"""Reading image files as upright RGB images."""

from pathlib import Path
from typing import BinaryIO, Tuple, Union

from PIL import Image, ImageOps, UnidentifiedImageError

#: Files with these endings, in any case, are images; other files in a data folder are not.
IMAGE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


def read_rgb(file: Union[Path, BinaryIO]) -> Image.Image:
    """Read an image file as an upright RGB image.

    The whole file is decoded, and the image is rotated by its EXIF orientation. Grey, palette and
    CMYK images are converted, transparent images get a white background, and animated images are
    reduced to their first frame.

    Args:
        file: The file, or its bytes as a binary file object.

    Returns:
        The image, in mode RGB.

    Raises:
        ValueError: If the file is not an image, truncated, corrupt or empty, or its pixels have an
            unknown range (float, 16 and 32 bit). The message does not name the file.
    """
    try:
        with Image.open(file) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)
        refusal = _refusal(image)
        if not refusal:
            return _to_rgb(image)
    except UnidentifiedImageError:
        raise ValueError("not an image") from None
    # Pillow's plugins raise many kinds of errors on damaged files (struct.error, EOFError,
    # IndexError, SyntaxError, zlib.error, DecompressionBombError).
    except Exception as error:
        raise ValueError(f"cannot read the image: {str(error) or type(error).__name__}") from error
    raise ValueError(refusal)


def _refusal(image: Image.Image) -> str:
    """Return why the pixels cannot be used, or "" if they can."""
    if 0 in image.size:
        return f"it is empty ({image.width} x {image.height} pixels)"
    if image.mode == "F" or image.mode.startswith("I"):
        # PIL would silently clip these to 0..255, which is rarely their range.
        return (
            f"it has {image.mode} pixels (float or 16/32 bit), whose range is unknown; convert it "
            "to 8 bit first"
        )
    return ""


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return an image in mode RGB, transparent pixels on white."""
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == "RGB" else image.convert("RGB")  # no copy of a huge photo


def seen_size(photo: Tuple[int, int], size: Tuple[int, int], crop_pct: float) -> Tuple[int, int]:
    """Return the size of the part of a photo that remains after a centre crop.

    Args:
        photo: Width and height of the photo.
        size: Height and width of the model's input.
        crop_pct: Share of the shorter side that the crop keeps.

    Returns:
        Width and height, in the photo's pixels.
    """
    height, width = size
    zoom = min(photo[0] / width, photo[1] / height) * crop_pct
    return max(1, round(width * zoom)), max(1, round(height * zoom))


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return an opened image as :func:`read_rgb` returns a file.

    Args:
        image: The image, in any mode; it is not changed.

    Returns:
        The image, upright by its EXIF orientation, in mode RGB.

    Raises:
        ValueError: If it is empty, or its pixels have an unknown range.
    """
    upright = ImageOps.exif_transpose(image)
    refusal = _refusal(upright)
    if refusal:
        raise ValueError(refusal)
    return _to_rgb(upright)
