"""A reply that a server sends in pieces, as server-sent events, put together again.

Source: the WHATWG's HTML standard, 9.2.6; the chunks are those of OpenAI's chat completions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from turnsmith.sample.wire import THOUGHTS, Trouble, writable
from turnsmith.types import is_list, is_object

DONE = "[DONE]"


def events(coming: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The objects that a body of events holds, up to its end or `[DONE]`. Raises Trouble for what is none.

    >>> list(events([b': hi\\n\\ndata: {"a":', b' 1}\\r\\n\\r\\n', b'data: [DONE]\\n\\n']))
    [{'a': 1}]
    """
    for data in _data(coming):
        if data == DONE:
            return
        try:
            found: Any = json.loads(data)
        except ValueError as error:
            raise Trouble(f"a piece of the reply is no JSON ({error})") from None
        if not is_object(found):
            raise Trouble("a piece of the reply is no object")
        yield found


def _data(coming: Iterable[bytes]) -> Iterator[str]:
    """The data of each event. What stands behind the last empty line belongs to none."""
    lines: list[str] = []
    for line in _lines(coming):
        if line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
        elif not line and lines:
            yield "\n".join(lines)
            lines = []


def _lines(coming: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for piece in coming:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")


class Gathering:
    """Takes the pieces of one reply. shown: characters of it that were given out.

    begun: what the reply begins with; it is given out before the first words that come.
    """

    def __init__(self, begun: str = "") -> None:
        self.shown, self._begun = 0, begun
        self._words: dict[str, str] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._ids: list[int] = []
        self._logprobs: list[Any] = []
        self._finish: str | None = None
        self._usage: Any = None

    def take(self, event: dict[str, Any], clean: Callable[[str], str]) -> str:
        """What one more piece adds to the words that are said. clean: makes a server's words fit to show."""
        if event.get("error"):
            raise Trouble(f"the server says: {clean(json.dumps(event['error'], ensure_ascii=False))}")
        try:
            return self._take(event)
        except (TypeError, AttributeError) as error:
            raise Trouble(f"a piece of the reply cannot be read ({error})") from None

    def _take(self, event: dict[str, Any]) -> str:
        self._usage = event.get("usage") or self._usage
        choices: Any = event.get("choices")
        choice: Any = choices[0] if is_list(choices) and choices else {}
        self._finish = choice.get("finish_reason") or self._finish
        self._ids += choice.get("token_ids") or []
        self._logprobs += (choice.get("logprobs") or {}).get("content") or []
        delta: Any = choice.get("delta") or {}
        for name in ("content", *THOUGHTS):
            if isinstance(delta.get(name), str):
                self._words[name] = self._words.get(name, "") + delta[name]
        for part in delta.get("tool_calls") or []:
            self._call(part)
        said = delta.get("content") or ""
        if said and not self.shown:
            said = self._begun + said
        self.shown += len(said)
        return said

    def _call(self, part: dict[str, Any]) -> None:
        """The first piece of a call names it; the others go on with its arguments."""
        call = self._calls.setdefault(part.get("index") or 0, {"type": "function", "function": {}})
        if part.get("id"):
            call["id"] = part["id"]
        for name, text in (part.get("function") or {}).items():
            call["function"][name] = call["function"].get(name, "") + (text or "")

    def whole(self) -> dict[str, Any]:
        """The choice and the usage, as an answer in one piece has them. Raises Trouble where the reply did
        not come to its end."""
        if self._finish is None:
            raise Trouble("the stream ended before the reply did")
        message: dict[str, Any] = {"role": "assistant", "content": self._words.get("content"), **self._words}
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": self._finish}
        if self._ids:
            choice |= {"token_ids": self._ids, "logprobs": {"content": self._logprobs}}
        return writable({"choice": choice, "usage": self._usage})
