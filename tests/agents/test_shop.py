"""The customer of the shop, by hand."""

import pytest

from turnsmith.agents.shop import Customer
from turnsmith.errors import UsageError
from turnsmith.testing import chat


@pytest.mark.parametrize(
    ("said", "expected"),
    [("which?", "tea"), (" which? ", "tea"), ("tea", "yes"), ("jam", "no"), ("", "no"), ("which", "no")],
)
def test_it_says_what_it_wants_only_when_it_is_asked(said, expected):
    (reply,) = Customer()([chat("s: tea", "a: hello", f"u: {said}")])
    assert reply.message.content == expected


def test_its_wish_is_the_last_thing_that_it_is_told():
    (reply,) = Customer()([chat("s: Play a customer.", "s: jam", "a: hello", "u: which?")])
    assert reply.message.content == "jam"


def test_a_customer_without_a_wish_is_an_error():
    with pytest.raises(UsageError, match="is not told what it wants: name with `profile`"):
        Customer()([chat("a: hello", "u: which?")])
