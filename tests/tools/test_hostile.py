"""Programs that mean harm: each is held, nothing of it is left, and the outcome says what happened."""

import base64
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
import zlib
from pathlib import Path

import pytest

from turnsmith.errors import SandboxError
from turnsmith.tools import sandbox
from turnsmith.tools.sandbox import Limits, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="marks its processes as Linux does")
SMALL = Limits(
    seconds=30, cpu_seconds=10, memory_bytes=128 * 2**20, output_bytes=10_000, file_bytes=2**20, files=32,
    processes=6, descriptors=32,
)  # fmt: skip
SOON = {"seconds": 1.0}
NETWORK, FILES, PROCESSES, SIZES = (
    "the network is not cut",
    "files that everybody may read or write can be read or written",
    "other processes can be seen",
    "files that it makes are bounded one by one only",
)
MINE, OTHERS = "files of this user can be read and written", "processes of this user can be ended"


def alive(mark):
    """The processes of this name, in all namespaces below ours."""
    found = []
    for file in Path("/proc").glob("[0-9]*/comm"):
        try:
            found += [file.parent.name] if file.read_text().strip() == mark else []
        except OSError:
            continue
    return found


@pytest.fixture(params=["namespaces", "limits"])
def isolation(request):
    """Both forms, where they are; which one is not, and why, is what the skip says."""
    here = sandbox.available()
    if request.param == here.form:
        return here
    if request.param == "namespaces":
        pytest.skip(f"no namespaces here: {here.why}")
    weaker = sandbox.weaker()
    try:
        run("", isolation=weaker)
    except SandboxError as error:
        pytest.skip(str(error))
    return weaker


@pytest.fixture
def held(isolation):
    """Runs a program by its text, and makes sure that nothing of it goes on. needs: what this program tries,
    in the words of `missing`: where that is not held, there is nothing to see."""

    def go(program, *needs, stdin="", **limits):
        lost = sorted(set(needs) & set(isolation.missing))
        if lost:
            pytest.skip(f"not held here, and said so: {', '.join(lost)}")
        mark = f"h-{secrets.token_hex(5)}"
        named = f"import ctypes\nctypes.CDLL(None).prctl(15, {mark.encode()!r}, 0, 0, 0)\n"
        values = {name: getattr(SMALL, name) for name in Limits.__slots__}
        folder = Path(tempfile.gettempdir())
        before = set(folder.glob("turnsmith-sandbox-*"))
        outcome = run(
            named + program, stdin=stdin, limits=Limits(**{**values, **limits}), isolation=isolation
        )
        left = alive(mark)
        for process in left:
            os.kill(int(process), signal.SIGKILL)  # a test that fails leaves nothing either
        assert left == []
        assert not [place for place in set(folder.glob("turnsmith-sandbox-*")) - before if _ours(place)]
        assert outcome.missing == isolation.missing
        return outcome

    return go


def _ours(place):
    """Whether a folder that is there since belongs to this process, and not to another test run."""
    try:
        return (place / "box" / "program.py").exists() and "h-" in (place / "box" / "program.py").read_text()
    except OSError:
        return False


@pytest.fixture
def secret(tmp_path):
    """Files of the user: one in a temporary directory, one in HOME."""
    files = [tmp_path / "secret", Path.home() / f".turnsmith-test-{secrets.token_hex(5)}"]
    for file in files:
        file.write_text("the-secret")
        file.chmod(0o600)
    yield files
    for file in files:
        file.unlink()


# ------------------------------------------------------------------------- taking all there is

