"""Dialogues in slices of time. Card 34."""

from collections import Counter
from random import Random

import pytest

from turnsmith.errors import UsageError
from turnsmith.stages.duplex import DISPLEASED, IDLE, INTERRUPTIONS, KINDS, RESETS, asked_again, duplex
from turnsmith.testing import STAGE
from turnsmith.types import Conversation, Example, Failure, Message, Reply, Usage


def numbered(name, *sizes):
    """A dialogue of messages of so many words each, which say whose and where they are."""
    roles = ("user", "assistant")
    said = (
        Message(roles[at % 2], " ".join(f"{name}{at}.{word}" for word in range(size)))
        for at, size in enumerate(sizes)
    )
    return Example({"text": Conversation(tuple(said))}, {}, {"id": name})


def laid(data, kind, seed=0, **options):
    counts = Counter()
    return list(duplex(data, kinds={kind: 1.0}, rng=Random(seed), counts=counts, **options)), counts


def pairs(example):
    texts = [message.content for message in example.parts["text"].messages]
    assert [message.role for message in example.parts["text"].messages] == ["user", "assistant"] * (
        len(texts) // 2
    )
    return list(zip(texts[::2], texts[1::2], strict=True))


def joined(example):
    """All that was said on either side."""
    return [" ".join(filter(None, side)) for side in zip(*pairs(example), strict=True)]


def text_of(example, role):
    return " ".join(one.content for one in example.parts["text"].messages if one.role == role)


CHAT = numbered("a", 13, 20, 3, 8, 6, 1)
OTHER = numbered("b", 7, 15)


@pytest.mark.parametrize("seed", range(5))
def test_basic_slices_say_all_and_never_both_at_once(seed):
    ((made,), counts) = laid([CHAT], "basic", seed)
    assert joined(made) == [text_of(CHAT, "user"), text_of(CHAT, "assistant")]
    assert not any(heard and said for heard, said in pairs(made))
    assert made.meta == {"id": "a", "kind": "basic", "stops": [], "resumes": []}
    assert counts == {}


def test_pieces_have_as_many_words_as_they_may_but_for_the_last_of_a_message():
    ((made,), _) = laid([CHAT], "basic")
    heard = [len(user.split()) for user, _ in pairs(made) if user]
    said = [len(assistant.split()) for _, assistant in pairs(made) if assistant]
    assert said == [7, 7, 6, 7, 1, 1]
    # 13 words in two pieces of 4 to 6 and a rest, 3 words in one slice, 6 in one or two.
    assert sum(heard) == 22
    assert all(1 <= size <= 6 for size in heard)
    assert 3 in heard
    ((made,), _) = laid([CHAT], "basic", least=5, most=5, words=4)
    assert [len(user.split()) for user, _ in pairs(made) if user] == [5, 5, 3, 3, 5, 1]
    assert max(len(assistant.split()) for _, assistant in pairs(made)) == 4


@pytest.mark.parametrize("seed", range(8))
def test_an_answer_that_is_cut_off_ends_where_the_interruption_begins(seed):
    ((made,), _) = laid([CHAT], "terminated", seed)
    (stop,) = made.meta["stops"]
    found = pairs(made)
    user, assistant = found[stop]
    assert assistant == IDLE
    assert any(user.startswith(text.split()[0]) for text in INTERRUPTIONS)
    heard, said = joined(made)
    for interruption in INTERRUPTIONS:
        heard = heard.replace(f"{interruption} ", "")
    assert heard == text_of(CHAT, "user")
    missing = set(text_of(CHAT, "assistant").split()) - set(said.split())
    (turn,) = {word.split(".")[0] for word in missing}  # of one answer, and its end
    numbers = sorted(int(word.split(".")[1]) for word in missing)
    size = {"a1": 20, "a3": 8}[turn]
    assert numbers == list(range(numbers[0], size))
    assert numbers[0] % 7 == 0


def test_interrupted_before_it_begins_the_assistant_says_nothing():
    short = numbered("a", 2, 3, 2, 3)  # the one slice of the first answer can only be dropped whole
    ((made,), _) = laid([short], "terminated")
    assert made.meta["stops"] == [1]
    assert pairs(made)[0] == ("a0.0 a0.1", IDLE)
    assert "a1." not in joined(made)[1]


@pytest.mark.parametrize("seed", range(5))
def test_a_side_question_is_answered_and_then_the_answer_goes_on(seed):
    ((made,), _) = laid([CHAT], "resumed", seed)
    (stop,), (resume,) = made.meta["stops"], made.meta["resumes"]
    found = pairs(made)
    assert found[stop][0]
    assert found[stop][1] == IDLE
    before = found[stop - 1][1].split()[-1]
    after = found[resume][1].split()[0]
    turn, word = before.split(".")
    assert after == f"{turn}.{int(word) + 1}"
    assert sorted(joined(made)[1].split()) == sorted(text_of(CHAT, "assistant").split())  # nothing is lost


@pytest.mark.parametrize("seed", range(5))
def test_a_reset_leaves_an_answer_for_the_next_dialogue(seed):
    (made, _), _ = laid([CHAT, OTHER], "reset", seed)
    (stop,) = made.meta["stops"]
    heard = " ".join(user for user, _ in pairs(made)[stop:] if user)
    assert any(heard == f"{text} {text_of(OTHER, 'user')}".strip() for text in RESETS)
    assert " ".join(said for _, said in pairs(made)[stop:] if said) == text_of(OTHER, "assistant")


