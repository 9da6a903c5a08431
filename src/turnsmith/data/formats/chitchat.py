"""The chitchat data set."""

from __future__ import annotations

from turnsmith.data.formats import Parsed, Row, Skip
from turnsmith.registry import format
from turnsmith.types import Conversation, Message


@format("chitchat", columns=(("messages", "start"),))
def chitchat(row: Row) -> Parsed:
    """Chats of the chitchat data set: turns of time-stamped messages of two people.

    What one sender writes in a row is joined by newlines; who speaks first is the user. `people` goes to
    meta.
    """
    said = [message for turn in row["messages"] for message in turn]
    people = list(dict.fromkeys(message["sender"] for message in said))
    if len(people) != 2:
        raise Skip(f"{len(people)} senders instead of two")
    joined: list[tuple[str, str]] = []
    for message in said:
        words = message["text"].strip()
        if words and joined and joined[-1][0] == message["sender"]:
            joined[-1] = (joined[-1][0], f"{joined[-1][1]}\n{words}")
        elif words:
            joined.append((message["sender"], words))
    first = joined[0][0] if joined else ""
    found = [Message("user" if sender == first else "assistant", words) for sender, words in joined]
    return Parsed({"text": Conversation(tuple(found))}, ("messages",), {"people": sorted(people)})
