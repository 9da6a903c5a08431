"""A network that predicts a token from the one before it alone: a Markov chain with learnt transitions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

KIND = "turnsmith_markov"  # its `model_type` in config.json


class MarkovConfig(PreTrainedConfig):
    """hidden_size: of the embeddings. intermediate_size: of the one hidden layer."""

    model_type = KIND

    def __init__(
        self,
        vocab_size: int = 259,
        hidden_size: int = 64,
        intermediate_size: int = 64,
        tie_word_embeddings: bool = False,
        **others: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        super().__init__(tie_word_embeddings=tie_word_embeddings, **others)


class Markov(PreTrainedModel):
    """Embedding and hidden layer. What stands before a token does not reach it, so that rows of any layout
    are read alike; positions and masks are taken and not needed."""

    config_class = MarkovConfig
    base_model_prefix = "model"

    def __init__(self, config: MarkovConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layer = nn.Linear(config.hidden_size, config.intermediate_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embed_tokens = value

    def forward(
        self, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None, **unneeded: Any
    ) -> BaseModelOutput:
        """(B, T) ids or (B, T, H) embeddings to (B, T, H')."""
        embeds = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        return BaseModelOutput(last_hidden_state=torch.relu(self.layer(embeds)))


class MarkovForCausalLM(PreTrainedModel):
    """The second layer, which gives the logits of the next token."""

    config_class = MarkovConfig
    base_model_prefix = "model"

    def __init__(self, config: MarkovConfig) -> None:
        super().__init__(config)
        self.model = Markov(config)
        self.lm_head = nn.Linear(config.intermediate_size, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.embed_tokens = value

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = new_embeddings

    def forward(
        self, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None, **unneeded: Any
    ) -> CausalLMOutput:
        """(B, T) ids or (B, T, H) embeddings to logits (B, T, V)."""
        states = self.model(input_ids=input_ids, inputs_embeds=inputs_embeds).last_hidden_state
        return CausalLMOutput(logits=self.lm_head(states))


AutoConfig.register(KIND, MarkovConfig)
AutoModel.register(MarkovConfig, Markov)
AutoModelForCausalLM.register(MarkovConfig, MarkovForCausalLM)
