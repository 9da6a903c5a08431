import pytest

from turnsmith.evaluation.probes.circuit import scenes_of
from turnsmith.evaluation.probes.paths import pairs
from turnsmith.evaluation.probes.prompts import Probe
from turnsmith.testing.circuits import examples, subject, written


@pytest.fixture
def probe():
    """The model whose circuit is known."""
    whole = subject(*written())
    return Probe.of(whole.scoring, whole.renderer, "probe")


@pytest.fixture
def scenes():
    return scenes_of(examples(24))


@pytest.fixture
def both(probe, scenes):
    return pairs(probe, scenes)
