"""References to files inside packages: what is fetched, verified, kept and refused. pip is the real one."""

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from turnsmith import wheels
from turnsmith.errors import FetchError, StorageError, UsageError

REFERENCE = "pypi:tiny-chats==1.0/tiny_chats/chats.json"


def write_wheel(
    folder: Path, members: Mapping[str, bytes], package: str = "tiny_chats", version: str = "1.0"
) -> Path:
    """A wheel that pip accepts, with these members."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{package}-{version}.dist-info"
    wheel = folder / f"{package}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder that pip uses as its only index, with one wheel in it; and an empty cache."""
    folder = tmp_path / "index"
    write_wheel(folder, {"tiny_chats/chats.json": b'{"hello": 1}', "tiny_chats/model/config.json": b"{}"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    return folder


@pytest.fixture
def shelf(index, tmp_path) -> Path:
    """The cache's folder of wheels, with the index's wheel put there by hand: pip has nothing to do."""
    folder = tmp_path / "home" / "wheels"
    folder.mkdir(parents=True)
    for wheel in index.iterdir():
        wheel.rename(folder / wheel.name)
    return folder


def left_over(home: Path) -> list[str]:
    return sorted(file.name for file in home.rglob("*") if file.name.startswith(".") or file.suffix == ".whl")


def test_a_file_is_fetched_once_and_read_offline_afterwards(index, tmp_path, capsys):
    found = wheels.fetch(REFERENCE)
    assert found.read_bytes() == b'{"hello": 1}'
    assert "fetching tiny-chats==1.0" in capsys.readouterr().err
    (index / "tiny_chats-1.0-py3-none-any.whl").unlink()
    assert wheels.fetch(REFERENCE) == found
    assert capsys.readouterr().err == ""


def test_only_the_requested_member_is_unpacked(shelf, tmp_path):
    found = wheels.fetch("pypi:tiny-chats==1.0/tiny_chats/model")
    assert [file.name for file in found.rglob("*")] == ["config.json"]
    assert not list((tmp_path / "home" / "files").rglob("chats.json"))


def test_a_file_and_the_folder_around_it_do_not_hide_each_other(shelf):
    wheels.fetch("pypi:tiny-chats==1.0/tiny_chats/model/config.json")
    assert (wheels.fetch("pypi:tiny-chats==1.0/tiny_chats") / "chats.json").exists()


def test_the_first_hash_is_recorded_and_another_file_is_refused_later(index, tmp_path):
    wheels.fetch(REFERENCE)
    kept = tmp_path / "home" / "wheels" / "tiny_chats-1.0-py3-none-any.whl"
    first = hashlib.sha256(kept.read_bytes()).hexdigest()
    assert (kept.parent / f"{kept.name}.sha256").read_text() == f"{first}  {kept.name}\n"
    kept.unlink()
    other = write_wheel(index, {"tiny_chats/other.json": b"changed"})
    second = hashlib.sha256(other.read_bytes()).hexdigest()
    with pytest.raises(FetchError, match=f"(?s){second}.*{first}.*delete that record"):
        wheels.fetch("pypi:tiny-chats==1.0/tiny_chats/other.json")
    assert left_over(tmp_path / "home") == []


def test_a_shipped_wheel_with_another_hash_is_refused_and_not_kept(index, tmp_path):
    write_wheel(index, {"chitchat_dataset/dataset.json": b"{}"}, "chitchat_dataset", "0.9.0")
    with pytest.raises(FetchError, match=r"7bf89f36645e.* was promised"):
        wheels.obtain("chitchat")
    with pytest.raises(FetchError, match="was promised"):
        wheels.fetch("pypi:chitchat_dataset==0.9.0/chitchat_dataset/dataset.json")
    assert left_over(tmp_path / "home") == []


def test_a_truncated_wheel_leaves_nothing_behind(index, tmp_path):
    wheel = index / "tiny_chats-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes()[:-200])
    with pytest.raises(FetchError, match=r"tiny-chats==1\.0"):
        wheels.fetch(REFERENCE)
    assert left_over(tmp_path / "home") == []
    assert not list((tmp_path / "home").rglob("*.sha256"))


def test_a_wheel_with_damaged_contents_is_refused_before_its_hash_is_recorded(index, tmp_path):
    wheel = write_wheel(index, {"tiny_chats/chats.json": os.urandom(4000)})
    content = bytearray(wheel.read_bytes())
    content[2000] ^= 1
    wheel.write_bytes(content)
    with pytest.raises(FetchError, match="damaged"):
        wheels.fetch(REFERENCE)
    assert not list((tmp_path / "home").rglob("*.sha256"))


def test_a_wheel_put_there_by_hand_is_used_without_pip(index, tmp_path):
    write_wheel(tmp_path / "home" / "wheels", {"tiny_chats/chats.json": b"by hand"})
    assert wheels.fetch(REFERENCE, python="/nowhere/python").read_bytes() == b"by hand"


def test_a_wheel_put_there_by_hand_is_checked(index, tmp_path):
    write_wheel(
        tmp_path / "home" / "wheels", {"chitchat_dataset/dataset.json": b"{}"}, "chitchat_dataset", "0.9.0"
    )
    with pytest.raises(FetchError, match="was promised"):
        wheels.obtain("chitchat")


LINK = 0o120777 << 16  # as zip files note what a file is: octal mode of stat.h
DEVICE = 0o020666 << 16


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["tiny_chats/../../../../out"], r"'tiny_chats/\.\./.*out', which leads out of it"),
        (["tiny_chats//etc/out"], "which leads out of it"),
        (["tiny_chats/..\\out"], "which leads out of it"),
        (["tiny_chats/c:out"], "which leads out of it"),
        ([("tiny_chats/link", LINK)], "'tiny_chats/link', which is no plain file"),
        ([("tiny_chats/zero", DEVICE)], "'tiny_chats/zero', which is no plain file"),
        (["tiny_chats/one", "tiny_chats/one"], "'tiny_chats/one' twice"),
        (["tiny_chats/one", "tiny_chats/ONE"], "'tiny_chats/ONE' twice"),
        (["tiny_chats/one", "tiny_chats/one/two"], "'tiny_chats/one' as a file and as a folder"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_folder_that_would_be_unpacked_elsewhere_or_otherwise_is_refused(index, tmp_path, names, complaint):
    wheel = write_wheel(tmp_path / "home" / "wheels", {"tiny_chats/chats.json": b"{}"})
    with zipfile.ZipFile(wheel, "a") as archive:
        for name, attributes in (one if isinstance(one, tuple) else (one, 0) for one in names):
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes
            archive.writestr(info, b"/etc/passwd")
    with pytest.raises(FetchError, match=complaint):
        wheels.fetch("pypi:tiny-chats==1.0/tiny_chats")
    assert not (tmp_path / "out").exists()
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"wheels"}
    assert wheels.fetch(REFERENCE).read_bytes() == b"{}"  # which is none of them


def test_a_wheel_that_would_become_a_hundred_times_as_large_is_refused(index, tmp_path):
    wheel = write_wheel(tmp_path / "home" / "wheels", {})
    with zipfile.ZipFile(wheel, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny_chats/chats.json", bytes(wheels.SMALL + 1))
    with pytest.raises(FetchError, match=r"would become 100\.0 MB, of 0\.1 MB: it was not unpacked"):
        wheels.fetch(REFERENCE)
    assert {path.name for path in (tmp_path / "home").rglob("*")} == {
        "wheels", "tiny_chats-1.0-py3-none-any.whl",
    }  # fmt: skip


def test_what_is_no_wheel_is_refused_and_other_files_are_passed_over(index, tmp_path):
    folder = tmp_path / "home" / "wheels"
    folder.mkdir(parents=True)
    (folder / "notes.whl").write_bytes(b"not named as wheels are")
    (folder / "tiny_chats-1.0-py3-none-any.whl").write_bytes(b"no archive")
    with pytest.raises(FetchError, match=r"is damaged .*Delete it and run again"):
        wheels.fetch(REFERENCE)


def test_a_wheel_whose_bzip2_is_none_is_damaged_as_any_other(index, tmp_path):
    wheel = write_wheel(tmp_path / "home" / "wheels", {})
    with zipfile.ZipFile(wheel, "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("tiny_chats/chats.json", b"[" + b"1, " * 300 + b"1]")
    file = wheel.read_bytes()
    wheel.write_bytes(file.replace(b"1AY&SY", b"1AY&SZ"))  # what each of its blocks begins with
    with pytest.raises(FetchError, match=r"is damaged \(Invalid data stream\)"):
        wheels.fetch(REFERENCE)


def test_a_member_without_a_name_is_damage(index, tmp_path):
    wheel = write_wheel(tmp_path / "home" / "wheels", {})
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("q", b"")
    file = wheel.read_bytes()
    at = file.rindex(b"PK\x01\x02")  # what the directory says of the last member: its name, of one byte
    end = file.rindex(b"PK\x05\x06")
    size = int.from_bytes(file[end + 12 : end + 16], "little") - 1  # of the directory
    shorter = file[: at + 28] + b"\0\0" + file[at + 30 : at + 46] + file[at + 47 : end + 12]
    wheel.write_bytes(shorter + size.to_bytes(4, "little") + file[end + 16 :])
    with pytest.raises(FetchError, match="is damaged"):
        wheels.fetch(REFERENCE)


def test_a_missing_member_names_what_is_like_it(shelf):
    with pytest.raises(UsageError, match=r"did you mean 'tiny_chats/chats\.json'"):
        wheels.fetch("pypi:tiny-chats==1.0/tiny_chats/chat.json")


def test_an_absent_package_names_the_way_out(index):
    with pytest.raises(FetchError, match=r"(?s)no-such-thing==1\.0.*pip config list.*\.whl file into"):
        wheels.fetch("pypi:no-such-thing==1.0/file")


def test_a_python_without_pip_names_the_ways_out(index, tmp_path):
    # -S keeps site-packages, and with it pip, out of sight.
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(FetchError, match=r"has no pip.*ensurepip.*\.whl file into"):
        wheels.fetch(REFERENCE, python=str(bare))


def test_a_full_disk_says_where_and_leaves_nothing_behind(shelf, tmp_path):
    """A limit on the size of files stands for the full disk: the system refuses the write in the same way."""
    write_wheel(shelf, {"tiny_chats/chats.json": bytes(3_000_000)})
    script = (
        "import resource, signal, sys\n"
        "from turnsmith import wheels\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        f"wheels.fetch({REFERENCE!r})\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "StorageError: cannot write to" in ran.stderr
    assert "3.0 MB needed" in ran.stderr
    assert "TURNSMITH_HOME" in ran.stderr
    assert not list((tmp_path / "home" / "files").rglob("*.json"))
    assert not [name for name in left_over(tmp_path / "home") if name.startswith(".")]


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here (not root, or not allowed)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_during_the_download_is_told_with_what_is_free(index, small_disk, monkeypatch):
    write_wheel(index, {"tiny_chats/chats.json": os.urandom(2_000_000)})
    monkeypatch.setenv("TURNSMITH_HOME", str(small_disk / "home"))
    with pytest.raises(StorageError, match=r"cannot write to .*home.* MB free"):
        wheels.fetch(REFERENCE)
    assert left_over(small_disk / "home") == []


def test_a_shipped_file_is_not_begun_where_it_cannot_fit(index, small_disk, monkeypatch, capsys):
    monkeypatch.setenv("TURNSMITH_HOME", str(small_disk / "home"))
    with pytest.raises(StorageError, match=r"16\.2 MB needed, 1\.0 MB free"):
        wheels.obtain("chitchat")
    assert capsys.readouterr().err == ""


def test_a_read_only_cache_serves_what_it_has_and_refuses_more(index, small_disk, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(small_disk / "home"))
    found = wheels.fetch(REFERENCE)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert wheels.fetch(REFERENCE) == found
    with pytest.raises(StorageError, match="set TURNSMITH_HOME"):
        wheels.fetch("pypi:tiny-chats==1.0/tiny_chats/model")


def test_a_home_that_cannot_be_made_is_a_storage_error(index, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(StorageError, match="set TURNSMITH_HOME"):
        wheels.fetch(REFERENCE)


def test_two_processes_may_fetch_the_same_file(index, tmp_path):
    script = f"from turnsmith import wheels; print(wheels.fetch({REFERENCE!r}).read_text())"
    both = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [process.communicate()[0] for process in both] == ['{"hello": 1}\n'] * 2


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("tiny-chats==1.0/file", "does not begin with 'pypi:'"),
        ("pypi:tiny-chats/file", "no exact version"),
        ("pypi:tiny-chats==/file", "no exact version"),
        ("pypi:tiny-chats>=1.0/file", "no package name"),
        ("pypi:--index-url==1/file", "no package name"),
        ("pypi:tiny-chats==1.0", "names no file"),
        ("pypi:tiny-chats==1.0/../../etc/passwd", "leaves the wheel"),
    ],
)
def test_a_bad_reference_says_what_is_wrong(reference, complaint):
    with pytest.raises(UsageError, match=complaint):
        wheels.parse(reference)


def test_shipped_names_carry_what_is_needed_to_trust_them():
    assert wheels.names("model") == ["smollm2-135m-instruct", "gemma3-270m", "minilm"]
    assert wheels.names("data") == ["chitchat"]
    assert wheels.names("encoder") == ["efficientnet-lite0"]
    for name in wheels.names():
        entry = wheels.shipped(name)
        assert entry is not None
        assert entry.licence
        assert entry.source
        assert all(len(part.sha256 or "") == 64 and part.bytes for part in entry.parts)
    assert wheels.shipped("gpt-7") is None
    with pytest.raises(UsageError, match="did you mean 'chitchat'"):
        wheels.obtain("chitchatt")


def test_parts_are_joined_in_their_order(tmp_path, shelf):
    first = write_wheel(shelf, {"one/a": b"12"}, "part_one")
    write_wheel(shelf, {"two/a": b"34"}, "part_two")
    parts = [
        wheels.Part("part-one", "1.0", "one/a", wheels.digest(first)),
        wheels.Part("part-two", "1.0", "two/a"),
    ]
    promised = hashlib.sha256(b"1234").hexdigest()
    assert wheels.assemble(parts, tmp_path / "whole", sha256=promised).read_bytes() == b"1234"
    with pytest.raises(FetchError, match="was promised"):
        wheels.assemble(parts, tmp_path / "other", sha256="0" * 64)
    assert not (tmp_path / "other").exists()


def test_home_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("TURNSMITH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert wheels.home() == tmp_path / "turnsmith"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert wheels.home() == Path.home() / ".cache" / "turnsmith"


def test_importing_it_costs_no_torch():
    script = "import sys, turnsmith.wheels, turnsmith.models.load; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
