"""Looks ahead of a small model, for the objectives that see a step before it."""

import pytest
import torch

from turnsmith.data.batch import pack
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.testing import model
from turnsmith.train.look import Ahead
from turnsmith.train.options import Fit


@pytest.fixture
def looking():
    """Makes a look ahead of a model, with another one as its start."""

    def made(method, *, policy=1, row=10**6, layout=pack):
        found = []
        for seed in (policy, 0):
            whole = model(seed=seed)
            forest.attach(whole)
            found.append(Scoring(whole))
        now, start = found

        def reference(batch):
            with torch.no_grad():
                return start(batch).logprobs

        return Ahead(now, method, Fit(steps=1, row=row), {}, seed=0, layout=layout, reference=reference)

    return made
