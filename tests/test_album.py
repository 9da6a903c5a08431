"""Images by their digests: what they are as ids, and what is kept of them."""

import base64
import hashlib
import struct
import zlib

import pytest

from turnsmith import album
from turnsmith.errors import DataError, ModelError
from turnsmith.testing import picture
from turnsmith.types import Image


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))


def test_the_ids_of_an_image_are_48_bits_of_its_digest_times_1024_above_all_vocabularies():
    image = Image("", "0000000000ff" + "9" * 52)
    assert album.ids(image, 3) == [2**32 + 255 * 1024 + k for k in range(3)]
    last = Image("", "f" * 64)
    assert max(album.ids(last, 1024)) < 2**63  # they fit into tensors of ids


def test_images_have_one_run_of_ids_for_one_file_and_others_for_others(tmp_path):
    red, blue = picture((255, 0, 0)), picture((0, 0, 255))
    file = tmp_path / "red.png"
    file.write_bytes(base64.b64decode(red.url.partition(",")[2]))
    assert album.ids(album.found(str(file), "here"), 4) == album.ids(red, 4)
    assert not set(album.ids(red, 1024)) & set(album.ids(blue, 1024))
    assert red.digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_what_was_kept_is_seen_by_its_number():
    red = picture((255, 0, 0))
    number = (album.ids(red, 1)[0] - album.FIRST) // album.MOST
    with pytest.raises(ModelError, match=r"is not in .*images, where it was put when it was rendered"):
        album.opened(number)
    album.keep(red)
    assert album.opened(number).getpixel((3, 3)) == (255, 0, 0)


def test_a_file_that_has_changed_or_gone_is_refused(tmp_path):
    file = tmp_path / "one.png"
    file.write_bytes(b"first")
    image = album.found(str(file), "here")
    file.write_bytes(b"second")
    with pytest.raises(DataError, match="is not what it was when the data were read"):
        album.keep(image)
    file.unlink()
    with pytest.raises(DataError, match="cannot be read any more"):
        album.keep(image)


def test_what_is_no_picture_is_said_when_it_is_looked_at(tmp_path):
    file = tmp_path / "one.png"
    file.write_bytes(b"no picture")
    image = album.found(str(file), "here")
    album.keep(image)
    with pytest.raises(ModelError, match="cannot be decoded"):
        album.opened(int(image.digest[:12], 16))


def seen(tmp_path, content):
    file = tmp_path / "one"
    file.write_bytes(content)
    image = album.found(str(file), "here")
    album.keep(image)
    return album.opened(int(image.digest[:12], 16))


def test_a_picture_of_more_pixels_than_memory_is_for_is_refused(tmp_path):
    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)  # PNG's IHDR: width, height, kind
    chunks = [(b"IHDR", head), (b"IDAT", b"")]
    png = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    with pytest.raises(ModelError, match="is too large"):
        seen(tmp_path, b"\x89PNG\r\n\x1a\n" + png)


def test_a_format_that_is_a_program_is_no_picture(tmp_path):
    with pytest.raises(ModelError, match="cannot be decoded: cannot identify"):
        seen(tmp_path, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")


def test_a_device_is_not_read_to_an_end_that_never_comes():
    with pytest.raises(DataError, match="it is no file"):
        album.found("/dev/zero", "here")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "large.png").open("wb") as opened:
        opened.truncate(album.BYTES + 1)
    with pytest.raises(DataError, match="a file of more than 268,435,456 bytes"):
        album.found(str(tmp_path / "large.png"), "here")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("https://example.org/a.png", "lies elsewhere: fetch it"),
        ("nowhere.png", "there is no image at"),
        ("data:image/png,raw", "must say ;base64"),
        ("data:image/png;base64,###", "its base64 is broken"),
    ],
)
def test_what_cannot_be_found_is_refused_with_its_place(url, complaint):
    with pytest.raises(DataError, match=rf"messages\[1\].*{complaint}"):
        album.found(url, "messages[1]")


def test_two_images_with_the_same_number_are_refused():
    red = picture((255, 0, 0))
    album.keep(red)
    with pytest.raises(DataError, match="two images have digests that begin with"):
        album.keep(Image(red.url, red.digest[:12] + "0" * 52))


def test_a_server_is_given_the_file_itself(tmp_path):
    red = picture((255, 0, 0))
    file = tmp_path / "red.png"
    file.write_bytes(base64.b64decode(red.url.partition(",")[2]))
    assert album.carried(album.found(str(file), "here")) == red
    assert album.carried(red) is red
