"""Programs that mean no harm: what they get, what is said of them, and how several run at once."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from turnsmith.errors import SandboxError, UsageError
from turnsmith.tools import sandbox
from turnsmith.tools.sandbox import Limits, run


def test_a_program_says_how_it_ended():
    assert (run("print('hello')").finish, run("print('hello')").stdout) == ("exit", "hello\n")
    outcome = run("import sys\nprint('why', file=sys.stderr)\nsys.exit(3)")
    assert (outcome.finish, outcome.code, outcome.stderr, outcome.succeeded) == ("exit", 3, "why\n", False)
    assert run("exit(0)").succeeded


def test_an_error_is_shown_with_its_line():
    outcome = run("x = 1\nassert x == 2, 'not two'")
    assert (outcome.finish, outcome.code) == ("exit", 1)
    assert 'File "program.py", line 2' in outcome.stderr
    assert outcome.stderr.endswith("AssertionError: not two\n")


def test_a_program_is_the_main_module_of_this_python_with_its_standard_library():
    outcome = run(
        "import dataclasses, json, sqlite3, sys, zlib\n@dataclasses.dataclass\nclass A:\n    x: int\n"
        "print(json.dumps([__name__, list(sys.version_info[:3]), sys.flags.isolated, A(1).x]))"
    )
    assert json.loads(outcome.stdout) == ["__main__", list(sys.version_info[:3]), 1, 1]


def test_what_is_installed_beside_python_is_not_there():
    assert "ModuleNotFoundError: No module named 'numpy'" in run("import numpy").stderr


def test_it_gets_its_input_and_its_files():
    outcome = run(
        "print(input(), open('deep/er.txt').read(), open('a').read())",
        stdin="grüße\n",
        files={"deep/er.txt": "déjà", "a": ""},
    )
    assert outcome.stdout == "grüße déjà \n"


def test_it_may_write_into_its_directory_which_is_another_each_time():
    writing = "import os\nprint(sorted(os.listdir()))\nopen('new', 'w').write('x')\nprint(open('new').read())"
    assert [run(writing).stdout for _ in range(2)] == ["['program.py']\nx\n"] * 2


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b", "", ".", "program.py"])
def test_a_file_that_would_lie_elsewhere_is_refused(name):
    with pytest.raises(UsageError, match="a file of the sandbox must lie in its directory"):
        run("", files={name: ""})


@pytest.mark.parametrize("name", ["seconds", "memory_bytes", "processes"])
def test_limits_are_above_zero(name):
    with pytest.raises(UsageError, match=f"a limit must be above 0: {name} is 0"):
        Limits(**{name: 0})


def test_several_run_at_once_from_threads():
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda number: run(f"print({number})").stdout, range(8))]
    assert found == [f"{number}\n" for number in range(8)]


def test_a_bound_of_the_output_is_exact():
    said = "import sys\nsys.stdout.write('12345')\nsys.stdout.flush()"
    assert (run(said, limits=Limits(output_bytes=5)).finish, run(said).stdout) == ("exit", "12345")
    outcome = run(said, limits=Limits(output_bytes=4))
    assert (outcome.finish, outcome.stdout) == ("output", "1234")


def test_its_time_is_counted_from_its_start_and_said():
    outcome = run("import time\ntime.sleep(0.5)")
    assert 0.4 < outcome.seconds < 10


def test_a_program_may_be_given_as_any_text():
    assert run("print('\\udc80'.encode('utf-8', 'surrogateescape'))").stdout == "b'\\x80'\n"
    assert "SyntaxError" in run("def (").stderr
    assert "null bytes" in run("x = 1\0").stderr


def test_where_nothing_can_be_run_the_reason_is_said(monkeypatch):
    monkeypatch.setattr(sys, "_base_executable", "/bin/false")
    with pytest.raises(SandboxError, match="no program can be run by namespaces here"):
        run("", isolation=sandbox.Isolation("namespaces"))


def test_without_namespaces_a_warning_names_what_is_missing(monkeypatch):
    weaker = sandbox.weaker()
    try:
        run("", isolation=weaker)
    except SandboxError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(sys, "platform", "other")
    sandbox.available.cache_clear()
    try:
        with pytest.warns(
            RuntimeWarning, match="under limits only: the network is not cut; files that every"
        ):
            found = sandbox.available()
    finally:
        sandbox.available.cache_clear()
    assert (found.form, found.why) == ("limits", "this is no Linux")
    assert set(weaker.missing) <= set(found.missing)
