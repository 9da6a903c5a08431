"""Chat templates: conversations to the text that a model was taught to read.

A template is a program that others wrote. It runs in the sandbox of transformers, over messages in the form
that this template expects, and what it does with them is observed: nothing here knows a family of models by
name.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from traceback import walk_tb
from typing import Any, Literal, NamedTuple

from turnsmith.data.opaque import is_opaque
from turnsmith.errors import RenderError
from turnsmith.types import Call, Conversation, Json, Message, is_list, is_object

# Noncharacters of Unicode: no text may hold them, and no tokenizer has a token for one.
BREAK, OPEN, CLOSE = "\ufdd0", "\ufdd1", "\ufdd2"
OURS = re.compile(f"[{BREAK}{OPEN}{CLOSE}]")
DATE = "01 Jan 2026"  # what a template is told today is: prompts must not change while a model is tuned
REMEMBERED = 1024  # texts
STRFTIME = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1")
FROZEN = "{%- macro strftime_now(format) -%}"
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")

Reasoning = Literal["field", "inline", "none"]


class Text(NamedTuple):
    """A conversation as text. marks: stretches that the template says the model writes; None if it has no
    `{% generation %}` marks."""

    text: str
    marks: tuple[tuple[int, int], ...] | None


@dataclass(frozen=True, slots=True)
class Dialect:
    """In which form a template reads messages.

    parts: contents as lists of parts. empty: the content of a message that only calls tools. arguments: of
    calls, as an object or as JSON text; None where calls are not rendered. reasoning: thoughts in a field of
    their own, or in front of the content between <think> marks, or nowhere. tools: whether schemas show.
    """

    parts: bool = False
    empty: str | None = ""
    arguments: Literal["object", "text"] | None = None
    reasoning: Reasoning = "none"
    tools: bool = False


class Template:
    """One chat template with the special tokens of its tokenizer, and options that hold for every text.

    special: texts that are no content wherever a tokenizer meets them; in what messages say they are broken
    up by a BREAK, so that what is left of them in a text is the template's own.
    """

    def __init__(
        self,
        source: str,
        named: Mapping[str, str],
        special: Sequence[str],
        dialect: Dialect | None = None,
        memory: dict[Any, Text] | None = None,
    ) -> None:
        self.source, self.named, self.special = source, dict(named), tuple(special)
        self.dialect = dialect or Dialect()
        self.options: dict[str, Any] = dict(named)
        self.marked = GENERATION.search(source) is not None
        inner = "|".join(re.escape(one) for one in sorted(special, key=len, reverse=True))
        self.pattern = re.compile(inner or r"(?!)")
        self._starts = {one[0] for one in special}
        self.opaque = not self.marked and is_opaque(source)
        self._memory = memory
        self._kept = lru_cache(maxsize=4096)(self._guard)

    def remembering(self) -> Template:
        """The same template, which does not make a text twice: for conversations that come again and
        again."""
        return Template(self.source, self.named, self.special, self.dialect, {})

    def reading(self, dialect: Dialect) -> Template:
        """The same template, given messages in another form."""
        return Template(self.source, self.named, self.special, dialect)

    def text(
        self,
        conversation: Conversation,
        *,
        prompt: bool = False,
        name: str = "?",
        mark: Container[int] = (),
    ) -> Text:
        """The conversation as text, BREAKs included.

        prompt: with what comes before an answer behind it. mark: messages that get OPEN and CLOSE around what
        they say. Raises RenderError with what the template raised, naming the example.
        """
        if self._memory is None or mark:
            return self._run(conversation, prompt, name, mark)
        key = (tuple((message.role, message.content) for message in conversation.messages), prompt)
        if key not in self._memory:
            if len(self._memory) >= REMEMBERED:
                self._memory.clear()
            self._memory[key] = self._run(conversation, prompt, name, mark)
        return self._memory[key]

    def _run(self, conversation: Conversation, prompt: bool, name: str, mark: Container[int]) -> Text:
        from transformers.utils.chat_template_utils import render_jinja_template

        rows = self.rows(conversation, name, mark)
        tools = [self._guarded(tool, name) for tool in conversation.tools] or None
        try:
            made: Any = render_jinja_template(
                [rows],
                tools=tools,
                chat_template=self.source,
                return_assistant_tokens_mask=self.marked,
                add_generation_prompt=prompt,
                **self.options,
            )
        except Exception as error:  # noqa: BLE001 (a program that others wrote raises what it likes)
            _untie(error)
            raise _refused(error, conversation, name) from None
        texts, marks = made
        return Text(texts[0], tuple(marks[0]) if self.marked else None)

    def guarded(self, text: str) -> str:
        """The text with special tokens in it broken up, so that they are only text."""
        if not any(start in text for start in self._starts):
            return text
        return self.pattern.sub(lambda found: f"{found[0][0]}{BREAK}{found[0][1:]}", text)

    # ------------------------------------------------------------------------------------ messages

    def rows(
        self, conversation: Conversation, name: str = "?", mark: Container[int] = ()
    ) -> list[dict[str, Any]]:
        """The messages as the template is given them."""
        rows: list[dict[str, Any]] = []
        open_calls: list[Call] = []
        for index, message in enumerate(conversation.messages):
            if message.role == "text":
                raise RenderError(
                    f"message {index} of example {name!r} is raw text: it has no place in a chat"
                )
            open_calls = [*message.calls] or open_calls
            called = message.name or (_answered(message, open_calls) if message.role == "tool" else None)
            row = {
                **{key: self._guarded(value, name) for key, value in message.fields.items()},
                "role": message.role,
                "content": self._content(message, name, index in mark),
            }
            row |= {"name": self._guarded(called, name)} if called else {}
            row |= {"tool_call_id": self._guarded(message.call_id, name)} if message.call_id else {}
            if message.thinking and self.dialect.reasoning == "field":
                row["reasoning_content"] = self._guarded(message.thinking, name)
            if message.calls:
                row["tool_calls"] = [self._call(call, name) for call in message.calls]
            rows.append(row)
        return rows

    def said(self, text: str, name: str) -> str:
        """What a message says, guarded. Raises RenderError where it holds a character that is ours."""
        kept = self._kept(text)
        if kept is None:
            raise RenderError(
                f"example {name!r} holds U+FDD0, U+FDD1 or U+FDD2, which no text may: remove it"
            )
        return kept

    def _guard(self, text: str) -> str | None:
        """Guarded; None where the text holds a character that is ours."""
        return None if OURS.search(text) else self.guarded(text)

    def _content(self, message: Message, name: str, mark: bool) -> Any:
        text = self._guarded(message.content, name)
        if mark:
            text = marked(text)
        if message.thinking and self.dialect.reasoning == "inline":
            text = f"<think>\n{self._guarded(message.thinking, name)}\n</think>\n\n{text}"
        if message.calls and not text:
            return self.dialect.empty
        return [{"type": "text", "text": text}] if self.dialect.parts else text

    def _call(self, call: Call, name: str) -> dict[str, Any]:
        from json import dumps

        arguments = self._guarded(call.arguments, name)
        if self.dialect.arguments == "text":
            arguments = dumps(arguments, ensure_ascii=False)
        function = {"name": self._guarded(call.name, name), "arguments": arguments}
        known = {"id": self._guarded(call.id, name)} if call.id else {}
        return {**known, "type": "function", "function": function}

    def _guarded(self, value: Json, name: str) -> Any:
        if isinstance(value, str):
            return self.said(value, name)
        if is_object(value):
            return {self._guarded(key, name): self._guarded(one, name) for key, one in value.items()}
        if is_list(value):
            return [self._guarded(one, name) for one in value]
        return value


def marked(text: str) -> str:
    """OPEN and CLOSE around the text, inside the spaces around it: templates strip those."""
    core = text.strip()
    start = text.find(core)
    return f"{text[:start]}{OPEN}{core}{CLOSE}{text[start + len(core) :]}"


def frozen(source: str, *, date: str = DATE) -> str:
    """The template, with the day that it is told fixed in its first line.

    date: as `%d %b %Y` writes it. A template that does not ask for the day stays as it is.
    """
    import datetime as dt

    formats = [found[1] for found in STRFTIME.findall(source)]
    if "strftime_now(" not in source or source.startswith(FROZEN):
        return source
    if len(formats) < source.count("strftime_now("):
        raise RenderError(
            "the chat template asks for the day in a form that is only known when it runs: put the day "
            "itself in its place"
        )
    day = dt.datetime.strptime(date, "%d %b %Y").replace(tzinfo=dt.UTC)
    said = {form: day.strftime(form) for form in sorted(set(formats))}
    return f"{FROZEN}{{{{ {said!r}[format] }}}}{{%- endmacro -%}}{source}"


def _refused(error: Exception, conversation: Conversation, name: str) -> RenderError:
    """What a template raised, in words."""
    from jinja2 import TemplateSyntaxError
    from jinja2.exceptions import SecurityError

    if isinstance(error, SecurityError):
        return RenderError(
            f"the chat template tries to leave its sandbox ({error}): do not use this tokenizer"
        )
    if isinstance(error, TemplateSyntaxError):
        return RenderError(f"line {error.lineno} of the chat template is no Jinja: {error}")
    roles = " ".join(message.role for message in conversation.messages)
    return RenderError(f"the chat template refuses example {name!r} (roles: {roles}): {error}")


def _untie(error: Exception) -> None:
    """Let go of the frames that a template's error leads to.

    What jinja builds to show the template's lines refers to itself, and so keeps the locals of all callers,
    models among them, until the collector happens to run.
    """
    from jinja2 import debug

    for frame, _ in walk_tb(error.__traceback__):
        back = frame.f_back
        while back is not None and back.f_code.co_filename == debug.__file__:
            back.clear()
            back = back.f_back
    error.__traceback__ = None


def _answered(message: Message, open_calls: list[Call]) -> str | None:
    """The name of the tool that a tool message speaks for: that of the call with its id, else of the first
    call that has no answer yet. The call is answered then."""
    ids = [call.id for call in open_calls]
    at = ids.index(message.call_id) if message.call_id is not None and message.call_id in ids else 0
    return open_calls.pop(at).name if open_calls else None
