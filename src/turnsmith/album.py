"""Pictures: kept once, by the digest of their file, and as token ids that no vocabulary has.

An image is a run of ids of its own, made of its digest. So two images are two sequences to everything that
compares ids (prefixes that are shared, prompts that were read before, states that are kept), and one image is
one wherever it stands. `models/fronts.py` puts what it sees in place of these ids.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import mimetypes
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from turnsmith import wheels
from turnsmith.errors import DataError, ModelError
from turnsmith.types import Image

if TYPE_CHECKING:
    from PIL import Image as Picture

FIRST = 2**32  # the first id of an image: above those of any vocabulary
MOST = 1024  # tokens of one image
BYTES = 1 << 28  # of one image's file
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")  # others call programs, or are read by nobody
# What PIL raises of files that are torn.
BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)
DIGITS = 12  # of the digest, hexadecimal: 48 bits: two of a million images are alike in one album of 560


def of_bytes(file: bytes, kind: str = "png") -> Image:
    """An image that carries its own file. kind: of the file, as media types call it."""
    return Image(f"data:image/{kind};base64,{base64.b64encode(file).decode()}", digest(file))


def carried(image: Image) -> Image:
    """The image, carrying its own file. Raises DataError where that is gone."""
    if image.url.startswith("data:"):
        return image
    kind = mimetypes.guess_type(image.url)[0] or "image/png"
    keep(image)
    return of_bytes(_place(image.digest[:DIGITS]).read_bytes(), kind.removeprefix("image/"))


def found(url: str, where: str) -> Image:
    """The image at a path, or in a `data:` URI. Raises DataError, naming `where`, if there is none."""
    if url.startswith(("http://", "https://")):
        raise DataError(f"{where}: {url:.60} lies elsewhere: fetch it, and give its path")
    url = url.removeprefix("file://")
    if not url.startswith("data:"):
        url = str(Path(url).expanduser().absolute())
    try:
        return Image(url, digest(_read(url)))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{where}: there is no image at {url:.60} ({error}); paths begin at the folder this is run in"
        ) from None


def digest(file: bytes) -> str:
    """By which an image is known."""
    return hashlib.sha256(file).hexdigest()


def ids(image: Image, count: int) -> list[int]:
    """The `count` ids of an image, at most MOST.

    >>> [id - FIRST for id in ids(Image("", "00000000000200"), 3)]
    [2048, 2049, 2050]
    """
    start = FIRST + int(image.digest[:DIGITS], 16) * MOST
    return list(range(start, start + count))


def keep(image: Image) -> None:
    """Put the image's file into the album, so that it can be seen by its ids.

    Raises DataError where the file is gone, or is another one than it was when the data were read.
    """
    place = _place(image.digest[:DIGITS])
    if place.exists():
        if digest(place.read_bytes()) != image.digest:
            raise DataError(f"two images have digests that begin with {place.name}: leave one of them out")
        return
    try:
        file = _read(image.url)
    except (OSError, ValueError) as error:
        raise DataError(f"the image {image.url:.60} cannot be read any more: {error}") from None
    if digest(file) != image.digest:
        raise DataError(
            f"the image {image.url:.60} is not what it was when the data were read: read them anew"
        )
    with wheels.aside(place) as written:
        written.write_bytes(file)


def opened(number: int) -> Picture.Image:
    """The picture whose first id is FIRST + number * MOST, in RGB. Raises ModelError where it was never
    kept, or is no picture."""
    from PIL import Image as Picture

    place = _place(f"{number:0{DIGITS}x}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Picture.DecompressionBombWarning)
            with Picture.open(place, formats=FORMATS) as picture:
                return picture.convert("RGB")
    except FileNotFoundError:
        raise ModelError(
            f"the image {place.name} is not in {place.parent}, where it was put when it was rendered: render "
            "the data again (remove the tokens on the shelf), or bring it back"
        ) from None
    except (Picture.DecompressionBombWarning, Picture.DecompressionBombError) as error:
        raise ModelError(f"the image {place.name} in {place.parent} is too large: {error}") from None
    except BROKEN as error:
        raise ModelError(f"the image {place.name} in {place.parent} cannot be decoded: {error}") from None


def _place(name: str) -> Path:
    return wheels.home() / "images" / name


def _read(url: str) -> bytes:
    """The file. Raises OSError or ValueError where there is none."""
    if not url.startswith("data:"):
        file = Path(url)
        if file.exists() and not file.is_file():
            raise ValueError("it is no file")
        if file.stat().st_size > BYTES:
            raise ValueError(f"a file of more than {BYTES:,} bytes")
        return file.read_bytes()
    head, comma, body = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise ValueError("a data: URI of an image must say ;base64 before its comma")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise ValueError(f"its base64 is broken: {error}") from None
