"""Few labels and many texts: draws, questions, pseudo-labels and injected errors."""

from collections import Counter
from math import exp
from random import Random

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.stages.labels import few, labelled, mislabelled, opinions, pseudo_labelled, spoken, targets
from turnsmith.testing import STAGE
from turnsmith.types import Conversation, Example, Message

WORDS = {"0": "terrible", "1": "great"}


def text(said):
    return Conversation((Message("text", said),))


def review(name, said, label=None, **parts):
    meta = {"id": name} | ({} if label is None else {"label": label})
    return Example({"text": text(said)} | {key: text(one) for key, one in parts.items()}, {}, meta)


REVIEWS = [review(f"r{n}", f"text {n}", n % 2) for n in range(10)]


def asked(data, **options):
    return list(labelled(data, words=WORDS, **options, counts=Counter()))


def told(conversation):
    return [(one.role, one.content, one.weight) for one in conversation.messages]


def test_a_text_becomes_a_prompt_with_the_words_of_each_class():
    (made,) = asked([review("a", " fine film ", "1")])
    no, yes = made.parts["labels"]
    assert told(no) == [("text", "fine film It was", 0.0), ("text", " terrible", None)]
    assert told(yes) == [("text", "fine film It was", 0.0), ("text", " great", None)]
    assert made.values == {"target": (0.0, 1.0)}
    assert made.meta == {"id": "a", "label": "1", "class": 1}


def test_pairs_have_two_texts_in_the_template_and_labels_may_be_numbers():
    (made,) = asked([review("a", "It rains.", 0, second="It is wet.")], template="{text}? {second}. It was")
    assert made.parts["labels"][0].messages[0].content == "It rains.? It is wet.. It was"
    assert made.values["target"] == (1.0, 0.0)
    with pytest.raises(DataError, match="example 'r0' has no text for 'second' of the template; it has text"):
        asked(REVIEWS, template="{text} {second}")


def test_check_7_texts_without_a_label_are_kept_without_a_target_and_missing_classes_are_counted():
    counts = Counter()
    made = list(labelled([review("a", "x"), review("b", "y", 0)], words=WORDS, counts=counts))
    assert [one.values for one in made] == [{}, {"target": (1.0, 0.0)}]
    assert "class" not in made[0].meta
    assert counts == {"class without an example: great": 1}


@pytest.mark.parametrize("words", [{"0": "good", "1": "good"}, {"0": "good"}, {"0": "good", "1": " "}])
def test_words_that_cannot_tell_classes_are_refused(words):
    with pytest.raises(UsageError, match="two labels or more need words that differ"):
        list(labelled(REVIEWS, words=words, counts=Counter()))


def test_a_label_without_words_is_named():
    with pytest.raises(DataError, match="example 'a' has the label 2, and `words` are of 0, 1"):
        asked([review("a", "x", 2)])


# ---------------------------------------------------------------------------------------- draws


def drawn(count, side, data=REVIEWS, seed=0):
    counts = Counter()
    return [one.id for one in few(data, count=count, side=side, rng=Random(seed), counts=counts)], counts


def test_the_two_sides_of_a_draw_share_nothing_and_miss_nothing():
    ids, _ = drawn(3, "drawn")
    rest, counts = drawn(3, "rest")
    assert len(ids) == 3
    assert sorted([*ids, *rest]) == sorted(one.id for one in REVIEWS)
    assert not counts
    assert drawn(3, "drawn", seed=1)[0] != ids


def test_a_larger_draw_holds_the_smaller_one():
    assert set(drawn(2, "drawn")[0]) < set(drawn(4, "drawn")[0]) < set(drawn(7, "drawn")[0])


def test_check_7_the_rest_has_nothing_that_says_the_same_as_a_drawn_example():
    twice = [*REVIEWS, *(review(f"again-{one.id}", one.parts["text"].messages[0].content) for one in REVIEWS)]
    ids, _ = drawn(5, "drawn", twice)
    rest, counts = drawn(5, "rest", twice)
    known = {id.removeprefix("again-") for id in ids}
    assert not known & {id.removeprefix("again-") for id in rest}
    assert counts["say the same as one that is drawn"] == 20 - len(ids) - len(rest) > 0


@pytest.mark.parametrize("count", [0, 11])
def test_more_than_there_are_or_none_cannot_be_drawn(count):
    with pytest.raises(UsageError, match=f"draws {count} of 10 examples"):
        drawn(count, "drawn")


