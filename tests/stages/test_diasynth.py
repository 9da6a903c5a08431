"""Dialogues from topics, by a scripted generator: lists, pairs, marks, speakers. Card 81."""

from collections import Counter
from random import Random

import pytest

from turnsmith.data.overlap import rouge_l
from turnsmith.errors import UsageError
from turnsmith.stages.diasynth import (
    THOUSANDTHS,
    alike,
    diasynth,
    differing,
    listed,
    parsed,
    read,
    spoken,
    summarised,
)
from turnsmith.types import Conversation, Example, Failure, Message, Reply, Usage

WRITTEN = "<cot>They are friends.</cot>\n<dialogue>\nA: Hi\nB: Hello\n</dialogue>"


class Generator:
    """Answers each sort of request with what it was given for it; keeps what it was asked."""

    def __init__(
        self, subs='["sea", "hills"]', people='["a tall man", "one old woman", "my boss"]', written=WRITTEN
    ):
        self.answers = {"Name": subs, "Describe": people, "Write": written, "Summarise": "They greet."}
        self.asked = []

    def __call__(self, conversations, *, sampling=None, seed=0):
        self.asked += [(one, sampling) for one in conversations]
        return [self._reply(one.messages[-1].content) for one in conversations]

    def _reply(self, text):
        said = next(self.answers[word] for word in self.answers if f"{word} " in text)
        return said if isinstance(said, Failure) else Reply(Message("assistant", said), "stop", Usage(1, 1))


def dialogue(name, *texts):
    roles = ("user", "assistant")
    said = tuple(Message(roles[at % 2], text) for at, text in enumerate(texts))
    return Example({"text": Conversation(said)}, {}, {"id": name})


def made(by, topics=("travel",), data=(), **options):
    counts = Counter()
    return list(diasynth(data, by=by, topics=topics, **options, rng=Random(0), counts=counts)), counts


# ------------------------------------------------------------------------------------------ the cast


def test_each_two_people_of_each_subtopic_talk_once():
    found, counts = made(by := Generator())
    assert len(found) == 2 * 3  # subtopics, and 3 * 2 / 2 pairs
    assert {tuple(one.meta["personas"]) for one in found if one.meta["subtopic"] == "sea"} == {
        ("a tall man", "one old woman"),
        ("a tall man", "my boss"),
        ("one old woman", "my boss"),
    }
    assert {one.meta["topic"] for one in found} == {"travel"}
    assert counts == {}
    lists, talks = by.asked[:3], by.asked[3:]
    assert {sampling.temperature for _, sampling in lists} == {0.1}
    assert {sampling.temperature for _, sampling in talks} == {0.2}


def test_one_person_gives_no_dialogue_and_none_is_counted():
    assert made(Generator(people='["a man"]')) == ([], {})
    found, counts = made(Generator(people="I would rather not."))
    assert (found, counts) == ([], {"lists of personas that could not be read": 2})
    assert made(Generator(subs=Failure("no"))) == ([], {"lists of subtopics that could not be read": 1})


def test_lists_are_cut_and_what_is_like_an_earlier_item_is_left_out():
    subs = '["the blue sea", "the blue sky", "hills", "towns"]'
    found, counts = made(Generator(subs=subs), sub_topics=3)  # the first two share 2 of 3 words
    assert {one.meta["subtopic"] for one in found} == {"the blue sea", "hills"}
    assert counts == {"subtopics like an earlier one": 1}


def test_no_two_kept_items_are_alike_and_the_order_decides():
    items = ["a b c", "b c d", "x y", "c d e", "x z"]
    kept = differing(items, 0.5)
    assert kept == ["a b c", "x y", "c d e"]
    assert all(rouge_l(one, other) < 0.5 for at, one in enumerate(kept) for other in kept[at + 1 :])
    assert differing(items, 1.1) == items
    assert differing(items, 0.0) == items[:1]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ('Sure! ["a", "b"]. More: ["c"]', ["a", "b"]),
        ('["a ] b", "c"]', ["a ] b", "c"]),
        ("['it''s', 'x']", ["its", "x"]),
        ('["a", ""]', None),
        ("[1, 2]", None),
        ("[]", None),
        ('["a", "b"', None),
        ("Here:\n 1. a b\n- c\n\nBye", ["a b", "c"]),
        ("none", None),
    ],
)
def test_a_list_is_read_whole_or_not_at_all(text, items):
    assert listed(text) == items


# --------------------------------------------------------------------------------------- the dialogues


def test_thoughts_and_dialogue_are_parsed_apart_without_their_marks():
    (one, *_), _ = made(Generator())
    assert [(m.role, m.content) for m in one.parts["text"].messages] == [
        ("user", "Hi"),
        ("assistant", "Hello"),
    ]
    assert (one.meta["thought"], one.meta["tagged"]) == ("They are friends.", True)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<dialogue>A: x", ("A: x", "", True)),  # cut before the end
        ("A: x\nB: y", ("A: x\nB: y", "", False)),
        ("<cot>why</cot> A: x</dialogue>", ("A: x", "why", False)),
        ("<COT>why</COT><Dialogue>A: <cot> x</Dialogue> bye", ("A:  x", "why", True)),
    ],
)
def test_what_lacks_its_marks_is_read_whole_and_flagged(text, found):
    assert parsed(text) == found
    assert not any(mark in "".join(found[:2]).lower() for mark in ("<cot>", "<dialogue>"))