@pytest.mark.parametrize("seed", range(5))
def test_interwoven_dialogues_keep_their_own_order(seed):
    (made, _), _ = laid([CHAT, OTHER], "interwoven", seed)
    for side in joined(made):
        for name, whole in (("a", CHAT), ("b", OTHER)):
            words = [word for word in side.split() if word.startswith(name)]
            assert words in (text_of(whole, "user").split(), text_of(whole, "assistant").split())


@pytest.mark.parametrize(("kind", "chat"), [("terminated", OTHER), ("resumed", numbered("a", 2, 7, 2, 9))])
def test_what_is_too_short_for_its_kind_is_basic_and_counted(kind, chat):
    ((made,), counts) = laid([chat], kind)
    assert (made.meta["kind"], made.meta["stops"]) == ("basic", [])
    assert counts == {f"too short to be {kind}, and laid out as basic": 1}


def test_an_empty_message_is_a_silent_slice_and_is_not_answered():
    chat = Conversation((Message("user", " "), Message("assistant", "Hello?")))
    ((made,), _) = laid([Example({"text": chat}, {}, {"id": "a"})], "basic")
    assert pairs(made) == [(IDLE, IDLE)]


def test_system_texts_stay_in_front_and_those_who_take_no_turns_are_left_out():
    turns = Conversation((Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Yo")))
    alone = Conversation((Message("assistant", "Yo"), Message("user", "Hi")))
    data = [Example({"text": one}, {}, {"id": str(at)}) for at, one in enumerate((turns, alone))]
    ((made,), counts) = laid(data, "basic")
    assert [one.content for one in made.parts["text"].messages] == [
        "Be kind.",
        "Hi",
        IDLE,
        IDLE,
        "Yo",
        IDLE,
        IDLE,
    ]
    assert counts == {"do not take turns": 1}


def test_kinds_come_by_their_shares():
    data = [numbered(f"c{at}-", 3, 20, 3, 20) for at in range(200)]
    kinds = {"basic": 3.0, "terminated": 1.0}
    made = Counter(one.meta["kind"] for one in duplex(data, kinds=kinds, rng=Random(0), counts=Counter()))
    assert made["terminated"] == pytest.approx(50, abs=18)
    assert made.total() == 200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kinds": {"mixed": 1.0}}, "no kind 'mixed'; there is basic, terminated"),
        ({"kinds": {"basic": 0.0}}, "duplex: kinds"),
        ({"least": 7}, "0 < least <= most"),
        ({"words": 0}, "words from 1 on"),
    ],
)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(UsageError, match=said):
        list(duplex([CHAT], **options, rng=Random(0), counts=Counter()))


def test_every_kind_is_named():
    assert set(KINDS) == {"basic", "terminated", "resumed", "reset", "interwoven"}


def asks(*replies):
    """A chat that says these, and what it was asked."""
    asked, left = [], list(replies)

    def chat(conversations, *, sampling=None, seed=0):
        asked.extend(conversations)
        found = [left.pop(0) for _ in conversations]
        return [
            one if isinstance(one, Failure) else Reply(Message("assistant", one), "stop", Usage(1, 1))
            for one in found
        ]

    return chat, asked


@pytest.mark.parametrize("seed", range(6))
def test_a_question_is_asked_again_and_the_dialogue_goes_on(seed):
    system = Message("system", "Be brief.")
    chat = Example({"text": Conversation((system, *CHAT.parts["text"].messages))}, {}, {"id": "a"})
    by, asked = asks("anew")
    (made,) = asked_again([chat], by=by, rng=Random(seed), counts=Counter())
    messages = made.parts["text"].messages
    (place,) = [at for at, one in enumerate(messages) if one.content == "anew"]
    again, before = messages[place - 1], chat.parts["text"].messages[: place - 1]
    assert messages[: place - 1] == before
    assert messages[place + 1 :] == chat.parts["text"].messages[place - 1 :]
    assert any(again.content == f"{text} {before[-2].content}" for text in DISPLEASED)
    assert [one.role for one in messages[-6:]] == ["user", "assistant"] * 3
    assert asked[0].messages == messages[:place]
    assert made.meta == {"id": "a", "kind": "regenerated"}


def test_what_cannot_be_asked_again_is_counted():
    counts = Counter()
    by, _ = asks(Failure("too long"), " ")
    odd = Example({"text": Conversation((Message("assistant", "x"),))}, {}, {"id": "c"})
    assert list(asked_again([CHAT, OTHER, odd], by=by, rng=Random(0), counts=counts)) == []
    assert counts == {
        "could not be answered: too long": 1,
        "were answered by nothing": 1,
        "do not take turns": 1,
    }


@pytest.mark.parametrize("check", STAGE, ids=lambda check: check.__name__)
def test_asking_again_keeps_the_contract_of_stages(check):
    def stage(given):
        by, _ = asks(*["anew"] * len(given))
        return asked_again(given, by=by, rng=Random(0), counts=Counter())

    check(stage, [CHAT, OTHER])
