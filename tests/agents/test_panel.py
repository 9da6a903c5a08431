"""A panel of chats: who is told what, and what becomes of answers that do not come."""

from dataclasses import replace

import pytest

from turnsmith.agents.panel import Panel
from turnsmith.errors import UsageError
from turnsmith.testing import AGENT, chat
from turnsmith.types import Failure, Reply, Usage

ASKED = chat("s: Be brief.", "u: What is two and two?")


class Speaker:
    """Says one thing, and keeps what it was asked. None: it cannot answer."""

    def __init__(self, says):
        self.says, self.heard = says, []

    def __call__(self, conversations, *, sampling=None, seed=0):
        self.heard.append(list(conversations))
        if self.says is None:
            return [Failure("it is off") for _ in conversations]
        return [replace(Reply.scripted(self.says), usage=Usage(3, 2)) for _ in conversations]


def system(conversation):
    return conversation.messages[0].content


def test_each_layer_is_told_what_all_of_the_one_before_said_and_the_last_one_writes():
    one, other, last = Speaker("four"), Speaker("five"), Speaker("It is four.")
    (found,) = Panel(by=last, first=one, second=other, layers=2)([ASKED])
    assert found.message.content == "It is four."
    assert one.heard[0] == other.heard[0] == [ASKED]
    for told in (one.heard[1][0], other.heard[1][0], last.heard[0][0]):
        assert system(told).startswith("Be brief.\n\nOthers have answered")
        assert "1. four\n\n2. five" in system(told)
        assert told.messages[1:] == ASKED.messages[1:]
    assert found.usage == Usage(15, 10)  # 2 members in 2 layers and the last one: 5 replies


def test_where_there_is_no_system_text_there_is_one_then():
    last = Speaker("4")
    Panel(by=last, first=Speaker("four"))([chat("u: Two and two?")])
    assert [message.role for message in last.heard[0][0].messages] == ["system", "user"]


def test_an_answer_that_does_not_come_is_left_out_and_where_none_comes_that_is_a_failure():
    last = Speaker("4")
    (found,) = Panel(by=last, first=Speaker(None), second=Speaker("four"))([ASKED])
    assert isinstance(found, Reply)
    assert "1. four" in system(last.heard[0][0])
    assert Panel(by=last, first=Speaker(None))([ASKED]) == [Failure("it is off")]


def test_a_panel_without_a_layer_is_refused():
    with pytest.raises(UsageError, match="layers is 0"):
        Panel(by=Speaker("a"), first=Speaker("b"), layers=0)


@pytest.mark.parametrize("check", AGENT, ids=lambda check: check.__name__)
def test_contract(check):
    check(Panel(by=Speaker("a"), first=Speaker("b"), layers=2), [ASKED, chat("u: Hi")])
