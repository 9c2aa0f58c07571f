"""Reading image files as upright RGB images."""

from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Iterator, List, Tuple, Union

from PIL import Image, ImageOps, UnidentifiedImageError

from ..files import check_regular

#: Files with these endings, in any case, are images; other files in a data folder are not.
IMAGE_SUFFIXES = frozenset(
    (
        ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".ppm",
        ".tif", ".tiff", ".webp",
    )
)  # fmt: skip
#: Kinds of HEIF files that hold HEIC photos, as bytes 8 to 12 of the file say.
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"))
#: Pillow's names of the formats that are read, whatever a file's ending. Pillow knows some thirty
#: more, which run other programs (PostScript) or are too rare to be trusted.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "AVIF", "HEIF")
#: Larger images are refused by their header, before memory is taken for them. A panorama of 100
#: megapixels is smaller.
MAX_PIXELS = 120_000_000
#: Longest side of an image, in pixels: JPEG's own limit.
MAX_SIDE = 65_535
#: Largest file of an image, in bytes: MAX_PIXELS without compression.
MAX_BYTES = 2**29


def check_size(width: int, height: int) -> None:
    """Refuse pictures that would take too much memory.

    Args:
        width: Width in pixels.
        height: Height in pixels.

    Raises:
        ValueError: If there are more than MAX_PIXELS pixels, or a side is longer than MAX_SIDE.
    """
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ValueError(
            f"it has {width:,} x {height:,} pixels; at most {MAX_PIXELS:,}, and {MAX_SIDE:,} a "
            "side, are read. Make it smaller first"
        )


@contextmanager
def open_image(file: Union[Path, BinaryIO]) -> Iterator[Image.Image]:
    """Open an image of a known format and a sensible size, without decoding its pixels.

    Args:
        file: The file, or its bytes as a binary file object.

    Yields:
        The image as Pillow opened it.

    Raises:
        ValueError: If the file is not such an image, or an error of Pillow's occurs inside the
            block. The message does not name the file.
    """
    try:
        if isinstance(file, Path):
            check_regular(file)
            if (size := file.stat().st_size) > MAX_BYTES:
                raise ValueError(f"it has {size:,} bytes; at most {MAX_BYTES:,} are read")
        if _is_heic(file):
            _read_heic()
        with Image.open(file, formats=_known_formats()) as opened:
            check_size(*opened.size)
            yield opened
    except _NoHeifReader:
        raise ValueError('a HEIC photo; to read these, pip install "se_zoo[heif]"') from None
    except UnidentifiedImageError:
        raise ValueError(f"not an image ({', '.join(_known_formats())} are read)") from None
    # Pillow's plugins raise many kinds of errors on damaged files (struct.error, EOFError,
    # IndexError, SyntaxError, zlib.error, DecompressionBombError).
    except Exception as error:
        raise ValueError(f"cannot read the image: {str(error) or type(error).__name__}") from error


def _known_formats() -> List[str]:
    """Return the formats of FORMATS for which there is a plugin now."""
    if "TIFF" not in Image.OPEN:
        Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def read_rgb(file: Union[Path, BinaryIO]) -> Image.Image:
    """Read an image file as an upright RGB image.

    The whole file is decoded, and the image is rotated by its EXIF orientation. Grey, palette and
    CMYK images are converted, transparent images get a white background, and animated images are
    reduced to their first frame.

    HEIC photos need the extra ``heif``.

    Args:
        file: The file, or its bytes as a binary file object.

    Returns:
        The image, in mode RGB.

    Raises:
        ValueError: If the file is not an image of a known format, truncated, corrupt, empty or
            larger than MAX_PIXELS, or its pixels have an unknown range (float, 16 and 32 bit). The
            message does not name the file.
    """
    with open_image(file) as opened:
        opened.load()
        image = ImageOps.exif_transpose(opened)
    refusal = _refusal(image)
    if refusal:
        raise ValueError(refusal)
    try:
        return _to_rgb(image)
    except Exception as error:  # a damaged palette or profile shows only now
        raise ValueError(f"cannot read the image: {str(error) or type(error).__name__}") from error


class _NoHeifReader(Exception):
    """The file is a HEIC photo, and pillow-heif is not installed."""


def _read_heic() -> None:
    """Teach Pillow to read HEIC photos, when the first one comes."""
    try:
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found]
    except ImportError:
        raise _NoHeifReader from None
    register_heif_opener()


def _is_heic(file: Union[Path, BinaryIO]) -> bool:
    """Return whether a file begins as HEIC photos do."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            head = opened.read(12)
    else:
        file.seek(0)
        head = file.read(12)
        file.seek(0)
    return head[4:8] == b"ftyp" and head[8:] in _HEIC_BRANDS


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
        ValueError: If it is empty or damaged, or its pixels have an unknown range.
        OSError: If its file ends early.
    """
    try:
        upright = ImageOps.exif_transpose(image)
        refusal = _refusal(upright)
        if refusal:
            raise ValueError(refusal)
        return _to_rgb(upright)
    except (MemoryError, ValueError, OSError):
        raise
    except Exception as error:  # an image that is not decoded yet may be damaged, see open_image
        raise ValueError(f"cannot read the image: {str(error) or type(error).__name__}") from error
