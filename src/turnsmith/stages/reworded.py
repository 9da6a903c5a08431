"""Stages that ask what a table holds in other words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from turnsmith.errors import DataError, UsageError
from turnsmith.registry import stage
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Example, Json, is_list

ROW = "row"  # the key of the metadata with the id of the row that a question is a wording of


@stage("reworded", source="arXiv:2402.17081")
def reworded(
    data: Sequence[Example],
    *,
    key: str = "wordings",
    templates: tuple[str, ...] = (),
    counts: Counter[str],
) -> Iterator[Example]:
    """Make each further wording of a conversation's last question an example of its own, with its answer.

    key: of the metadata, where a list of wordings stands. templates: wordings by rule, with `{question}`
    where the question stands. Examples get the key `row`, the id of the one that they were made of. Those
    without another wording are left out and counted. Raises UsageError where a template has no `{question}`,
    DataError where the wordings are no texts or nothing is asked.
    """
    for template in templates:
        if "{question}" not in template:
            raise UsageError(f"reworded: the template {template!r} has no {{question}} in it")
    for example in data:
        text = conversation_of(example, "text")
        asked = text.opening.messages
        if not asked or asked[-1].role != "user":
            raise DataError(f"example {example.id!r} has no question before its last answer to word anew")
        said = asked[-1].content
        others = [*_wordings(example, key), *(one.replace("{question}", said) for one in templates)]
        if not others:
            counts["have no other wording"] += 1
        meta = {name: value for name, value in example.meta.items() if name != key}
        for number, other in enumerate(others, start=1):
            messages = (*asked[:-1], replace(asked[-1], content=other), *text.messages[len(asked) :])
            yield Example(
                {"text": replace(text, messages=messages)},
                example.values,
                {**meta, "id": f"{example.id}/{number}", ROW: example.id},
            )


def _wordings(example: Example, key: str) -> list[str]:
    found: Json = example.meta.get(key)
    if found is None:
        return []
    if not is_list(found) or not all(isinstance(one, str) and one.strip() for one in found):
        raise DataError(f"example {example.id!r}: {key!r} of its metadata is {found!r:.60}, no list of texts")
    return [str(one) for one in found]
