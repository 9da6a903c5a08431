"""Gives broken input to what reads files of others: nothing but our own errors may come out.

    python tools/fuzz.py [--inputs N] [--seed N] [TARGET...]

Targets: recipes, rows, formats, templates, checkpoints, archives, headers. Each gets a share of the inputs,
by how long one takes: what is sound, and what becomes of it when bytes are turned, cut out, doubled, or words
are put in that readers stumble over. An input is made from the seed and its number, so that what is found is
found again.
Exit code 0 if every reader took or refused every input in time, 1 if not: the first inputs of each kind of
failure are written into `fuzz/`.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from templates import templates as chat_templates

from turnsmith import album, wheels
from turnsmith.data import formats, lines, parquet, read
from turnsmith.data.probe import PROBE, discover
from turnsmith.data.quarantine import Quarantine
from turnsmith.data.template import Template
from turnsmith.errors import TurnsmithError
from turnsmith.models import directory, gguf_header, own, patch
from turnsmith.models.directory import INDEX, PARTS, PATCH
from turnsmith.recipes import FOLDER, components, schema
from turnsmith.testing.builders import variety
from turnsmith.train import checkpoint
from turnsmith.types import is_object

LIMIT = 20  # seconds of work for an input: what takes longer hangs
KEPT = 3  # inputs that are written down of each kind of failure
WORDS = (
    *(b"null", b"{}", b"[]", b"-1", b"1e999", b"nan", b"9" * 5000, b"[" * 500, b'{"a":' * 500, b"\xff\xfe"),
    *(b"\0", b"\xed\xa0\x80", b'"', b"\\ud800", b"\r\n", b"\t", b"&a ", b"*a", b"<<: *a", b"!!int x", b"? "),
    *(
        b"!!python/object/apply:os.system [ls]",
        b"2001-02-30",
        b"- ",
        b": ",
        b"{%",
        b"%}",
        b"{{",
        b"}}",
        b"=: ",
    ),
    *(b"{{ ''.__class__.__mro__ }}", b"{{ 1/0 }}", b"{% for x in messages %}", b"{% include 'x' %}", b" | x"),
)
Reader = Callable[[bytes], None]


class Hangs(Exception):
    """Raised in a reader that has taken too long."""


def mutated(sound: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """The text after some changes; in one case of twenty as it is."""
    found = bytearray(sound)
    for _ in range(0 if rng.random() < 0.05 else 1 + int(rng.expovariate(0.5))):
        at = rng.randrange(len(found) + 1)
        until = min(len(found), at + int(rng.expovariate(0.1)))
        change = rng.randrange(6)
        if change == 0 and found:
            found[min(at, len(found) - 1)] ^= 1 << rng.randrange(8)
        elif change == 1:
            del found[at:until]
        elif change == 2:
            found[at:at] = found[at:until]
        elif change == 3:
            found[at:until] = rng.choice(WORDS)
        elif change == 4:
            del found[at:]
        else:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            found[at:until] = other[start : start + 40]
    return bytes(found)


# ------------------------------------------------------------------------------------------------ targets


def recipes() -> tuple[list[bytes], Reader]:
    registry = components(())

    def reads(given: bytes) -> None:
        plain = schema.parse(given.decode("utf-8", "replace"), "fuzz.yaml")
        schema.arms(plain, "fuzz.yaml", registry)

    return [path.read_bytes() for path in sorted(FOLDER.glob("*.yaml"))], reads


def rows() -> tuple[list[bytes], Reader]:
    """Files of rows; the first bytes say their ending."""
    texts = [
        (
            ".jsonl",
            b'{"id": 1, "prompt": "Hi", "completion": "Hello"}\n{"prompt": "a\xc3\xa9", "n": [1, null]}\n',
        ),
        (".json", b'[{"messages": [{"role": "user", "content": "Hi"}]}, {"messages": []}]'),
        (".csv", b'id,prompt,completion\n1,"Hi, you","a ""b"" c"\n2,x,\n'),
        (".tsv", b"prompt\tcompletion\nHi\tHello\n"),
    ]
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    packed = folder / "rows.parquet"
    with packed.open("wb") as opened:
        parquet.write(lambda: iter([{"prompt": "Hi", "completion": "Hello"}]), opened)
    corpus = [ending.encode() + b"\n" + text for ending, text in texts]
    corpus += [b".parquet\n" + packed.read_bytes(), b".jsonl.gz\n" + gzip.compress(texts[0][1], mtime=0)]

    def reads(given: bytes) -> None:
        ending, _, text = given.partition(b"\n")
        named = ending.decode("latin-1") if ending.decode("latin-1") in _ENDINGS else ".jsonl"
        file = folder / f"given{named}"
        file.write_bytes(text)
        with contextlib.suppress(TurnsmithError):
            list(read.rows(file))
        list(read.rows(file, Quarantine(folder / "bad.jsonl")))

    return corpus, reads


_ENDINGS = {*read.ENDINGS, *(f"{one}{lines.GZIP}" for one in read.ENDINGS[:4])}


def written() -> tuple[list[bytes], Reader]:
    """Rows of every format that can be written, read as every format."""
    registry = components(())
    names = sorted(entry.name for entry in registry.entries("format"))
    corpus: list[bytes] = []
    for name in names:
        if registry.entry("format", name).traits.get("writer"):
            for example in (replace(one, values={}) for one in variety()):
                with contextlib.suppress(TurnsmithError):
                    corpus.append(json.dumps(registry.writer(name)(example)[0], ensure_ascii=False).encode())

    def reads(given: bytes) -> None:
        try:
            row: Any = json.loads(given.decode("utf-8", "replace"))
        except (ValueError, RecursionError):  # rows are parsed before: that is the target `rows`
            return
        if not is_object(row):
            return
        for name in names:
            with contextlib.suppress(TurnsmithError):
                list(formats.examples([("fuzz-1", row)], name, registry, "fuzz", Counter()))

    return corpus, reads


def templates() -> tuple[list[bytes], Reader]:
    special = ["<|im_start|>", "<|im_end|>", "</s>", "<eos>"]

    def reads(given: bytes) -> None:
        template = Template(
            given.decode("utf-8", "replace"), {"eos_token": "<eos>", "bos_token": "<s>"}, special
        )
        with contextlib.suppress(TurnsmithError):
            template.text(PROBE, prompt=True)
        discover(template)

    return [text.encode() for text in chat_templates().values()], reads


def checkpoints() -> tuple[list[bytes], Reader]:
    """One file of the newest of two checkpoints; the one before it has to be taken, or the newest, whole."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    weight = torch.nn.Parameter(torch.randn(3, 4))
    optimizer: Any = torch.optim.AdamW([weight], lr=0.1)
    weight.grad = torch.randn(3, 4)
    optimizer.step()
    for step in (1, 2):
        checkpoint.save(folder, step, {"w": weight}, optimizer, {"tokens": 5, "best": None})
    newest = folder / "step-0000002"
    sound = {file.name: file.read_bytes() for file in sorted(newest.iterdir())}

    def reads(given: bytes) -> None:
        name, _, text = given.partition(b"\n")
        file = newest / (name.decode("latin-1") if name.decode("latin-1") in sound else checkpoint.SUMS)
        before = sound[file.name]
        file.write_bytes(text)
        try:
            found = checkpoint.load(folder, {"w": torch.nn.Parameter(torch.zeros(3, 4))}, optimizer)
        finally:
            file.write_bytes(before)
        same = text == before or (
            file.name == checkpoint.SUMS and found is not None and found[0]["step"] == 2
        )
        assert found is not None, "no checkpoint was taken"
        assert found[0]["step"] == (2 if same else 1), "a broken checkpoint was taken"

    return [name.encode() + b"\n" + text for name, text in sound.items()], reads


