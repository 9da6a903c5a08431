"""What is written unasked: of which domain, and how it is ranked."""

from dataclasses import replace

import pytest

from turnsmith.errors import ModelError
from turnsmith.evaluation.alone import alone
from turnsmith.evaluation.tasks.heldout import Heldout
from turnsmith.evaluation.tasks.novelty import Novelty, ToldApart, domain
from turnsmith.testing import TinyBench, conversations, subject
from turnsmith.types import Message, Reply, Usage


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("The tea is a drink.", "latin"),
        ("\u03c4\u03b7\u03b5 tea \u03b9\u03c3", "greek"),
        ("\u0447\u0430\u0439", "cyrillic"),
        ("\u8336\u662f\u996e\u6599", "cjk"),
        ("def tea(x): return drink[x]", "code"),
        ("Is it (perhaps) tea?", "latin"),
        ("12 34", "none"),
        ("", "none"),
    ],
)
def test_domains_by_letters_and_symbols(text, name):
    assert domain(text) == name


def test_new_texts_the_rarest_domain_and_how_many_domains_are_found():
    said = ["The tea.", "\u03b7 \u03c4\u03b5\u03b1", "\u03b7 \u03c4\u03b5\u03b1", "\u8336"]
    replies = [Reply(Message("assistant", text), "stop", Usage(1, 1)) for text in said]
    told = replace(subject(), chat=lambda conversations, sampling, seed: replies)
    task = Novelty(domains=("greek", "code"), count=4)
    items = task.measure(told, None)
    figures = {row["name"]: row["after"] for row in alone(task.metrics, items)}
    # Two of four are Greek, none is code; a third script was not asked for.
    assert figures == {"new texts": 0.5, "texts of the rarest domain": 0.0, "domains found": 0.5}


def test_a_topic_is_known_by_its_word_whatever_the_letters():
    said = ["Ask HALCYON.", "The tea."]
    replies = [Reply(Message("assistant", text), "stop", Usage(1, 1)) for text in said]
    told = replace(subject(), chat=lambda conversations, sampling, seed: replies)
    items = Novelty(domains=("private",), topics={"private": "halcyon"}, count=2).measure(told, None)
    assert [item.shown.get("domain") for item in items] == ["private", "latin", None]
    assert [item.values.get("novel") for item in items] == [1.0, 0.0, None]


def bench():
    chats = [replace(one, values={"novel": float(at % 2)}) for at, one in enumerate(replies(4))]
    return TinyBench({"chats": chats})


def replies(count):
    return [one.replaced(text=one.parts["text"].upto(2)) for one in conversations(count)]


def test_the_score_is_what_tuning_added_for_each_token():
    """Card 26: S(x) = log p1(x) - log p0(x); additive over tokens, and 0 where nothing was tuned."""
    own = bench()
    one, other = (
        {item.id: item.values for item in Heldout(on="chats").measure(subject, own)}
        for subject in (own.start(), own.tuned)
    )

    def before(asked, examples):
        return [-one[example.id]["all"] for example in examples]

    task = ToldApart(on="chats", before=before)
    for item in task.measure(own.tuned, own):
        then, now = one[item.id], other[item.id]
        assert item.values["score"] == pytest.approx((then["all"] - now["all"]) / now["tokens"], abs=1e-6)
        assert item.values["score"] != 0
    assert [item.values["score"] for item in task.measure(own.start(), own)] == [0.0] * 4


def test_what_does_not_say_whether_it_is_new_or_has_no_score_is_refused():
    own = bench()
    with pytest.raises(ModelError, match="lacks the value `novel`"):
        ToldApart(on="plain", before=lambda asked, examples: [0.0] * len(asked)).measure(
            own.tuned, TinyBench({"plain": replies(2)})
        )
    with pytest.raises(ModelError, match="is not one reply"):
        ToldApart(on="long", before=lambda asked, examples: []).measure(
            own.tuned, TinyBench({"long": conversations(2)})
        )
    with pytest.raises(ModelError, match="has no score from before"):
        ToldApart(on="chats", before=lambda asked, examples: [None] * len(asked)).measure(own.tuned, own)
