"""What a stage's chat says of single tokens."""

import pytest

from turnsmith.errors import UsageError
from turnsmith.recipes.reading import Seeded


def test_a_chat_that_is_not_loaded_here_cannot_spell():
    class Spells:
        def __call__(self, conversations, *, sampling=None, seed=0):
            raise AssertionError

        def spelled(self, ids):
            return [str(one) for one in ids]

    assert Seeded(Spells(), 0, 0).spelled([1, 2]) == ["1", "2"]
    with pytest.raises(UsageError, match="name a model that is loaded here"):
        Seeded(lambda *_, **__: [], 0, 0).spelled([1])