ENDLESS = {
    "a loop": ("while True: pass", {"cpu_seconds": 1}),
    "a loop that no signal ends": (
        "from signal import *\nfor one in (SIGXCPU, SIGTERM, SIGINT): signal(one, SIG_IGN)\nwhile True: pass",
        {"cpu_seconds": 1},
    ),
    "sleep": ("import time\nwhile True: time.sleep(100)", SOON),
    "sleep that SIGTERM does not end": (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(100)",
        SOON,
    ),
    "closed stdout": ("import os, time\nos.close(1)\nos.close(2)\nwhile True: time.sleep(100)", SOON),
    "stdin": ("import sys\nwhile True: sys.stdin.read()", SOON),
    "forks": (
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        SOON,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDLESS)
def test_what_does_not_end_is_ended_when_its_time_is_over(held, name):
    program, limits = ENDLESS[name]
    began = time.monotonic()
    outcome = held(program, **limits)
    assert outcome.finish == "time"
    assert not outcome.succeeded
    assert time.monotonic() - began < 30  # the clock's limit where it is not given


def test_processes_are_counted(held):
    outcome = held(
        "import os, time\ncount = 0\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(100)\n"
        "        count += 1\nexcept OSError: print(count)"
    )
    assert (outcome.finish, outcome.stdout) == ("exit", f"{SMALL.processes - 1}\n")


def test_threads_are_counted_as_processes(held):
    outcome = held(
        "import threading, time\ncount = 0\ntry:\n    while True:\n"
        "        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()\n        count += 1\n"
        "except RuntimeError:\n    print(count, flush=True)\n    import os\n    os._exit(0)"
    )
    assert outcome.finish == "exit"
    assert int(outcome.stdout) < SMALL.processes


def test_memory_is_bounded(held):
    assert held("kept = []\nwhile True: kept.append(bytearray(10**6))").finish == "memory"


def test_recursion_without_end_takes_no_more_than_its_memory(held):
    outcome = held("import sys\nsys.setrecursionlimit(10**9)\ndef go(): go()\ngo()")
    assert outcome.finish in ("memory", "signal", "exit")  # versions of Python differ in where they break
    assert not outcome.succeeded


def test_output_is_bounded_and_the_first_of_it_kept(held):
    outcome = held("while True: print('word', flush=True)")
    assert outcome.finish == "output"
    assert len(outcome.stdout) == SMALL.output_bytes
    assert outcome.stdout.startswith("word\nword\n")


def test_errors_are_bounded_as_output_is(held):
    outcome = held("import sys\nwhile True: sys.stderr.write('x' * 1000)")
    assert (outcome.finish, len(outcome.stderr)) == ("output", SMALL.output_bytes)


def test_a_file_is_bounded(held):
    outcome = held(
        "size = 0\ntry:\n    with open('file', 'wb', 0) as file:\n"
        "        while True: size += file.write(bytes(100_000))\nexcept OSError as error: print(size, error)"
    )
    size, reason = outcome.stdout.split(" ", 1)
    assert 0 < int(size) <= SMALL.file_bytes
    assert "File too large" in reason or "No space left" in reason


def test_all_files_together_are_bounded(held):
    outcome = held(
        "size = 0\ntry:\n    for number in range(20):\n        with open(str(number), 'wb', 0) as file:\n"
        "            for _ in range(9): size += file.write(bytes(100_000))\n"
        "except OSError as error: print(size, error)",
        SIZES,
    )
    assert 0 < int(outcome.stdout.split()[0]) <= SMALL.file_bytes
    assert "No space left" in outcome.stdout


def test_the_number_of_files_is_bounded(held):
    outcome = held(
        "count = 0\ntry:\n    while True:\n        open(f'file-{count}', 'w').close()\n        count += 1\n"
        "except OSError as error: print(count, error)",
        SIZES,
    )
    assert 0 < int(outcome.stdout.split()[0]) <= SMALL.files
    assert "No space left" in outcome.stdout


def test_folders_in_each_other_are_taken_away_too(held):
    assert held(
        "import os\nfor _ in range(20):\n    os.mkdir('deep')\n    os.chdir('deep')\nos.chmod('.', 0)"
    ).succeeded


def test_open_files_are_counted(held):
    outcome = held(
        "kept = []\ntry:\n    while True: kept.append(open('/dev/null'))\nexcept OSError as error:\n"
        "    print(len(kept) + 3, error)"
    )
    assert outcome.stdout.startswith(f"{SMALL.descriptors} ")
    assert "Too many open files" in outcome.stdout


def test_what_is_read_may_not_unfold_beyond_its_memory(held):
    packer = zlib.compressobj(wbits=-15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)  # may be repeated
    bomb = base64.b64encode(block * 256 + packer.flush()).decode()
    program = "import base64, sys, zlib\nprint(len(zlib.decompress(base64.b64decode(sys.stdin.read()), -15)))"
    assert held(program, stdin=bomb).finish == "memory"


def test_input_that_nobody_reads_holds_nothing_up(held):
    assert held("print('done')", stdin="x" * 10**7).stdout == "done\n"


def test_a_crash_is_a_signal(held):
    outcome = held("import ctypes\nctypes.string_at(0)")
    assert (outcome.finish, outcome.code) == ("signal", -11)
    assert held("import os\nos.abort()").code == -6


def test_bytes_that_are_no_text_are_shown_as_escapes(held):
    assert held(r"import os; os.write(1, b'\xff\xfe ok')").stdout == r"\xff\xfe ok"


# ---------------------------------------------------------------------------- seeing what is not its own


def test_files_of_the_user_cannot_be_read(held, secret):
    for file in secret:
        outcome = held(f"print(open({str(file)!r}).read())", MINE)
        assert (outcome.finish, outcome.code) == ("exit", 1)
        assert "the-secret" not in outcome.stdout + outcome.stderr


def test_there_is_nothing_of_the_user_to_be_seen(held, secret):
    """At most the folders on the way to the interpreter."""
    for file in (*secret, Path(sandbox.__file__)):
        outcome = held(f"import os\nprint(os.listdir({str(file.parent)!r}))", FILES)
        beside = {other.name for other in file.parent.iterdir() if not sys.base_prefix.startswith(str(other))}
        assert file.name in beside
        assert not [name for name in beside if repr(name) in outcome.stdout]


def test_links_lead_nowhere_and_are_not_followed_when_all_is_taken_away(held, secret):
    outcome = held(
        f"import os\nos.symlink({str(secret[0])!r}, 'file')\n"
        f"os.symlink({str(secret[0].parent)!r}, 'folder')\n"
        "os.symlink('/proc/self/root', 'root')\nos.symlink('../../../../../..', 'up')\n"
        f"for path in ('file', 'folder/secret', 'root' + {str(secret[0])!r}, 'up' + {str(secret[0])!r}):\n"
        "    try: print(open(path).read())\n    except OSError as error: print(type(error).__name__)",
        MINE,
    )
    assert len(outcome.stdout.split()) == 4
    assert set(outcome.stdout.split()) <= {"FileNotFoundError", "PermissionError"}
    assert secret[0].read_text() == "the-secret"


def test_files_elsewhere_cannot_be_written(held, secret):
    places = ["/written", "/usr/lib/written", os.__file__, str(secret[0]), str(Path.home() / "written")]
    outcome = held(
        f"for path in {places!r}:\n    try: open(path, 'a').write('x'); print('written', path)\n"
        "    except OSError as error: print(type(error).__name__)",
        MINE,
    )
    assert "written" not in outcome.stdout
    assert len(outcome.stdout.split()) == len(places)
    assert secret[0].read_text() == "the-secret"


def test_a_file_that_all_may_write_cannot_be_written(held, tmp_path):
    file = tmp_path / "open"
    file.write_text("mine")
    file.chmod(0o666)
    assert held(f"open({str(file)!r}, 'w').write('theirs')", FILES).code == 1
    assert file.read_text() == "mine"


def test_the_environment_is_empty(held, monkeypatch):
    monkeypatch.setenv("TOKEN", "the-secret")
    outcome = held("import os\nprint(sorted(os.environ))")
    assert outcome.stdout in ("[]\n", "['LC_CTYPE']\n")  # which Python itself sets where there is no locale


def test_nothing_but_its_three_streams_is_open(held):
    outcome = held(
        "import os\nopen_ = []\nfor number in range(3, 1024):\n"
        "    try: os.fstat(number); open_.append(number)\n"
        "    except OSError: pass\nprint(open_)"
    )
    assert outcome.stdout == "[]\n"


def test_other_processes_cannot_be_looked_into(held):
    outcome = held(
        "import ctypes, os\nfor path in (f'/proc/{os.getppid()}/environ', '/proc/1/mem'):\n"
        "    try: print(len(open(path, 'rb').read()))\n    except OSError as error: print('no')\n"
        "attach = ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0)\nprint(attach)",
        OTHERS,
    )
    assert outcome.stdout == "no\nno\n-1\n"


def test_no_other_process_is_seen(held):
    outcome = held("import os\nprint(os.getppid(), os.path.exists('/proc/1'))", PROCESSES)
    assert outcome.stdout == "1 False\n"


def test_further_namespaces_are_refused(held):
    """In a namespace of its own a program could mount memory without a bound."""
    outcome = held("import ctypes\nprint(ctypes.CDLL(None).unshare(0x10020000))", SIZES)
    assert outcome.stdout == "-1\n"


# --------------------------------------------------------------------------------- reaching others


def test_a_server_on_this_machine_cannot_be_reached(held):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        outcome = held(
            f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)", NETWORK
        )
        with pytest.raises(TimeoutError):
            server.accept()
    assert (outcome.finish, outcome.code) == ("exit", 1)
    assert "OSError" in outcome.stderr or "Error" in outcome.stderr


