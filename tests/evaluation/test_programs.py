"""Programming problems: rows of the published forms, programs out of replies, what tests make of them."""

import gzip
import json

import pytest

from turnsmith.errors import DataError
from turnsmith.evaluation.programs import attempt, problems, program
from turnsmith.tools.sandbox import Limits

ADD = {
    "task_id": 1,
    "text": "Write a function to add two numbers.",
    "code": "def add(a, b):\r\n    return a + b",
    "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
    "test_setup_code": "",
    "challenge_test_list": [],
}
TWICE = {
    "task_id": "HumanEval/0",
    "prompt": (
        'from typing import List\n\n\ndef twice(xs: List[int]) -> List[int]:\n    """ Double each. """\n'
    ),
    "entry_point": "twice",
    "canonical_solution": "    return [2 * x for x in xs]\n",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == [2, 4]\n",
}
SHORT = Limits(seconds=20, cpu_seconds=2, memory_bytes=256 * 2**20)


@pytest.fixture
def read(tmp_path):
    def read(*rows, name="rows.jsonl"):
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return problems(path)

    return read


# -------------------------------------------------------------------------------------------- rows


def test_a_question_of_mbpp_states_the_task_and_its_tests(read):
    (problem,) = read(ADD)
    assert problem.id == "1"
    assert problem.asked == (
        "You are an expert Python programmer, and here is your task: Write a function to add two numbers. "
        "Your code should pass these tests:\n\nassert add(1, 2) == 3\nassert add(0, 0) == 0\n\nAnswer with "
        "the program alone, in one fenced block."
    )


def test_a_question_of_human_eval_is_its_prompt(read):
    (problem,) = read(TWICE, name="human.jsonl.gz")
    assert (problem.id, problem.asked, problem.entry) == ("HumanEval/0", TWICE["prompt"], "twice")
    assert attempt(problem.solution, problem, SHORT).passed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test_list": "assert add(1, 2) == 3"}, "test_list must be a list of texts, not 'assert add"),
        ({"test_list": [True]}, r"test_list must be a list of texts, not \[True\]"),
        ({"test_list": []}, "test_list is empty: any program would pass"),
        ({"code": None}, "code must be a text, not None"),
        ({"task_id": 1.5}, r"task_id must be a number or a text, not 1\.5"),
        ({"challenge_test_list": 0}, "challenge_test_list must be a list of texts, not 0"),
        ({"task_id": 1}, "task_id '1' was there before"),
    ],
)
def test_a_row_of_a_wrong_type_stops_with_file_line_and_reason(read, change, said):
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 2: {said}"):
        read(ADD, {**ADD, "task_id": 2, **change})


def test_a_row_of_another_form_is_an_error(read):
    with pytest.raises(DataError, match=r"line 1: this is no row of HumanEval .* it has question"):
        read({"question": "?"})
    with pytest.raises(DataError, match="prompt does not define 'thrice', which entry_point names"):
        read({**TWICE, "entry_point": "thrice"})


# -------------------------------------------------------------------------------- from reply to program


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("Sure:\n```python\nx = 1\n```\nDone.\n```python\ny = 2\n```", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```py\nx = 1", "x = 1"),  # cut before the fence was closed
        ("```sh\npip install x\n```\n```python\nx = 1\n```", "x = 1\n"),
        ("def f():\n    return 1\n\nThis returns one.", "def f():\n    return 1\n"),
        ("Here it is.\nimport math\nx = math.pi\nI hope it helps!", "import math\nx = math.pi"),
        ("from what you say:\ndef f(): return 1", "def f(): return 1"),
        ("def f():\n    return (1", "def f():\n    return (1"),  # no Python at all: fails as what it is
        ("I cannot do that.", "I cannot do that."),
        ("def f():\r\n    return 1", "def f():\n    return 1"),
    ],
)
def test_the_program_of_a_reply(read, reply, code):
    assert program(reply, read(ADD)[0]) == code


def test_a_function_that_the_reply_defines_whole_gets_what_stands_before_it(read):
    (problem,) = read(TWICE)
    code = program("```python\ndef twice(xs: List[int]):\n    return xs + xs\n```", problem)
    assert code == "from typing import List\n\n\n\ndef twice(xs: List[int]):\n    return xs + xs\n"


@pytest.mark.parametrize(
    "after", ["class A: pass", "def other(): pass", "# next", "if True: pass", "print(1)"]
)
def test_a_continued_prompt_ends_at_the_published_stops(read, after):
    (problem,) = read(TWICE)
    code = program(f"    return [x + x for x in xs]\n{after}\n", problem)
    assert code == TWICE["prompt"] + "    return [x + x for x in xs]"
    assert attempt(code, problem, SHORT).passed


# ------------------------------------------------------------------------------------------ attempts


@pytest.mark.parametrize(
    ("code", "finish", "said"),
    [
        ("def add(a, b): return a - b", "exit", "AssertionError"),
        ("def add(a, b): return a + b if a else 1", "exit", "AssertionError"),  # the second test alone fails
        ("def plus(a, b): return a + b", "exit", "NameError: name 'add' is not defined"),
        ("I cannot do that.", "exit", "SyntaxError: invalid syntax"),
        ("def add(a, b):\n    while True: pass", "time", ""),
        ("def add(a, b): return a + b\nexit()", "exit", "it ended before its tests"),
        ("def add(a, b): return a + b\nimport os\nos._exit(0)", "exit", "it ended before its tests"),
        ("def add(a, b):\n    import os\n    os.kill(os.getpid(), 11)", "signal", ""),
        ("def add(a, b): return [0] * 10**12", "memory", "MemoryError"),
        ("def add(a, b):\n    while True: print('x' * 10**5)", "output", ""),
    ],
)
def test_a_program_that_does_not_pass_says_how_it_ended(read, code, finish, said):
    found = attempt(code, read(ADD)[0], SHORT)
    assert (found.passed, found.finish, found.said) == (False, finish, said)


def test_a_program_that_passes_may_print_what_it_likes(read):
    found = attempt("def add(a, b):\n    print('adding')\n    return a + b", read(ADD)[0], SHORT)
    assert (found.passed, found.finish, found.said) == (True, "exit", "")


def test_setup_runs_between_the_program_and_its_tests(read):
    (problem,) = read({**ADD, "test_setup_code": "three = add(1, 2)", "test_list": ["assert three == 3"]})
    assert attempt(problem.solution, problem, SHORT).passed


@pytest.mark.shared
def test_the_published_solutions_of_mbpp_pass_their_tests(shared):
    """The first 60; and the program of the problem before never passes, but where it is asked the same."""
    file = shared / "data" / "code" / "mbpp.jsonl"
    if not file.is_file():
        pytest.skip(f"needs {file}, which is not there")
    given = problems(file)[:60]
    found = {problem.id: attempt(problem.solution, problem, Limits(seconds=60)) for problem in given}
    assert {id: one.said for id, one in found.items() if not one.passed} == {}
    shifted = [attempt(given[number - 1].solution, given[number], SHORT).passed for number in range(1, 11)]
    assert shifted == [False] * 10
