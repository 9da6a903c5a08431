"""Who chooses between two chats, or has their replies merged."""

import pytest

from turnsmith.agents.judge import Judge
from turnsmith.errors import UsageError
from turnsmith.testing import AGENT, chat
from turnsmith.types import Failure, Reply

ASKED = [chat("u: 1"), chat("u: 2"), chat("u: 3")]


def says(*texts):
    """A chat that says these, and fails where there is None."""

    def answer(conversations, *, sampling=None, seed=0):
        said = [texts[at % len(texts)] for at in range(len(conversations))]
        return [Failure("it is closed") if text is None else Reply.scripted(text) for text in said]

    return answer


def lengths(conversations, examples):
    """The length of the last message; what is blank is not judged."""
    return [float(len(one.messages[-1].content)) or None for one in conversations]


def told(*replies):
    return [one.reason if isinstance(one, Failure) else one.message.content for one in replies]


def test_the_reply_that_the_scorer_puts_higher_is_given_and_of_equals_the_first():
    judge = Judge(retrieval=says("aa", "a", "ab"), tuned=says("b", "bb", "ba"), by=lengths)
    assert told(*judge(ASKED)) == ["aa", "bb", "ab"]


def test_where_one_cannot_answer_or_be_judged_the_other_counts():
    judge = Judge(retrieval=says(None, "", None), tuned=says("b", "b", ""), by=lengths)
    assert told(*judge(ASKED)) == ["b", "b", ""]


def test_where_neither_answers_it_is_a_failure():
    judge = Judge(retrieval=says(None), tuned=says(None), by=lengths)
    assert told(*judge(ASKED[:1])) == ["it is closed"]


def test_replies_are_judged_behind_what_was_asked():
    seen = []

    def keeps(conversations, examples):
        seen.extend(conversations)
        assert [one.parts["text"] for one in examples] == list(conversations)
        return [0.0] * len(conversations)

    Judge(retrieval=says("a"), tuned=says("b"), by=keeps)(ASKED[:2])
    wanted = [("u: 1", "a: a"), ("u: 1", "a: b"), ("u: 2", "a: a"), ("u: 2", "a: b")]
    assert seen == [chat(*one) for one in wanted]


def test_a_chat_may_merge_both_and_is_only_asked_where_there_are_two():
    heard = []

    def merges(conversations, *, sampling=None, seed=0):
        heard.extend(conversations)
        return [Reply.scripted("both") for _ in conversations]

    judge = Judge(retrieval=says("{second}", None), tuned=says("b"), merge=merges)
    assert told(*judge([chat("s: Be kind.", "u: 1"), chat("u: 2")])) == ["both", "b"]
    (asked,) = heard
    assert [one.role for one in asked.messages] == ["system", "user"]
    assert asked.messages[-1].content.startswith("1\n\nTwo answers were given.\nFirst: {second}\nSecond: b\n")


@pytest.mark.parametrize("both", [{}, {"by": lengths, "merge": says("c")}])
def test_it_chooses_or_has_them_merged(both):
    with pytest.raises(UsageError, match="either `by`, a scorer that chooses, or `merge`"):
        Judge(retrieval=says("a"), tuned=says("b"), **both)


@pytest.mark.parametrize("check", AGENT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("how", [{"by": lengths}, {"merge": says("c")}], ids=" ".join)
def test_it_keeps_the_contract_of_agents(how, check):
    check(Judge(retrieval=says("a"), tuned=says("b"), **how), ASKED)
