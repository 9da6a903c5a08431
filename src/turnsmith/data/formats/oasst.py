"""Message trees of OpenAssistant: every answer that was given to every message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from turnsmith.data.cells import unpacked
from turnsmith.data.formats import Parsed, Row
from turnsmith.data.messages import text_of
from turnsmith.data.write import (
    CALL_IDS,
    CALLS,
    IMAGES,
    NAMES,
    SAMPLED,
    SPANS,
    THINKING,
    TOOLS,
    Writer,
    roles,
)
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.types import Conversation, Example, Json, Message, Part, Role, is_list, is_object

ROLE: dict[str, Role] = {"prompter": "user", "assistant": "assistant"}
KEYS = frozenset(("text", "role", "replies"))
DEEPEST = 200  # messages on one path: more is no conversation, and would exhaust the stack
USED = ("prompt",)
REST = "rest"  # the part of paths with nothing to learn, and the key of meta that has their places


# ------------------------------------------------------------------------------------------ reading


def _paths(
    node: Any, where: str, before: tuple[Message, ...], seen: set[str]
) -> Iterator[tuple[Message, ...]]:
    """All ways from the root to a message without replies, in the order of the file."""
    if not is_object(node) or not isinstance(node.get("message_id"), str):
        raise DataError(f"{where} must be an object with `message_id`, `text`, `role` and `replies`")
    role, replies = node.get("role"), node.get("replies") or []
    if role not in ROLE:
        raise DataError(f"{where} has the unknown role {role!r}; known are {', '.join(ROLE)}")
    if node["message_id"] in seen:
        raise DataError(f"{where}: two messages have the id {node['message_id']!r}")
    if not is_list(replies) or len(before) == DEEPEST:
        raise DataError(f"{where}: replies must be a list, and not deeper than {DEEPEST}")
    seen.add(node["message_id"])
    fields = {key: value for key, value in node.items() if key not in KEYS}
    weight = 0.0 if node.get("deleted") is True else None
    path = (*before, Message(ROLE[role], text_of(node["text"], where), weight, fields=fields))
    if not replies:
        yield path
    for number, reply in enumerate(replies):
        yield from _paths(reply, f"{where}.replies[{number}]", path, seen)


def _each_once(paths: list[tuple[Message, ...]]) -> tuple[dict[str, Part], dict[str, Json]]:
    """Paths that have an answer to learn, in which each answer learns once, and those that have none; and as
    meta, where among all paths the latter were."""
    found: dict[str, list[Conversation]] = {"text": [], REST: []}
    learnt: set[Json] = set()
    places: list[Json] = []
    for place, path in enumerate(paths):
        ids = [message.fields["message_id"] for message in path]
        fresh = [
            replace(message, weight=0.0) if message.role == "assistant" and id in learnt else message
            for message, id in zip(path, ids, strict=True)
        ]
        learns = any(m.role == "assistant" and m.weight is None and m.content.strip() for m in fresh)
        found["text" if learns else REST].append(Conversation(tuple(fresh)))
        learnt.update(ids if learns else ())
        places += [] if learns else [place]
    return {name: tuple(ones) for name, ones in found.items() if ones}, {REST: places} if places else {}


# ------------------------------------------------------------------------------------------ writing


@dataclass(slots=True)
class Node:
    """A message of a tree, with its replies by their ids, in the order of the file."""

    message: Message
    replies: dict[str, Node] = field(default_factory=dict[str, "Node"])


def _in_order(example: Example) -> list[Conversation]:
    """All paths, those with nothing to learn back in their places."""
    parts = {name: list(part) if isinstance(part, tuple) else [part] for name, part in example.parts.items()}
    found = parts.pop("text", [])
    rest, places = parts.pop(REST, []), example.meta.get(REST, ())
    if parts or not isinstance(places, list | tuple) or len(places) != len(rest):
        raise DataError(
            f"it takes the paths of a tree as they were read; there is {', '.join(example.parts)}"
        )
    for place, path in zip(places, rest, strict=True):
        found.insert(int(str(place)), path)
    return found


def tree(example: Example) -> Node:
    """The tree that the paths are of. Raises DataError where they are of several, or of none."""
    top = Node(Message("user", ""))
    for path in _in_order(example):
        at = top
        for message in path.messages:
            id = message.fields.get("message_id")
            if not isinstance(id, str) or message.role not in ROLE.values():
                raise DataError(f"it takes messages of a tree, each with a message_id; roles: {roles(path)}")
            at = at.replies.setdefault(id, Node(message))
    if len(top.replies) != 1:
        raise DataError(f"it takes the paths of one tree, and there are {len(top.replies)} first messages")
    return next(iter(top.replies.values()))


def _row(example: Example) -> dict[str, Json]:
    said = _said(tree(example))
    if _each_once(list(_paths(said, "prompt", (), set())))[0] != dict(example.parts):
        raise DataError("it takes the paths of a tree as they were read, each answer learnt once")
    return {"prompt": said}


def _said(node: Node) -> dict[str, Json]:
    """A message with its replies, in the order in which OpenAssistant writes the keys."""
    fields: Mapping[str, Json] = node.message.fields
    role = "prompter" if node.message.role == "user" else "assistant"
    said: dict[str, Json] = {"text": node.message.content, "role": role}
    replies: list[Json] = [_said(reply) for reply in node.replies.values()]
    return {**fields, **said, "replies": replies}


LIMITS = (IMAGES, *SAMPLED, SPANS, CALLS, CALL_IDS, NAMES, THINKING, TOOLS)


@format(
    "oasst",
    columns=(("message_tree_id", "prompt"),),
    writer=Writer(_row, USED, LIMITS, meta=(REST,)),
)
def oasst(row: Row) -> Parsed:
    """OpenAssistant's message trees: `message_tree_id` and `prompt`, with `replies` that have replies.

    Each way from the prompt to a message without replies is a conversation of the part `text`; every answer
    learns once, on the first of them. Ways with nothing to learn are the part `rest`. Ranks, languages,
    labels and all else stay with the messages; deleted ones do not learn.
    """
    if not isinstance(row["message_tree_id"], str):
        raise DataError(f"message_tree_id must be text, not {row['message_tree_id']!r:.60}")
    parts, meta = _each_once(list(_paths(unpacked(row["prompt"]), "prompt", (), set())))
    return Parsed(parts, USED, meta)