# ---------------------------------------------------------------------------------- pseudo-labels


def by_length(conversations, examples):
    """Judges an answer by its letters, nats for each; one that speaks of 3 cannot be judged."""
    judged = []
    for one, example in zip(conversations, examples, strict=True):
        assert one in example.parts["labels"]
        prompt, word = (message.content for message in one.messages)
        judged.append(None if "3" in prompt else 0.5 * len(word.strip()))
    return judged


def pseudo(**options):
    counts = Counter()
    made = list(pseudo_labelled(asked(REVIEWS), by=by_length, **options, counts=counts))
    return {one.id: one for one in made}, counts


def test_a_target_is_the_softmax_of_the_scores_and_what_cannot_be_judged_is_left_out():
    made, counts = pseudo()
    share = exp(4.0) / (exp(4.0) + exp(2.5))  # terrible has 8 letters, great 5
    assert list(made) == [f"r{n}" for n in range(10) if n != 3]
    for one in made.values():
        assert one.values["target"] == pytest.approx((share, 1 - share))
    assert counts == {
        "could not be judged": 1,
        "are of the class' terrible'": 9,
        "are of another class in truth": 4,  # r1, r5, r7 and r9 are of class 1
    }


def test_a_temperature_softens_and_hard_labels_are_certain():
    made, _ = pseudo(temperature=3.0)
    share = exp(4.0 / 3) / (exp(4.0 / 3) + exp(2.5 / 3))
    assert made["r0"].values["target"] == pytest.approx((share, 1 - share))
    assert pseudo(labels="hard")[0]["r0"].values["target"] == (1.0, 0.0)


def test_what_the_teacher_is_not_sure_of_is_left_out_and_counted():
    assert exp(4.0) / (exp(4.0) + exp(2.5)) == pytest.approx(0.8176, abs=1e-4)
    assert len(pseudo(least=0.81)[0]) == 9
    counts = Counter()
    assert not list(pseudo_labelled(asked(REVIEWS), by=by_length, least=0.82, counts=counts))
    assert counts["less sure than `least`"] == 9


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"least": 1.5}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match="pseudo_labelled: temperature is"):
        pseudo(**wrong)


def test_texts_that_were_never_asked_are_named():
    with pytest.raises(DataError, match="example 'r0' has no answers to judge"):
        list(pseudo_labelled(REVIEWS, by=by_length, counts=Counter()))


def test_a_share_of_the_labels_is_exchanged():
    before, counts = asked(REVIEWS), Counter()
    after = list(mislabelled(before, share=0.3, rng=Random(0), counts=counts))
    changed = [targets(one) != targets(other) for one, other in zip(before, after, strict=True)]
    assert sum(changed) == counts["labels exchanged"] == 3
    for one, other in zip(before, after, strict=True):
        assert sorted(targets(one)) == sorted(targets(other))
        assert one.meta == other.meta  # the class in truth stays
    assert [one.id for one in before] == [one.id for one in after]


def test_opinions_are_of_either_kind_by_turns():
    made = list(opinions([], count=6, rng=Random(0)))
    assert [one.meta["label"] for one in made] == [0, 1, 0, 1, 0, 1]
    assert [len(one.values) for one in asked(made)] == [1] * 6


@pytest.mark.parametrize("check", STAGE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("put_through", ["few", "labelled", "pseudo", "mislabelled"])
def test_contract(check, put_through):
    ways = {
        "few": lambda data: few(data, count=4, rng=Random(0), counts=Counter()),
        "labelled": lambda data: labelled(data, words=WORDS, counts=Counter()),
        "pseudo": lambda data: pseudo_labelled(data, by=by_length, counts=Counter()),
        "mislabelled": lambda data: mislabelled(data, share=0.5, rng=Random(0), counts=Counter()),
    }
    check(ways[put_through], REVIEWS if put_through in ("few", "labelled") else asked(REVIEWS))


def test_a_label_is_spoken_as_the_reply_to_its_text():
    (made,) = spoken([review("a", "fine", 1)], words=WORDS, template="Is it good? {text}")
    assert told(made.parts["text"]) == [("user", "Is it good? fine", None), ("assistant", "great", None)]
    assert made.meta == {"id": "a", "label": 1}
    with pytest.raises(DataError, match="example 'a' has the label 'None', and `words` are of 0, 1"):
        list(spoken([review("a", "fine")], words=WORDS))
