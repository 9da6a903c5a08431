"""Message trees: every alternative is kept, and every answer learns once."""

import pytest

from turnsmith.data.formats.oasst import oasst
from turnsmith.errors import DataError
from turnsmith.registry import Registry
from turnsmith.testing import chat
from turnsmith.types import Example


def node(id, text, *replies, **more):
    role = "prompter" if id.startswith("q") else "assistant"
    return {"message_id": id, "text": text, "role": role, "lang": "en", **more, "replies": list(replies)}


TREE = node(
    "q1", "Hi",
    node("a1", "Hello", node("q2", "And?", node("a3", "Well.", rank=0)), node("q3", "Bye"), rank=0),
    node("a2", "Hallo", lang="de", rank=1, synthetic=True, labels={"name": ["spam"], "value": [0.0]}),
)  # fmt: skip


def parsed(tree):
    return oasst({"message_tree_id": "t", "prompt": tree})


def ids(part):
    return [[(m.fields["message_id"], m.weight) for m in path.messages] for path in part]


def test_each_way_through_the_tree_is_a_conversation_and_each_answer_learns_once():
    parts = parsed(TREE).parts
    assert ids(parts["text"]) == [
        [("q1", None), ("a1", None), ("q2", None), ("a3", None)],
        [("q1", None), ("a2", None)],
    ]
    assert ids(parts["rest"]) == [[("q1", None), ("a1", 0.0), ("q3", None)]]  # nothing new is answered here


def test_ranks_languages_labels_and_flags_stay_with_their_messages():
    other = parsed(TREE).parts["text"][1].messages[1]
    assert (other.role, other.content) == ("assistant", "Hallo")
    assert other.fields == {
        "message_id": "a2", "lang": "de", "rank": 1, "synthetic": True,
        "labels": {"name": ["spam"], "value": [0.0]},
    }  # fmt: skip


def test_a_tree_comes_back_whole_replies_in_their_order():
    """Also the one that had nothing to learn and stood between two that had."""
    found = parsed(TREE)
    example = Example(found.parts, {}, {"message_tree_id": "t", "id": "r-1", **found.meta})
    row, lost = Registry().writer("oasst")(example)
    assert row == {"id": "r-1", "message_tree_id": "t", "prompt": TREE}
    assert lost == ()


def test_deleted_messages_are_kept_and_not_learnt():
    tree = node("q1", "Hi", node("a1", "Rude", deleted=True), node("a2", "Hello"))
    parts = parsed(tree).parts
    assert ids(parts["text"]) == [[("q1", None), ("a2", None)]]
    assert ids(parts["rest"]) == [[("q1", None), ("a1", 0.0)]]


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (node("q1", "Hi", node("a1", "x"), node("a1", "y")), r"replies\[1\]: two messages have the id 'a1'"),
        (node("q1", "Hi", {"text": "x"}), r"prompt.replies\[0\] must be an object with `message_id`"),
        (node("q1", "Hi", {**node("a1", "x"), "role": "bot"}), r"replies\[0\] has the unknown role 'bot'"),
        (node("q1", None), "prompt: the content must be text, not None"),
        ("Hi", "prompt must be an object with `message_id`"),
    ],
)  # fmt: skip
def test_a_tree_that_is_none_is_named_by_place(tree, said):
    with pytest.raises(DataError, match=said):
        parsed(tree)


def test_a_tree_that_never_ends_is_refused():
    tree = node("q", "x")
    for number in range(300):
        tree = node(f"q{number}", "x", tree)
    with pytest.raises(DataError, match="not deeper than 200"):
        parsed(tree)


def test_what_came_from_no_tree_cannot_become_one():
    with pytest.raises(
        DataError, match="it takes messages of a tree, each with a message_id; roles: 'user assist"
    ):
        Registry().writer("oasst")(Example({"text": chat("u: Hi", "a: Hello")}, {}, {"id": "x"}))
