"""A module is in evaluation for a while, and then as it was."""

import pytest
from torch import nn

from turnsmith.models.modes import evaluating


def test_each_part_comes_back_to_the_mode_that_it_had():
    module = nn.Sequential(nn.Dropout(), nn.Linear(1, 1), nn.Dropout())
    module[2].eval()
    with evaluating(module):
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == [True, True, True, False]


def test_and_does_so_after_an_error():
    module = nn.Dropout()
    with pytest.raises(ZeroDivisionError), evaluating(module):
        raise ZeroDivisionError
    assert module.training
