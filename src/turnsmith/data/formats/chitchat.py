"""The chitchat data set, as turns and with its time stamps."""

from __future__ import annotations

from datetime import datetime

from turnsmith.data.formats import Parsed, Row, Skip
from turnsmith.registry import format
from turnsmith.types import Conversation, Json, Message


@format("chitchat", columns=(("messages", "start"),))
def chitchat(row: Row) -> Parsed:
    """Chats of the chitchat data set: turns of time-stamped messages of two people.

    What one sender writes in a row is joined by newlines; who speaks first is the user. `people` goes to
    meta.
    """
    said, people = _said(row)
    joined: list[tuple[str, str]] = []
    for message in said:
        words = message["text"].strip()
        if words and joined and joined[-1][0] == message["sender"]:
            joined[-1] = (joined[-1][0], f"{joined[-1][1]}\n{words}")
        elif words:
            joined.append((message["sender"], words))
    first = joined[0][0] if joined else ""
    found = [Message("user" if sender == first else "assistant", words) for sender, words in joined]
    return Parsed({"text": Conversation(tuple(found))}, ("messages",), {"people": people})


@format("chitchat-stamped")
def stamped(row: Row) -> Parsed:
    """The same chats with each message by itself, in the order of time. Metadata have `stamps`: the second at
    which each was sent, from the first one on. Asked for by name only."""
    said, people = _said(row)
    found: list[Message] = []
    times: list[float] = []
    first = ""
    for message in sorted(said, key=lambda one: _second(one["timestamp"])):
        if words := message["text"].strip():
            first = first or message["sender"]
            found.append(Message("user" if message["sender"] == first else "assistant", words))
            times.append(_second(message["timestamp"]))
    stamps: list[Json] = [time - times[0] for time in times]
    return Parsed({"text": Conversation(tuple(found))}, ("messages",), {"people": people, "stamps": stamps})


def _said(row: Row) -> tuple[list[dict[str, str]], list[Json]]:
    """The messages in their order, and the two people, in the order of their names."""
    said = [message for turn in row["messages"] for message in turn]
    people = sorted({message["sender"] for message in said})
    if len(people) != 2:
        raise Skip(f"{len(people)} senders instead of two")
    return said, people


def _second(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
