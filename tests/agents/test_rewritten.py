"""Who says again by rule what it was told."""

import pytest

from turnsmith.agents.rewritten import Rewritten
from turnsmith.errors import UsageError
from turnsmith.testing import chat
from turnsmith.types import Failure

RULES = {r"(\w+) sings (\w+)": r"What does \1 sing?\n\2", "sings": "Who?"}


def said(text):
    (reply,) = Rewritten(rules=RULES)([chat(f"u: {text}")])
    return reply.reason if isinstance(reply, Failure) else reply.message.content


def test_the_first_rule_that_is_there_says_what_is_answered():
    assert said("So: Ada sings Bach well.") == "What does Ada sing?\nBach"
    assert said("she sings") == "Who?"


def test_where_no_rule_is_there_it_cannot_answer():
    assert said("Ada writes") == "no rule says what is to be answered here"


def test_no_rules_and_broken_patterns_are_refused():
    with pytest.raises(UsageError, match="there are no rules"):
        Rewritten(rules={})
    with pytest.raises(UsageError, match=r"rewritten: '\(' is no pattern"):
        Rewritten(rules={"(": "x"})
