"""A chat template as Ollama's Modelfile: what the template puts around each role's words, found by using it.

Ollama knows no Jinja: it takes a Go template. One that puts the same text before and after the words of a
role, wherever the turn stands, can be said in both; nothing else is translated.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnsmith.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARKS = tuple(f"Mark{letter}Mark" for letter in "ABCDEFG")  # contents that no template holds
WITHOUT = ("user", "assistant", "user", "assistant", "user")
WITH = ("system", *WITHOUT)


@dataclass(frozen=True, slots=True)
class Turns:
    """A chat template of the form: head, then before + content + after for each turn, then opening.

    around: role -> what stands before and after its content. opening: what the model's reply begins after.
    default: the system message that the template puts in where a conversation has none.
    strips: whether the template takes spaces off the ends of contents, which a Go template cannot.
    """

    head: str
    around: Mapping[str, tuple[str, str]]
    opening: str
    default: str | None
    strips: bool


def derive(words: "PreTrainedTokenizerBase") -> Turns:
    """The template of the tokenizer in that form, proved on conversations with and without a system message.

    Raises ModelError if the template is not of that form.
    """
    try:
        turns = _around(words)
    except ValueError as error:
        raise _refusal(str(error)) from None
    roles = [WITHOUT[:1], WITHOUT[:3], WITHOUT]
    if "system" in turns.around:
        roles += [WITH[:2], WITH[:4], WITH]
    for each in roles:
        messages = [(role, mark) for role, mark in zip(each, MARKS, strict=False)]
        if expand(turns, messages) != _rendered(words, each, generation=True):
            raise _refusal(f"a conversation of {', '.join(each)} comes out otherwise")
    return turns


def expand(turns: Turns, messages: Sequence[tuple[str, str]]) -> str:
    """The prompt that Ollama makes of (role, content) with the template and system message of `modelfile`."""
    if turns.default is not None and messages[0][0] != "system":
        messages = [("system", turns.default), *messages]
    said = (f"{turns.around[role][0]}{content}{turns.around[role][1]}" for role, content in messages)
    return turns.head + "".join(said) + turns.opening


def modelfile(turns: Turns, *, gguf: str, stops: Sequence[str], bos: str) -> str:
    """The Modelfile. gguf: the file's name, beside it. stops: every text that ends a reply.

    bos: what llama.cpp puts before each prompt by itself, so that the template must not; empty if nothing.
    """
    lines = [f"FROM ./{gguf}", f'TEMPLATE """{_go(turns, bos)}"""']
    if turns.default is not None:
        lines.append(f'SYSTEM """{turns.default}"""')
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]
    texts = [_go(turns, bos), turns.default or ""]
    if any('"""' in text or text.endswith('"') for text in texts):
        raise _refusal('it holds """ or ends on ", which a Modelfile cannot quote')
    return "\n".join(lines) + "\n"


def _go(turns: Turns, bos: str) -> str:
    """The Go template."""
    branches = [
        f'eq .Role "{role}" }}}}{_quoted(before)}{{{{ .Content }}}}{_quoted(after)}'
        for role, (before, after) in turns.around.items()
    ]
    loop = "{{ if " + "{{ else if ".join(branches) + "{{ end }}"
    head = turns.head.removeprefix(bos)
    return f"{_quoted(head)}{{{{ range .Messages }}}}{loop}{{{{ end }}}}{_quoted(turns.opening)}"


def _quoted(text: str) -> str:
    """Text that Go is to write as it is."""
    return text.replace("{{", '{{ "{{" }}')


def _around(words: "PreTrainedTokenizerBase") -> Turns:
    """What stands around each role's words. Raises ValueError where that depends on the turn's place."""
    user_after = _stretches(words, ["user"])[1]
    opened, _, assistant_after = _stretches(words, ["user", "assistant"])
    first, to_assistant, to_user, _ = _stretches(words, ["user", "assistant", "user"])
    if first != opened:
        raise ValueError("its beginning depends on what follows")
    before = {
        "user": _less(to_user, assistant_after, front=True),
        "assistant": _less(to_assistant, user_after, front=True),
    }
    opening = _less(_stretches(words, ["user"], generation=True)[1], user_after, front=True)
    head, default = _less(first, before["user"], front=False), None
    around = {"user": (before["user"], user_after), "assistant": (before["assistant"], assistant_after)}
    strips = f" {MARKS[0]}" not in _rendered(words, ["user"], contents=[f" {MARKS[0]} "])
    if _takes_system(words):
        system, to_first_user, _ = _stretches(words, ["system", "user"])
        system_after = _less(to_first_user, before["user"], front=False)
        bos = words.bos_token if isinstance(words.bos_token, str) else ""
        start = "" if before["user"].startswith(bos) else bos
        head, system, default = _system(head, system, system_after, start)
        around = {"system": (system, system_after), **around}
    return Turns(head, around, opening, default, strips)


def _system(head: str, system: str, after: str, bos: str) -> tuple[str, str, str | None]:
    """Head, text before a system message, and default system message.

    head: what stands before the first user where there is no system message; system: what stands before one.
    bos: what may stand before everything, once.
    """
    if system.startswith(head):
        return head, system.removeprefix(head), None
    start = bos if head.startswith(bos) and system.startswith(bos) else ""
    rest, before = head.removeprefix(start), system.removeprefix(start)
    default = _less(_less(rest, before, front=True), after, front=False)
    if not default:
        raise ValueError("it begins every conversation with an empty system message")
    return start, before, default


def _takes_system(words: "PreTrainedTokenizerBase") -> bool:
    """Whether the template has a place for a system message, rather than refusing one."""
    from jinja2 import TemplateError

    try:
        _rendered(words, ["system", "user"])
    except TemplateError:
        return False
    return True


def _stretches(words: "PreTrainedTokenizerBase", roles: Sequence[str], generation: bool = False) -> list[str]:
    """What the template writes before, between and after the contents."""
    text = _rendered(words, roles, generation=generation)
    stretches = []
    for mark in MARKS[: len(roles)]:
        if text.count(mark) != 1:
            raise ValueError("it drops, repeats or reorders messages")
        stretch, _, text = text.partition(mark)
        stretches.append(stretch)
    return [*stretches, text]


def _rendered(
    words: "PreTrainedTokenizerBase",
    roles: Sequence[str],
    *,
    generation: bool = False,
    contents: Sequence[str] = MARKS,
) -> str:
    from jinja2 import TemplateError

    rows = [{"role": role, "content": mark} for role, mark in zip(roles, contents, strict=False)]
    try:
        text = words.apply_chat_template(rows, tokenize=False, add_generation_prompt=generation)
    except TemplateError:
        if "system" in roles:
            raise
        raise ValueError(f"it refuses a conversation of {', '.join(roles)}") from None
    assert isinstance(text, str)
    return text


def _less(text: str, part: str, *, front: bool) -> str:
    """The text without the part that it must begin or end with."""
    if not (text.startswith(part) if front else text.endswith(part)):
        raise ValueError("what it writes around a turn depends on where the turn stands")
    return text.removeprefix(part) if front else text.removesuffix(part)


def _refusal(why: str) -> ModelError:
    return ModelError(
        f"this chat template cannot be said in Ollama's language: {why}. Without its own, Ollama would "
        "look at the template in the GGUF and take the one most like it that it knows, which may be another. "
        "Export --to gguf: llama.cpp runs the template in the file (llama-server --jinja)"
    )
