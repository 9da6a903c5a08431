"""Prompts with a completion, without one, and raw text, as TRL names their columns."""

from __future__ import annotations

from turnsmith.data.formats import Parsed, Row
from turnsmith.data.loss_control import silent
from turnsmith.data.messages import conversation, plain, say, text_of
from turnsmith.data.write import (
    BARE,
    OPENAI,
    WEIGHTS,
    Writer,
    answer,
    before,
    open_again,
    roles,
    single,
)
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.types import Conversation, Example, Json, Message, Role

USED = ("prompt", "completion", "tools")


def prompted(row: Row) -> Conversation:
    """`prompt` as text or as messages, none of which learns, and `tools`."""
    return silent(conversation(row["prompt"], "prompt", role="user", tools=row.get("tools")))


def completed(row: Row) -> Conversation:
    """The prompt and what follows it."""
    completion = conversation(row["completion"], "completion", role="assistant")
    return prompted(row).then(*completion.messages)


def border(example: Example) -> int:
    """Where the completion starts: after the last message that does not learn, else at the last answer."""
    given = single(example)
    weights = [message.weight for message in given.messages]
    after = max((place + 1 for place, weight in enumerate(weights) if weight == 0), default=0)
    return after if 0 < after < len(weights) else answer(given)


def told(messages: tuple[Message, ...], role: Role) -> Json:
    """Messages as bare text, where that says it all."""
    (only, *more) = messages
    return only.content if not more and plain(only, role) else [say(message) for message in messages]


def say_prompted(start: Conversation, **answers: tuple[Message, ...]) -> dict[str, Json]:
    """`prompt` with the answers to it, all as text or all as messages, and `tools`."""
    said = {"prompt": open_again(start.messages), **answers}
    texts = {
        name: told(messages, "user" if name == "prompt" else "assistant") for name, messages in said.items()
    }
    row: dict[str, Json] = dict(texts)
    if not all(isinstance(text, str) for text in texts.values()):
        row = {name: [say(message) for message in messages] for name, messages in said.items()}
    return row | ({"tools": list(start.tools)} if start.tools else {})


def say_completed(example: Example) -> dict[str, Json]:
    """`prompt`, `completion` and `tools`."""
    start = border(example)
    whole = single(example)
    return say_prompted(whole.upto(start), completion=whole.messages[start:])


@format(
    "completion",
    columns=(("prompt", "completion"),),
    writer=Writer(say_completed, USED, (*OPENAI, *before(border))),
)
def completion(row: Row) -> Parsed:
    """`prompt` and `completion`, as text or as messages; only the completion learns."""
    return Parsed({"text": completed(row)}, USED)


def _prompt_row(example: Example) -> dict[str, Json]:
    return say_prompted(single(example, "prompt"))


def _end(example: Example) -> int:
    return len(single(example, "prompt").messages)


@format(
    "prompt",
    columns=(("prompt",),),
    writer=Writer(_prompt_row, ("prompt", "tools"), (*OPENAI, *before(_end))),
)
def prompt(row: Row) -> Parsed:
    """`prompt` alone, as text or as messages: the part `prompt`, for a model to answer. All else is meta."""
    return Parsed({"prompt": prompted(row)}, ("prompt", "tools"))


def _text_row(example: Example) -> dict[str, Json]:
    whole = single(example)
    if len(whole.messages) != 1 or whole.messages[0].role != "text":
        raise DataError(f"it takes raw text, which no roles have shaped; the roles are {roles(whole)}")
    return {"text": whole.messages[0].content}


@format("text", columns=(("text",),), writer=Writer(_text_row, ("text",), (*BARE, WEIGHTS)))
def text(row: Row) -> Parsed:
    """`text` alone: every token learns, no template is put around it."""
    return Parsed({"text": Conversation((Message("text", text_of(row["text"], "text")),))}, ("text",))
