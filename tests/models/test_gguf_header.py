"""The head of a GGUF file: what it may tell of, before anybody believes it."""

import struct

import gguf
import numpy as np
import pytest

from turnsmith.errors import ModelError
from turnsmith.models import gguf_header

U32, U64, TEXT, LIST = 4, 10, 8, 9  # kinds of settings in the specification


def text(said):
    return struct.pack("<Q", len(said)) + said.encode()


def setting(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def tensor(name="w", shape=(4, 2), kind=0, offset=0):
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


TENSOR = tensor()


def written(path, settings=(), tensors=(TENSOR,), *, counts=None, version=3, data=32):
    """A file by the specification. counts: what it says that it holds, where that is not so."""
    said = counts or (len(tensors), len(settings))
    head = b"GGUF" + struct.pack("<IQQ", version, *said) + b"".join(settings) + b"".join(tensors)
    path.write_bytes(head + bytes(-len(head) % 32) + bytes(data))
    return path


ARCHITECTURE = setting("general.architecture", TEXT, text("llama"))


def llama(name, value):
    return [ARCHITECTURE, setting(f"llama.{name}", U32, struct.pack("<I", value))]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.gguf"


def test_what_llama_cpps_own_writer_writes_is_sound(file):
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(32)
    writer.add_token_list(["a", "b"])
    writer.add_token_scores([0.5, 1.5])
    for name in ("token_embd.weight", "blk.0.attn_q.weight"):
        writer.add_tensor(name, np.ones((2, 32), np.float16))
    writer.add_tensor(
        "packed",
        gguf.quantize(np.ones((2, 32), np.float32), gguf.GGMLQuantizationType.Q8_0),
        raw_dtype=gguf.GGMLQuantizationType.Q8_0,
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    gguf_header.check(file)


def test_what_the_specification_says_is_sound(file):
    gguf_header.check(written(file))
    gguf_header.check(written(file, llama("block_count", 1)))
    gguf_header.check(written(file, llama("embedding_length", 4)))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"version": 1}, "version 1, and versions 2 and 3 are known"),
        ({"counts": (2**60, 0)}, "tells of 1,152,921,504,606,846,976 things at byte"),
        ({"counts": (0, 2**60)}, "tells of 1,152,921,504,606,846,976 things at byte"),
        ({"settings": [struct.pack("<Q", 10**6)]}, r"it ends at byte [\d,]+, inside its head"),
        ({"data": 31}, "the tensor 'w' ends behind the end of the file"),
        ({"tensors": [tensor(shape=(2**40, 2**40))]}, "the tensor 'w' ends behind"),
        ({"tensors": [tensor(offset=2**63)]}, "the tensor 'w' ends behind"),
        ({"tensors": [tensor(shape=(1,) * 9)], "data": 200}, "has 9 dimensions"),
        ({"tensors": [tensor(kind=999)]}, "999"),
        ({"tensors": [tensor(kind=8, shape=(5,))]}, "not made of whole blocks of 32"),
        ({"tensors": [tensor(), tensor()]}, "two tensors have one name"),
        ({"settings": [ARCHITECTURE, ARCHITECTURE]}, "has the setting 'general.architecture' twice"),
        ({"settings": [setting("x", 77, b"")]}, "of the unknown kind 77"),
        ({"settings": [setting("x", LIST, struct.pack("<IQ", U64, 2**61))]}, "which it has no room for"),
        ({"settings": [setting("x", LIST, struct.pack("<IQ", LIST, 1) * 9)]}, "of the unknown kind 9"),
        ({"settings": [setting("general.alignment", U32, bytes(4))]}, "aligned to 0 bytes"),
        ({"settings": llama("block_count", 2**31)}, "llama.block_count is 2147483648, .* for 1 at most"),
        ({"settings": llama("embedding_length", 5)}, "llama.embedding_length is 5, .* for 4 at most"),
        ({"settings": llama("vocab_size", 2**31)}, "llama.vocab_size is 2147483648"),
    ],
)
def test_what_it_cannot_hold_is_refused(file, given, complaint):
    with pytest.raises(ModelError, match=f"cannot be read as a GGUF model: .*{complaint}"):
        gguf_header.check(written(file, **given))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGU", b"<html>", b"GGUF" + bytes(3)])
def test_what_is_no_gguf_file_is_refused(file, content):
    file.write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read as a GGUF model"):
        gguf_header.check(file)
