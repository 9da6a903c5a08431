"""Whether replies follow instructions that can be checked without a judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from turnsmith.errors import DataError
from turnsmith.evaluation.instructions import Instruction, instruction
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.rows import Row, rows, text
from turnsmith.evaluation.suite import Bench, Subject, answered
from turnsmith.registry import task
from turnsmith.types import Conversation, Json, Message, Reply, Sampling, is_list, is_object


@task("ifeval", asks="replies", files=("file",), source="arXiv:2311.07911 section 2.2")
class IfEval:
    """Share of prompts of which a greedy reply follows every instruction, and share of instructions followed,
    by IFEval's rules.

    Strict: by the reply as it is. Loose: also without its first or last line or both, or without asterisks.

    file: the published rows, with `prompt`, `instruction_id_list` and `kwargs`. count: how many, from the
    first. max_new: replies are cut after so many tokens; what was cut is judged as it is, and counted.
    """

    title = "Following instructions"
    note = (
        "Whether replies keep to instructions that can be checked: 25 kinds, such as a number of words or no "
        "commas. Loose: the first line, the last line and asterisks may be left out of account."
    )
    metrics = (
        Metric("prompts followed, strict", "strict_prompt", "share", "higher", of="prompts"),
        Metric("prompts followed, loose", "loose_prompt", "share", "higher", of="prompts"),
        Metric("instructions followed, strict", "strict", "share", "higher", "instructions", "prompts"),
        Metric("instructions followed, loose", "loose", "share", "higher", "instructions", "prompts"),
        Metric("replies cut off", "cut", "share", "lower", of="prompts"),
    )

    def __init__(self, *, file: str, count: int | None = None, max_new: int = 1024) -> None:
        found = rows(file, count)
        self.prompts = [text(row, "prompt", place) for place, row in found]
        self.instructions = [_instructions(row, place) for place, row in found]
        self.sampling = Sampling(temperature=0.0, max_new=max_new)
        self.title = f"{IfEval.title}: {Path(file).name}"

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        asked = {
            str(number): Conversation((Message("user", prompt),))
            for number, prompt in enumerate(self.prompts, start=1)
        }
        wanted_of = dict(zip(asked, self.instructions, strict=True))
        prompts = zip(asked, self.prompts, strict=True)
        items = [Item(id, "", {}, {"prompt": prompt}) for id, prompt in prompts]

        def judged(item: Item, reply: Reply) -> tuple[dict[str, float], dict[str, Json]]:
            said, wanted = reply.message.content, wanted_of[item.id]
            strict = [one.strict(said) for one in wanted]
            loose = [one.loose(said) for one in wanted]
            values = {
                "strict_prompt": float(all(strict)),
                "loose_prompt": float(all(loose)),
                "strict": float(sum(strict)),
                "loose": float(sum(loose)),
                "instructions": float(len(wanted)),
                "cut": float(reply.finish == "length"),
            }
            broken = [one.id for one, follows in zip(wanted, strict, strict=True) if not follows]
            return values, {"text": said, "broken": broken}

        return answered(subject, asked, self.sampling, items, judged)


def _instructions(row: Row, place: str) -> Sequence[Instruction]:
    """What the prompt of a row asks for, each id with its arguments."""
    ids: Any = row.get("instruction_id_list")
    given: Any = row.get("kwargs")
    if not is_list(ids) or not ids:
        raise DataError(f"{place}: 'instruction_id_list' is {ids!r:.60}, and must be a list of ids")
    if not is_list(given) or len(given) != len(ids) or not all(is_object(one) for one in given):
        raise DataError(
            f"{place}: 'kwargs' is {given!r:.60}, and must be a list of one object for each of "
            f"{', '.join(map(str, ids))}"
        )
    return [instruction(str(id), one, place) for id, one in zip(ids, given, strict=True)]
