"""What is suspicious in a conversation: reasons to look at a row before anything learns from it.

None of them is an error by itself. They are simple rules over roles and characters; what concerns people
(addresses, numbers) is counted by patterns that find most, and find some that are none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from turnsmith.types import Conversation, Message

HUGE = 1_000_000  # characters of a conversation: no context window holds it
SPECIAL = re.compile(
    r"<\|[^\s|<>]{1,40}\|>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>|\[/?INST\]|<</?SYS>>"
    r"|<\uff5c[^\s\uff5c<>]{1,40}\uff5c>"
)
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
GARBLED = re.compile("[\u00c3\u00c2][\u0080-\u00bf]|\u00e2\u20ac.|\u00ef\u00bb\u00bf|\u00f0\u0178")
REFUSAL = re.compile(
    r"\s*(?:(?:i['\u2019]m|i am) (?:very |so )?sorry|sorry|i apologi[sz]e)\b[^.\n]{0,40}?"
    r"\bi (?:can(?:not|['\u2019]t)|am (?:not able|unable)|['\u2019]m (?:not able|unable))\b"
    r"|\s*as an ai\b|\s*i (?:cannot|can['\u2019]t) (?:assist|help|fulfil|comply|provide)\b",
    re.IGNORECASE,
)


def _empty(role: str) -> Callable[[Sequence[Message]], bool]:
    def found(messages: Sequence[Message]) -> bool:
        return any(
            m.role == role and not m.content.strip() and not m.calls and m.ids is None for m in messages
        )

    return found


def _unanswered(messages: Sequence[Message]) -> bool:
    return any(m.role == "assistant" for m in messages) and messages[-1].role != "assistant"


def _repeated_role(messages: Sequence[Message]) -> bool:
    return any(a.role == b.role and a.role in ("user", "assistant") for a, b in pairwise(messages))


def _late_system(messages: Sequence[Message]) -> bool:
    return any(m.role == "system" for m in messages[1:])


def _begins_late(messages: Sequence[Message]) -> bool:
    first = next((m.role for m in messages if m.role != "system"), None)
    return first in ("assistant", "tool") and len(messages) > 1


def _stray_tool(messages: Sequence[Message]) -> bool:
    """A tool's answer that follows neither a call nor another answer."""
    return any(b.role == "tool" and a.role != "tool" and not a.calls for a, b in pairwise(messages))


def _echo(messages: Sequence[Message]) -> bool:
    asked = {m.content.strip() for m in messages if m.role == "user" and m.content.strip()}
    return any(m.role == "assistant" and m.content.strip() in asked for m in messages)


def _think(messages: Sequence[Message]) -> bool:
    return any(m.content.count("<think>") != m.content.count("</think>") for m in messages)


def _brief(messages: Sequence[Message]) -> bool:
    return any(m.role == "assistant" and 0 < len(m.content.strip()) < 3 and not m.calls for m in messages)


def _refusal(messages: Sequence[Message]) -> bool:
    return any(m.role == "assistant" and REFUSAL.match(m.content[:200]) for m in messages)


TURNS: Mapping[str, Callable[[Sequence[Message]], bool]] = {
    "an assistant message is empty": _empty("assistant"),
    "a user message is empty": _empty("user"),
    "the last message is not the assistant's": _unanswered,
    "two messages of one role follow each other": _repeated_role,
    "a system message is not the first": _late_system,
    "it begins with the assistant or a tool": _begins_late,
    "a tool answers without being called": _stray_tool,
    "user and assistant say the same": _echo,
    "<think> and </think> do not match": _think,
    "an assistant message has one or two characters": _brief,
    "an assistant message looks like a refusal": _refusal,
}
TEXTS: Mapping[str, Callable[[str], bool]] = {
    "text that looks like special tokens": lambda text: SPECIAL.search(text) is not None,
    "replacement characters: text was lost": lambda text: "\ufffd" in text,
    "text read in a wrong encoding": lambda text: not text.isascii() and GARBLED.search(text) is not None,
    "control characters": lambda text: CONTROL.search(text) is not None,
    f"more than {HUGE:,} characters": lambda text: len(text) > HUGE,
}


def suspicions(conversation: Conversation, text: str) -> list[str]:
    """The reasons for which this conversation is suspicious. text: all that is said in it."""
    messages = conversation.messages
    if not messages:
        return ["there is no message"]
    found = [reason for reason, holds in TEXTS.items() if holds(text)]
    return [*(reason for reason, holds in TURNS.items() if holds(messages)), *found]


# ------------------------------------------------------------------------------------ what is personal

LINK = re.compile(r"https?://\S+|www\.\S+")
ADDRESS = re.compile(r"(?<![\w.+-])[\w.+-]++@[\w-]++\.[\w.-]+")
PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){6,11}"
    r"|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?![\w-])"
)
CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")


def personal(text: str) -> list[str]:
    """What in the text may concern a person: its kinds."""
    kinds = {
        "links": ("http" in text or "www." in text) and LINK.search(text),
        "e-mail addresses": "@" in text and ADDRESS.search(text),
        "phone numbers": PHONE.search(text),
        "credit card numbers": any(luhn(number) for number in CARD.findall(text)),
    }
    return [kind for kind, found in kinds.items() if found]


def luhn(number: str) -> bool:
    """Whether the last digit checks the others, as on credit cards (ISO/IEC 7812-1, annex B).

    >>> luhn("4111 1111 1111 1111"), luhn("4111 1111 1111 1112")
    (True, False)
    """
    digits = [int(one) for one in reversed(number) if one.isdecimal()]
    doubled = [sum(divmod(2 * one, 10)) for one in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