def test_untagged_dialogues_are_kept_and_counted_and_unreadable_ones_left_out():
    found, counts = made(Generator(written="A: Hi\nB: Hello"))
    assert [one.meta["tagged"] for one in found] == [False] * 6
    assert counts == {"stood without their marks": 6}
    found, counts = made(Generator(written="Once upon a time."))
    assert (found, counts) == ([], {"could not be read as a dialogue of two": 6})
    assert made(Generator(written=Failure("no")))[1] == {"could not be answered: no": 6}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#Person1#: Hi\n#Person2#: Yo", ["Hi", "Yo"]),
        ("**Ann**: Hi\nand more\n**Bo**: Yo\n**Bo**: Oh", ["Hi\nand more", "Yo\nOh"]),
        ("Here it is\nA: Hi\nB: 3:15?", ["Hi", "3:15?"]),
    ],
)
def test_speakers_of_any_name_are_read_in_turn(text, said):
    assert [one.content for one in read(text).messages] == said
    assert [one.role for one in read(text).messages] == ["user", "assistant"]


@pytest.mark.parametrize("text", ["A: Hi", "A: Hi\nB: Yo\nC: Oh", "", "A: Hi\nA: Yo"])
def test_one_speaker_and_three_are_no_dialogue(text):
    assert read(text) is None


def test_dialogues_of_the_base_set_are_shown_and_not_handed_on():
    base = [dialogue(f"b{n}", f"shown {n}", "yes") for n in range(6)]
    found, _ = made(by := Generator(), data=base, shots=2)
    assert {one.id for one in found} == {f"diasynth-{n}" for n in range(6)}
    talks = [
        one.messages[-1].content for one, _ in by.asked if "Write a dialogue" in one.messages[-1].content
    ]
    shown = [text.partition("Write a dialogue")[0] for text in talks]
    assert shown[0].count("A: shown") == 2  # drawn once: all are asked with the same
    assert len(set(shown)) == 1
    assert "<cot>" in talks[0]
    _, _ = made(plain := Generator(), reason=False)
    assert not any("<cot>" in one.messages[-1].content for one, _ in plain.asked)


@pytest.mark.parametrize("options", [{"topics": ()}, {"personas": 0}, {"shots": -1}, {"apart": -0.5}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match="diasynth: topics"):
        made(Generator(), **options)


# ------------------------------------------------------------------------------ summaries, diversity


def test_each_dialogue_is_summarised_after_the_shots_which_are_not_handed_on():
    by, counts = Generator(), Counter()
    (one,) = summarised([dialogue("a", "Hi", "Yo")], by=by, shots=(("A: x\nB: y", "They x."),), counts=counts)
    asked, reply = one.parts["text"].messages
    assert asked.content.endswith("A: Hi\nB: Yo")
    assert reply == Message("assistant", "They greet.")
    ((conversation, sampling),) = by.asked
    assert [m.role for m in conversation.messages] == ["user", "assistant", "user"]
    assert (sampling.temperature, sampling.max_new) == (0.3, 256)


def test_what_has_no_summary_is_left_out_and_counted():
    by, counts = Generator(), Counter()
    by.answers["Summarise"] = " "
    assert list(summarised([dialogue("a", "Hi", "Yo")], by=by, counts=counts)) == []
    assert counts == {"say nothing": 1}


def diversity(*dialogues, **options):
    counts = Counter()
    data = [dialogue(str(at), *one) for at, one in enumerate(dialogues)]
    return [one.values.get("alike") for one in alike(data, **options, counts=counts)], counts


def test_two_that_are_the_same_are_alike_by_one_and_one_alone_by_nothing():
    assert diversity(("x", "y"), ("x", "y")) == ([1.0, 1.0], {THOUSANDTHS: 1000})
    assert diversity(("x", "y")) == ([0.0], {})
    assert diversity() == ([], {})


def test_the_greatest_likeness_counts_and_only_the_first_are_compared():
    # As lines: "A: p q B: r" against "A: p s B: t" has A, p, B of 5 and 5 words in common, 0.6; with
    # "A: u B: v" 2 of 5 and 4, 4/9.
    found, counts = diversity(("p q", "r"), ("p s", "t"), ("u", "v"), ("p q", "r"), first=3)
    assert found == [pytest.approx(0.6), pytest.approx(0.6), pytest.approx(4 / 9), None]
    assert counts == {THOUSANDTHS: 548}  # of (0.6 + 0.6 + 0.444) / 3


def test_a_dialogue_is_spoken_by_a_and_b():
    assert spoken(dialogue("a", "Hi", "Yo", "Oh")) == "A: Hi\nB: Yo\nA: Oh"
