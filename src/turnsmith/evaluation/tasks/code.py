"""Programs that models write, run with the tests of the problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from turnsmith.data.processes import usable_cores
from turnsmith.errors import UsageError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.programs import Attempt, Problem, attempt, problems, program
from turnsmith.evaluation.reducers import pass_at
from turnsmith.evaluation.suite import Bench, Subject, answers
from turnsmith.registry import task
from turnsmith.tools.sandbox import Limits
from turnsmith.types import Conversation, Failure, Json, Message, Reply, Sampling

AMONG = (1, 2, 5, 10, 20, 50, 100)  # numbers of samples that papers report pass@k for


@task("code", asks="replies", files=("file",), source="arXiv:2107.03374 eq. 1; arXiv:2108.07732")
class Code:
    """The share of programming problems that the model solves: its program is run with the problem's tests.

    file: problems in the published form of HumanEval or MBPP, jsonl or jsonl.gz. The model is asked MBPP's
    published question with the tests, or HumanEval's prompt as it is. count: how many, from the first.
    samples: programs for each problem. temperature: 0 is greedy, and has one sample. max_new: replies are cut
    after so many tokens. seconds: for each program, which runs in the sandbox.

    The program is the first fenced block of the reply; without a fence, from the first definition or import
    on as far as it is Python. Only HumanEval's prompt may also be continued, up to the published stops.
    """

    title = "Programs"
    note = (
        "Whether the program that the model writes passes the tests of the problem. pass@k is the chance "
        "that one of k programs does. A program that runs too long has failed; cut replies are counted."
    )
    metrics: tuple[Metric, ...] = (
        Metric("pass@1", "pass@1", "share", "higher", of="problems"),
        Metric("programs without end", "time", "share", "lower", of="problems"),
        Metric("replies that are cut", "cut", "share", "lower", of="problems"),
    )

    varies = "programs are stopped by the clock, so that a slow one may end another time"

    def __init__(
        self,
        *,
        file: str,
        count: int | None = None,
        samples: int = 1,
        temperature: float = 0.0,
        max_new: int = 512,
        seconds: float = 10.0,
    ) -> None:
        if samples < 1 or (samples > 1 and temperature == 0):
            raise UsageError(
                f"task 'code': {samples} samples at temperature {temperature:g}: give at least 1, and a "
                "temperature above 0 where there are several, which would be the same otherwise"
            )
        self.problems, self.samples = problems(Path(file))[:count], samples
        self.sampling = Sampling(temperature=temperature, max_new=max_new)
        self.limits = Limits(seconds=seconds, cpu_seconds=int(seconds) + 1)
        self.among = [k for k in AMONG if k <= samples]
        more = [Metric(f"pass@{k}", f"pass@{k}", "share", "higher", of="problems") for k in self.among[1:]]
        self.metrics = (Code.metrics[0], *more, *Code.metrics[1:])

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        asked = {
            f"{problem.id}#{number}": Conversation((Message("user", problem.asked),))
            for problem in self.problems
            for number in range(self.samples)
        }
        replies = answers(subject, asked, self.sampling)
        with ThreadPoolExecutor(max(1, int(usable_cores()))) as pool:
            items = [
                (problem, [replies[f"{problem.id}#{number}"] for number in range(self.samples)])
                for problem in self.problems
            ]
            return [*pool.map(lambda one: self._judged(*one), items)]

    def _judged(self, problem: Problem, replies: Sequence[Reply | Failure]) -> Item:
        """The item; without values where a sample is missing, since pass@k speaks of all of them."""
        said = [reply for reply in replies if isinstance(reply, Reply)]
        missing = [reply.reason for reply in replies if isinstance(reply, Failure)]
        if missing:
            return Item(problem.id, "", {}, {"prompt": problem.asked}, failed=missing[0])
        return self._item(problem, said)

    def _item(self, problem: Problem, replies: Sequence[Reply]) -> Item:
        codes = [program(reply.message.content, problem) for reply in replies]
        tried = [attempt(code, problem, self.limits) for code in codes]
        passed = sum(one.passed for one in tried)
        counted = np.array([float(self.samples)]), np.array([float(passed)])
        values = {f"pass@{k}": float(pass_at(*counted, k)[0]) for k in self.among}
        cut = [reply.finish == "length" for reply in replies]
        shares = {"time": _share([one.finish == "time" for one in tried]), "cut": _share(cut)}
        counts = {"samples": float(self.samples), "passed": float(passed)}
        return Item(problem.id, "", {**values, **shares, **counts}, self._shown(problem, codes, tried))

    def _shown(self, problem: Problem, codes: Sequence[str], tried: Sequence[Attempt]) -> dict[str, Json]:
        """The first program, how all of them ended, and what the first that failed said."""
        ended = Counter("passed" if one.passed else one.finish for one in tried)
        failed = next((one.said for one in tried if not one.passed), "")
        return {
            "prompt": problem.asked,
            "text": codes[0],
            "reference": problem.solution,
            "outcomes": dict(ended),
            "error": failed,
        }


def _share(ones: Sequence[bool]) -> float:
    return sum(ones) / len(ones)