def test_no_packet_leaves(held):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.2)
        outcome = held(
            "import socket\nout = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            f"out.sendto(b'x', ('127.0.0.1', {server.getsockname()[1]}))",
            NETWORK,
        )
        with pytest.raises(TimeoutError):
            server.recv(10)
    assert "Network is unreachable" in outcome.stderr


@pytest.mark.parametrize("abstract", [False, True], ids=["file", "abstract"])
def test_a_unix_socket_cannot_be_reached(held, tmp_path, abstract):
    name = f"\0turnsmith-{secrets.token_hex(5)}" if abstract else str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        server.settimeout(0.2)
        if not abstract:
            Path(name).chmod(0o777)
        outcome = held(f"import socket\nsocket.socket(socket.AF_UNIX).connect({name!r})", NETWORK)
        with pytest.raises(TimeoutError):
            server.accept()
    assert "Error" in outcome.stderr


def test_its_parent_outlives_a_program_that_kills_it(held):
    outcome = held(
        "import os\nfor number in (9, 15):\n    try: os.kill(os.getppid(), number)\n"
        "    except OSError: pass\nprint('still here')",
        OTHERS,
    )
    assert (outcome.finish, outcome.stdout) == ("exit", "still here\n")


def test_a_program_that_kills_all_kills_nobody_else(held):
    outcome = held("import os\ntry: os.kill(-1, 9)\nexcept OSError: pass\nprint('still here')", OTHERS)
    assert (outcome.finish, outcome.stdout) == ("exit", "still here\n")


DAEMONS = {
    "double fork": "if os.fork():\n    os._exit(0)\nos.setsid()\nif os.fork():\n    os._exit(0)",
    "own session": "if os.fork():\n    print('done')\n    sys.exit()\nos.setsid()",
    "many": "for _ in range(3):\n    if os.fork() == 0:\n        os.setsid(); break\nelse: sys.exit()",
}


@pytest.mark.parametrize("name", DAEMONS)
@pytest.mark.parametrize("streams", ["kept", "closed"])
def test_no_daemon_stays(held, name, streams):
    """`held` looks for what is left. The main program ends at once; where the daemon keeps its streams open,
    that must hold up nobody."""
    closing = "for number in (0, 1, 2): os.close(number)\n" if streams == "closed" else ""
    began = time.monotonic()
    outcome = held(f"import os, sys, time\n{DAEMONS[name]}\n{closing}while True: time.sleep(100)")
    assert outcome.finish == "exit"
    assert time.monotonic() - began < SMALL.seconds
