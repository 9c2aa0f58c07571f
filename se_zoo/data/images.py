"""From an image file of any kind to upright RGB pixels."""

from pathlib import Path
from typing import BinaryIO, Tuple, Union

from PIL import Image, ImageOps, UnidentifiedImageError

#: Files with these endings, in any case, are images; other files in a data folder are not.
IMAGE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


def read_rgb(file: Union[Path, BinaryIO]) -> Image.Image:
    """The image, decoded to its last byte, turned as its EXIF orientation says, in RGB.

    Grey, palette and CMYK images are converted; a transparent one is laid on white; of several
    frames it is the first.

    Raises:
        ValueError: With the reason, without the file's name: not an image, truncated or corrupt,
            empty, or of pixels whose range is unknown (float, 16 and 32 bit).
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
    # On damaged files Pillow's plugins raise nearly anything (struct.error, EOFError, IndexError,
    # SyntaxError, zlib.error, DecompressionBombError); whatever it is, the file is unusable.
    except Exception as error:
        raise ValueError(f"cannot read the image: {str(error) or type(error).__name__}") from error
    raise ValueError(refusal)


def _refusal(image: Image.Image) -> str:
    """Why the pixels cannot be used, or nothing."""
    if 0 in image.size:
        return f"it is empty ({image.width} x {image.height} pixels)"
    if image.mode == "F" or image.mode.startswith("I"):
        # PIL clips these to 0..255 without a word, which is rarely what their range means.
        return (
            f"it has {image.mode} pixels (float or 16/32 bit), whose range is unknown; convert it "
            "to 8 bit first"
        )
    return ""


def _to_rgb(image: Image.Image) -> Image.Image:
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def seen_size(photo: Tuple[int, int], size: Tuple[int, int], crop_pct: float) -> Tuple[int, int]:
    """Return the size of the part of a photo that a centre crop shows, in the photo's pixels.

    Args:
        photo: Width and height of the photo.
        size: Height and width of the model's input.
        crop_pct: Share of the shorter side that is seen.

    Returns:
        Width and height.
    """
    height, width = size
    zoom = min(photo[0] / width, photo[1] / height) * crop_pct
    return max(1, round(width * zoom)), max(1, round(height * zoom))