def archives() -> tuple[list[bytes], Reader]:
    """Wheels, of which files are unpacked, and images; the first bytes say which. Nothing may be written
    beside the place where it belongs."""
    home = Path(tempfile.mkdtemp(prefix="fuzz-")) / "deep" / "home"
    wheel, image = home / "wheels" / "fuzz-1-py3-none-any.whl", home / "images" / ("0" * album.DIGITS)
    for file in (wheel, image):
        file.parent.mkdir(parents=True)

    def packed(*names: str, how: int = zipfile.ZIP_DEFLATED) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", how) as archive:
            for name in names:
                archive.writestr(zipfile.ZipInfo(name), b"what is in it " * 5, how)
        return b"wheel\n" + made.getvalue()

    corpus = [
        packed("inner/a.json", "inner/deep/b.txt", "fuzz-1.dist-info/METADATA"),
        packed("inner", how=zipfile.ZIP_STORED),
        packed("inner/../../../out", "/inner/b", "inner/A", "inner/a", "inner/a/b", how=zipfile.ZIP_STORED),
    ]
    for kind in ("PNG", "JPEG", "GIF", "BMP"):
        made = io.BytesIO()
        Image.effect_noise((9, 7), 50).convert("P" if kind == "GIF" else "RGB").save(made, kind)
        corpus.append(b"image\n" + made.getvalue())

    def reads(given: bytes) -> None:
        kind, _, content = given.partition(b"\n")
        shutil.rmtree(home / "files", ignore_errors=True)
        for file in wheel.parent.iterdir():
            file.unlink()
        (image if kind == b"image" else wheel).write_bytes(content)
        with environment(TURNSMITH_HOME=str(home)):
            try:
                if kind == b"image":
                    album.opened(0)
                else:
                    wheels.fetch("pypi:fuzz==1/inner")
            finally:
                tops = {path.name for path in home.iterdir()} | {path.name for path in home.parent.iterdir()}
                assert tops <= {"home", "wheels", "images", "files"}, f"written beside: {tops}"

    return corpus, reads


