"""Dialogues of a model with one that plays the user, from the openings of conversations."""

from collections import Counter
from random import Random

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.stages.dialogues import converse
from turnsmith.testing import STAGE, chat, variety
from turnsmith.types import Call, Conversation, Example, Failure, Message, Reply, Usage


def example(name, *said, **meta):
    return Example({"text": chat(*said)}, {"rating": 3.0}, {"id": name, **meta})


SHORT = example("short", "u: Hi", "a: Hello", "u: Bye", job="You are a cook.")
LONG = example("long", "s: Be kind.", "a: Yes?", "u: How are you?", "a: Fine", job="You are a smith.")


def says(*replies, finish="stop"):
    """A chat that says the replies in turn, each with ids, whatever it is asked; a Failure for None. What it
    was asked last is in `asked`."""

    def answer(conversations, *, sampling=None, seed=0):
        answer.asked = [[f"{m.role[0]}: {m.content}" for m in one.messages] for one in conversations]
        answer.sampling = sampling
        return [made(sum(m.ids is not None for m in one.messages)) for one in conversations]

    def made(number):
        said = replies[number % len(replies)]
        if said is None:
            return Failure("the prompt has 12 tokens")
        message = said if isinstance(said, Message) else Message("assistant", said, ids=(number, 7))
        return Reply(message, finish, Usage(1, 1))

    return answer


def conversed(data, by, user, **options):
    counts = Counter()
    return list(converse(data, by=by, user=user, rng=Random(0), counts=counts, **options)), counts


def texts(example, part="text"):
    return [f"{message.role[0]}: {message.content}" for message in example.parts[part].messages]


def test_the_model_and_its_user_go_on_from_the_opening():
    by, user = says("one", "two"), says("and")
    (short, long), counts = conversed([SHORT, LONG], by, user, turns=2, system="Be a person.", max_new=9)
    assert texts(short) == ["u: Hi", "a: one", "u: and", "a: two"]
    assert texts(short, "user") == ["s: Be a person.", "a: Hi", "u: one", "a: and", "u: two"]
    assert texts(long) == ["s: Be kind.", "a: Yes?", "u: How are you?", "a: one", "u: and", "a: two"]
    assert texts(long, "user")[:3] == ["s: Be a person.", "u: Yes?", "a: How are you?"]
    assert (short.id, short.values, short.meta) == ("short", SHORT.values, SHORT.meta)
    assert by.sampling == user.sampling
    assert by.sampling.max_new == 9
    assert not counts


def test_each_keeps_its_ids_in_its_own_part():
    (short,), _ = conversed([SHORT], says("one", "two"), says("and"), turns=2)
    assert [message.ids for message in short.parts["text"].messages] == [None, (0, 7), None, (1, 7)]
    assert [message.ids for message in short.parts["user"].messages] == [None, None, None, (0, 7), None]


def test_a_profile_of_the_example_is_told_to_the_user_alone():
    user = says("and")
    (short, _), _ = conversed([SHORT, LONG], says("one"), user, turns=2, system="Play.", profile="job")
    told = [asked[0] for asked in user.asked]
    assert told == ["s: Play.\n\nYou are a cook.", "s: Play.\n\nYou are a smith."]
    assert "cook" not in "".join(texts(short))
    with pytest.raises(DataError, match="'short': the profile 'age' is None, and no text"):
        conversed([SHORT], says("one"), user, profile="age")


def test_the_number_of_answers_is_drawn_between_two():
    data = [example(str(n), "u: Hi", "a: Hello") for n in range(40)]
    made, _ = conversed(data, says("one"), says("and"), turns=4, least=2)
    sizes = Counter(len(one.parts["text"].messages) for one in made)
    assert set(sizes) == {4, 6, 8}  # u and a, twice to four times
    for least in (0, 5):
        with pytest.raises(UsageError, match=f"least is {least} and turns 4"):
            conversed(data, says("one"), says("and"), turns=4, least=least)


def test_a_question_without_an_answer_is_an_opening_and_others_are_counted():
    tooled = Conversation(chat("u: Hi").messages, ({"name": "look"},))
    data = [
        example("asked", "u: Hi"),
        example("told", "s: Be kind.", "a: Hello"),
        Example({"text": tooled}, {}, {"id": "tooled"}),
        Example({"text": Conversation((Message("text", "Hi"),))}, {}, {"id": "raw"}),
        Example({"text": Conversation(())}, {}, {"id": "empty"}),
    ]
    (only,), counts = conversed(data, says("one"), says("and"), turns=1)
    assert texts(only) == ["u: Hi", "a: one"]
    assert counts == {"have no opening that could be answered": 4}


@pytest.mark.parametrize(
    ("by", "user", "reason"),
    [
        (("one", None), ("and",), "the prompt has 12 tokens"),
        (("one", " "), ("and",), "empty"),
        (("one", Message("assistant", "I look", calls=(Call("look", {}),))), ("and",), "calls"),
        (("one",), (None,), "the prompt has 12 tokens"),
        (("one",), ("",), "empty"),
        (("one",), ("bye",), "closed"),
    ],
)
def test_what_ends_early_is_kept_to_its_last_answer_and_counted(by, user, reason):
    (short,), counts = conversed([SHORT], says(*by), says(*user), turns=3, closing=("bye",))
    assert texts(short) == ["u: Hi", "a: one"]
    assert counts == {f"ended early: {reason}": 1}


@pytest.mark.parametrize(("first", "reason"), [(None, "the prompt has 12 tokens"), ("", "empty")])
def test_what_was_never_answered_is_left_out(first, reason):
    made, counts = conversed([SHORT, LONG], says(first), says("and"))
    assert made == []
    assert counts == {f"ended early: {reason}": 2, "were never answered": 2}


def test_messages_that_were_cut_stay_and_are_counted():
    (short,), counts = conversed(
        [SHORT], says("one", "two", finish="length"), says("and"), turns=2, max_new=9
    )
    assert len(short.parts["text"].messages) == 4
    assert counts == {"messages cut at 9 tokens": 2}


def test_a_conversation_that_is_not_there_is_an_error():
    with pytest.raises(DataError, match="'short' has no conversation 'chats'; it has text"):
        conversed([SHORT], says("one"), says("and"), to="chats")


@pytest.mark.parametrize("check", STAGE, ids=lambda check: check.__name__)
def test_the_contract_of_stages_holds(check):
    data = [SHORT, LONG, *(one for one in variety() if "text" in one.parts)]

    def stage(given):
        return conversed(given, says("one", "two"), says("and"), turns=3, least=1)[0]

    assert len(stage(data)) == 6
    check(stage, data)
