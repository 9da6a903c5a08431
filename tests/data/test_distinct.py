"""Ids that were there before are known again, in little memory."""

import pytest

from turnsmith.data import distinct
from turnsmith.data.distinct import Distinct


@pytest.mark.parametrize("fresh", [1, 3, 1 << 16])
def test_an_id_is_new_once(monkeypatch, fresh):
    monkeypatch.setattr(distinct, "FRESH", fresh)
    seen = Distinct()
    assert [seen.add(id) for id in ("a", "b", "a", "", "c", "b", "", "a\0", "\ud800")] == [
        True, True, False, True, True, False, False, True, True,
    ]  # fmt: skip
    assert len(seen) == 6


def test_all_of_many_are_known_again(monkeypatch):
    """Among so many digests are some that end on zeros, which NumPy takes off what it holds as bytes."""
    monkeypatch.setattr(distinct, "FRESH", 500)
    seen = Distinct()
    assert all(seen.add(f"chat-{number}") for number in range(4200))
    assert not any(seen.add(f"chat-{number}") for number in range(4200))