@contextlib.contextmanager
def environment(**values: str) -> Generator[None]:
    """These variables in the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def headers() -> tuple[list[bytes], Reader]:
    """Files of weights; the first bytes say of which kind. What the head of a GGUF file is found sound in is
    given to the library that reads it for real."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    names = {"gguf": "a.gguf", "parts": PARTS, "patch": PATCH, "index": INDEX}
    made = {kind: folder / name for kind, name in names.items()}
    writer = gguf.GGUFWriter(made["gguf"], "llama")
    for setting in (writer.add_block_count, writer.add_embedding_length, writer.add_head_count):
        setting(1)
    writer.add_token_list(["a", "b"])
    writer.add_token_scores([0.0, 1.0])
    for name in ("token_embd.weight", "blk.0.attn_q.weight"):
        writer.add_tensor(name, np.ones((2, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file({"w": torch.ones(2, 3), "h": torch.ones(4, dtype=torch.float16)}, made["parts"])
    patch.write({"w": patch.Sparse((2, 3), torch.tensor([1, 4]), torch.ones(2), "digest")}, made["patch"])
    made["index"].write_text(json.dumps({"metadata": {}, "weight_map": {"w": PARTS, "h": PARTS}}))

    def reads(given: bytes) -> None:
        called, _, content = given.partition(b"\n")
        kind = called.decode("latin-1")
        file = made.get(kind, made["parts"])
        before = file.read_bytes()
        file.write_bytes(content)
        try:
            if kind == "gguf":
                gguf_header.check(file)
                with contextlib.suppress(*NOT_READ):
                    gguf.GGUFReader(file)
            elif kind == "patch":
                patch.read(file)
            elif kind == "index":
                directory.shards(folder)
            else:
                directory.header(file)
                own.kept(folder)
        finally:
            file.write_bytes(before)

    return [kind.encode() + b"\n" + file.read_bytes() for kind, file in made.items()], reads


NOT_READ = (ValueError, LookupError, TypeError, OverflowError)  # which become an error of ours


TARGETS: Mapping[
    str, tuple[float, Callable[[], tuple[list[bytes], Reader]]]
] = {  # with their share of the inputs
    "recipes": (0.05, recipes),
    "rows": (0.4, rows),
    "formats": (0.4, written),
    "templates": (0.02, templates),
    "checkpoints": (0.07, checkpoints),
    "archives": (0.03, archives),
    "headers": (0.03, headers),
}


# ------------------------------------------------------------------------------------------------ running


def fuzz(name: str, inputs: int, seed: int, found: Path) -> Counter[str]:
    """Give the target so many inputs; counts what came of them. found: where failures are written."""
    corpus, reads = TARGETS[name][1]()
    counts: Counter[str] = Counter()
    for number in range(inputs):
        rng = random.Random(f"{seed} {name} {number}")
        given = mutated(rng.choice(corpus), corpus, rng)
        said = outcome(reads, given)
        counts[said] += 1
        if said not in ("taken", "refused") and counts[said] <= KEPT:
            found.mkdir(exist_ok=True)
            (found / f"{name}-{seed}-{number}").write_bytes(given)
            print(f"{name} {number}: {said}", flush=True)
    return counts


def outcome(reads: Reader, given: bytes) -> str:
    """`taken`, `refused` by an error of ours, or what else was raised."""
    try:
        with within(LIMIT), contextlib.redirect_stderr(io.StringIO()):
            reads(given)
    except TurnsmithError:
        return "refused"
    except Exception as error:  # noqa: BLE001 (this is what is looked for)
        return f"{type(error).__name__}: {error}"[:120]
    return "taken"


@contextlib.contextmanager
def within(seconds: int) -> Generator[None]:
    """Raise Hangs after so many seconds of work, or ten times as many of waiting: what else the machine does
    makes nobody hang."""

    def ring(number: int, frame: object) -> None:
        raise Hangs(f"more than {seconds} s")

    clocks = (
        (signal.ITIMER_PROF, signal.SIGPROF, seconds),
        (signal.ITIMER_REAL, signal.SIGALRM, 10 * seconds),
    )
    for clock, bell, after in clocks:
        signal.signal(bell, ring)
        signal.setitimer(clock, after)
    try:
        yield
    finally:
        for clock, _, _ in clocks:
            signal.setitimer(clock, 0)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Give broken input to all readers.")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    asked = parser.parse_args(words)
    if unknown := [name for name in asked.targets if name not in TARGETS]:
        parser.error(f"no target {', '.join(unknown)}; there are: {', '.join(TARGETS)}")
    names = asked.targets or list(TARGETS)
    failed = 0
    for name in names:
        started = time.perf_counter()
        share = TARGETS[name][0] / sum(TARGETS[one][0] for one in names)
        counts = fuzz(name, round(share * asked.inputs), asked.seed, Path("fuzz"))
        sound = counts.pop("taken", 0), counts.pop("refused", 0)
        failed += counts.total()
        took = time.perf_counter() - started
        print(
            f"{name:12} {sound[0]:9,} taken {sound[1]:9,} refused {counts.total():5,} failed  {took:5.0f} s",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
