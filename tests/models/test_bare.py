"""How much a model reads is found in its configuration, wherever that keeps it."""

import pytest
from torch import nn
from transformers import Gemma3Config, Gemma3TextConfig, GPT2Config, LlamaConfig, MambaConfig

from turnsmith.models.bare import context

WITHIN = Gemma3Config(text_config=Gemma3TextConfig(max_position_embeddings=77))


@pytest.mark.parametrize(
    ("config", "most"),
    [
        (LlamaConfig(max_position_embeddings=12), 12),
        (GPT2Config(n_positions=34), 34),
        (WITHIN, 77),
        (MambaConfig(), None),
        (None, None),
    ],
    ids=["own", "by another name", "of the text", "no limit", "none"],
)
def test_the_context_of_a_model(config, most):
    whole = nn.Module()
    whole.config = config
    assert context(whole) == most
