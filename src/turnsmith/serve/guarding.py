"""Guards: what is asked is judged before it is answered, and what is answered before it is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from turnsmith.serve.refusals import Refused
from turnsmith.types import Conversation, Example, Message, Scorer

FILTERED = "content_filter"  # why a flagged reply has ended
SPOKEN = ("system", "user", "assistant", "text")  # what tools say is read by the model alone


@dataclass(frozen=True)
class Guard:
    """What judges the last message of a conversation: how bad it is, by a scorer, and from which number on it
    is flagged. It judges in a thread of its own."""

    name: str
    scorer: Scorer
    threshold: float = 0.5
    thread: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 1))

    async def flags(self, conversation: Conversation) -> bool:
        """Whether it is flagged. Raises Refused where it cannot be judged: nothing passes unjudged."""
        example = Example({"text": conversation}, meta={"id": "a request"})
        work = partial(self.scorer, [conversation], [example])
        (score,) = await asyncio.get_running_loop().run_in_executor(self.thread, work)
        if score is None:
            text = f"the guard {self.name} cannot judge what is said: nothing is answered"
            raise Refused(500, text, kind="server_error")
        return score >= self.threshold


async def flagged(
    guards: Sequence[Guard], conversation: Conversation, reply: Message | None = None
) -> str | None:
    """The guard that flags what the user says last in a conversation, or a reply to it; None where none does.
    A text to go on from counts as a user's."""
    if not guards:
        return None
    said = [
        Message("user" if one.role == "text" else one.role, one.content)
        for one in conversation.messages
        if one.role in SPOKEN and one.content
    ]
    users = [number for number, one in enumerate(said) if one.role == "user"]
    said = said[: users[-1] + 1] if users else []
    if reply is not None:
        said.append(Message("assistant", _whole(reply)))
    for guard in guards if said else ():
        if await guard.flags(Conversation(tuple(said))):
            return guard.name
    return None


def refusal(name: str) -> str:
    """What is said in the place of what a guard has flagged."""
    return f"This request is not answered: it was flagged by {name}."


def withheld(number: int, name: str, *, chat: bool) -> dict[str, Any]:
    """A choice in the place of one that a guard has flagged."""
    said: dict[str, Any] = {"text": ""}
    if chat:
        said = {"message": {"role": "assistant", "content": None, "refusal": refusal(name)}}
    return {"index": number, **said, "logprobs": None, "finish_reason": FILTERED}


def _whole(reply: Message) -> str:
    """All that a reply says, thoughts and calls included."""
    calls = [f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})" for call in reply.calls]
    return "\n".join(part for part in (reply.thinking, reply.content, *calls) if part)
