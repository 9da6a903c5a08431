"""A network that predicts a token from the one before it alone: a Markov chain with learnt transitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from turnsmith.models.networks.llama import bytes_as_tokens
from turnsmith.registry import network

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KIND = "turnsmith_markov"  # `model_type` in config.json, by which `load` finds this module


@network("markov")
def markov(*, hidden: int = 64) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Two layers over the embedding of one token, a byte: a policy over states that are letters, for
    experiments whose answer is known.

    hidden: the width of the embeddings and of the hidden layer. At its start it finds all tokens about
    equally likely.
    """
    words = bytes_as_tokens()
    config = MarkovConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        intermediate_size=hidden,
        initializer_range=hidden**-0.5,  # embeddings of length 1
        bos_token_id=None,
        eos_token_id=words.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=words.convert_tokens_to_ids("<|endoftext|>"),
    )
    return MarkovForCausalLM(config), words


class MarkovConfig(PreTrainedConfig):
    """hidden_size: of the embeddings. intermediate_size: of the one hidden layer. initializer_range: standard
    deviation of the first weights."""

    model_type = KIND
    num_hidden_layers = 1

    def __init__(
        self,
        vocab_size: int = 259,
        hidden_size: int = 64,
        intermediate_size: int = 64,
        initializer_range: float = 0.125,
        tie_word_embeddings: bool = False,
        **others: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.initializer_range = initializer_range
        self.tie_word_embeddings = tie_word_embeddings
        super().__init__(**others)


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
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        logits_to_keep: int = 0,
        **unneeded: Any,
    ) -> CausalLMOutput:
        """(B, T) ids or (B, T, H) embeddings to logits (B, T, V), or those of the last `logits_to_keep`."""
        states = self.model(input_ids=input_ids, inputs_embeds=inputs_embeds).last_hidden_state
        return CausalLMOutput(logits=self.lm_head(states[:, -logits_to_keep:]))


AutoConfig.register(KIND, MarkovConfig)
AutoModel.register(MarkovConfig, Markov)
AutoModelForCausalLM.register(MarkovConfig, MarkovForCausalLM)
