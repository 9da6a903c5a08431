"""What concerns people is taken out, the same for the same, and nothing else is touched."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnsmith.data.scrub import Scrubber


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to ann@example.org, or bob@example.org.", "Write to [EMAIL_1], or [EMAIL_2]."),
        ("ann@example.org and ann@example.org", "[EMAIL_1] and [EMAIL_1]"),
        ("Call +44 20 7946 0958 now", "Call [PHONE_1] now"),
        ("Pay with 4111 1111 1111 1111.", "Pay with [CARD_1]."),
        ("Order 4111 1111 1111 1112.", "Order 4111 1111 1111 1112."),  # fails the check: no card
        ("To GB82 WEST 1234 5698 7654 32 please", "To [ACCOUNT_1] please"),
        ("from 203.0.113.9 and 2001:db8::7", "from [IP_1] and [IP_2]"),
        ("version 1.2.3, at 127.0.0.1, 12:30", "version 1.2.3, at 127.0.0.1, 12:30"),
        ("https://ann:secret@example.org/x", "https://[LOGIN_1]@example.org/x"),
        ("In 1999 there were 12,345,678 people.", "In 1999 there were 12,345,678 people."),
    ],
)  # fmt: skip
def test_what_has_a_form_is_found_by_it(text, expected):
    assert Scrubber().text(text) == expected


def test_names_are_whole_words_in_any_case():
    scrubber = Scrubber(names=["Ann", "Li"])
    assert scrubber.text("ann, ANN and Annette met Li") == "[NAME_1], [NAME_1] and Annette met Li"
    assert scrubber.counts == Counter(name=2)


def test_all_texts_of_a_value_are_scrubbed_and_keys_stay():
    value = {"to": ["ann@example.org", 3, None], "a@b.org": {"deep": "ann@example.org"}}
    kept = {"id": "ann@example.org", **value}
    assert Scrubber(kept=["id"]).json(kept) == {
        **kept,
        "to": ["[EMAIL_1]", 3, None],
        "a@b.org": {"deep": "[EMAIL_1]"},
    }
    assert Scrubber().json(value) == {"to": ["[EMAIL_1]", 3, None], "a@b.org": {"deep": "[EMAIL_1]"}}


@given(st.text())
def test_what_was_scrubbed_has_nothing_more_to_scrub(text):
    once = Scrubber().text(text)
    again = Scrubber()
    assert again.text(once) == once
