"""Programming problems from their published files, programs out of replies, and what tests make of them."""

from __future__ import annotations

import ast
import re
import secrets
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnsmith.data import read
from turnsmith.data.quarantine import Id
from turnsmith.errors import DataError
from turnsmith.tools.sandbox import Finish, Limits, run
from turnsmith.types import is_list

# Austin et al. 2021 (arXiv:2108.07732), figure 1; the last sentence is ours, since its examples are left out.
MBPP = (
    "You are an expert Python programmer, and here is your task: {text} Your code should pass these tests:"
    "\n\n{tests}\n\nAnswer with the program alone, in one fenced block."
)
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")  # Chen et al. 2021 (arXiv:2107.03374), section 2.2
FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
PYTHON = ("", "python", "python3", "py")
BEGINS = re.compile(r"^(?:(?:def|class|import|from|async)\b|@)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Problem:
    """A task for a programmer. asked: what a model is asked. tests: what runs after its program. before: what
    runs before it, and entry: the function that is wanted, where `asked` is code that the model continues.
    solution: a program that passes, as the file has it."""

    id: str
    asked: str
    tests: str
    solution: str
    before: str = ""
    entry: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of a program. finish: as of the sandbox. said: the last line of its errors."""

    passed: bool
    finish: Finish
    said: str


def problems(file: Path) -> list[Problem]:
    """The problems of a file of HumanEval or MBPP, jsonl or jsonl.gz, in order.

    Raises DataError naming file, line and reason where a row is of neither form, has a value of a wrong type
    or an id that was there before.
    """
    found: dict[str, Problem] = {}
    for name, row in read.rows(file):
        where = str(name.place if isinstance(name, Id) and name.place else name)
        problem = _problem(row, where)
        if problem.id in found:
            raise DataError(f"{where}: task_id {problem.id!r} was there before")
        found[problem.id] = problem
    return list(found.values())


def _problem(row: dict[str, Any], where: str) -> Problem:
    if "entry_point" in row:
        prompt, entry, test, solution = (
            _text(row, key, where) for key in ("prompt", "entry_point", "test", "canonical_solution")
        )
        before, found, _ = prompt.rpartition(f"def {entry}(")
        if not found:
            raise DataError(f"{where}: prompt does not define {entry!r}, which entry_point names")
        tests = f"{test}\ncheck({entry})"
        return Problem(_id(row, where), prompt, tests, prompt + solution, before, entry)
    if "test_list" in row:
        text, code, setup = (_text(row, key, where) for key in ("text", "code", "test_setup_code"))
        tests = _texts(row, "test_list", where)
        if not tests:
            raise DataError(f"{where}: test_list is empty: any program would pass")
        _texts(row, "challenge_test_list", where)
        asked = MBPP.format(text=text, tests="\n".join(tests))
        return Problem(_id(row, where), asked, "\n".join((setup, *tests)), code)
    raise DataError(
        f"{where}: this is no row of HumanEval (task_id, prompt, entry_point, canonical_solution, test) "
        f"or MBPP (task_id, text, code, test_list, test_setup_code, challenge_test_list): it "
        f"has {', '.join(row)}"
    )


def _id(row: dict[str, Any], where: str) -> str:
    value = row.get("task_id")
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise DataError(f"{where}: task_id must be a number or a text, not {value!r:.60}")
    return str(value)


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise DataError(f"{where}: {key} must be a text, not {value!r:.60}")
    return value.replace("\r\n", "\n")


def _texts(row: dict[str, Any], key: str, where: str) -> list[str]:
    value = row.get(key)
    if not is_list(value) or not all(isinstance(one, str) for one in value):
        raise DataError(f"{where}: {key} must be a list of texts, not {value!r:.60}")
    return value


# ------------------------------------------------------------------------------ from reply to program


def program(reply: str, problem: Problem) -> str:
    """The program of a reply.

    It is the first fenced block of Python, or of no language; a fence that is not closed goes to the end.
    Without a fence it begins at the first line that begins a definition or an import, and goes on as far as
    whole lines are Python. Where the problem is code to be continued and the reply does not define the wanted
    function, the reply continues it, up to the first of the published stops `\\nclass`, `\\ndef`, `\\n#`,
    `\\nif`, `\\nprint`; else what stands before that function in the problem, imports and the like, comes
    first. A reply without a program gives what it says, which then fails as what it is.
    """
    text = reply.replace("\r\n", "\n")
    fenced = next((one[2] for one in FENCE.finditer(text) if one[1].lower() in PYTHON), None)
    code = _python(text) if fenced is None else fenced
    if not problem.entry:
        return code
    if re.search(rf"^(?:async )?def {re.escape(problem.entry)}\b", code, re.MULTILINE):
        return f"{problem.before}\n{code}"
    body = text if fenced is None else fenced
    stop = min((at for at in (body.find(stop) for stop in STOPS) if at >= 0), default=len(body))
    return problem.asked + body[:stop]


def _python(text: str) -> str:
    """Whole lines of Python, from the first definition or import that is one; all of it where there is
    none."""
    for begins in BEGINS.finditer(text):
        lines = text[begins.start() :].split("\n")
        count = len(lines)
        while count > 0:
            code = "\n".join(lines[:count])
            fault = _fault(code)
            if fault is None:
                return code
            count = min(count, fault) - 1
    return text


def _fault(code: str) -> int | None:
    """The line at which it ceases to be Python, from 1; None if all of it is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a model writes
            ast.parse(code)
    except SyntaxError as error:
        return error.lineno or 1
    except (ValueError, RecursionError, MemoryError):  # as for a zero byte, or thousands of brackets
        return 1
    return None


def attempt(code: str, problem: Problem, limits: Limits) -> Attempt:
    """Run a program with the problem's tests behind it. It passes if all of them ran and none failed: a
    program that ends before them, with whatever code, does not."""
    mark = secrets.token_hex(16)
    last = f"__import__('sys').__stdout__.write('\\n{mark}\\n')"
    outcome = run(f"{code}\n{problem.tests}\n{last}\n", limits=limits)
    passed = outcome.succeeded and mark in outcome.stdout
    said = (outcome.stderr.strip().splitlines() or [""])[-1]
    if outcome.succeeded and not passed:
        said = "it ended before its tests"
    return Attempt(passed, outcome.finish, said[:300])
