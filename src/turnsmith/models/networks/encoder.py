"""A small BERT with bytes as tokens, for experiments whose answer is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnsmith.registry import network

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SPECIAL = ("[PAD]", "[CLS]", "[SEP]")


@network("encoder")
def encoder(
    *,
    layers: int = 2,
    hidden: int = 64,
    wide: int = 128,
    heads: int = 4,
    context: int = 128,
    dropout: float = 0.1,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """BERT's architecture, with a token for every byte, and no head: it reads a context and a reply, each
    token seeing all others, and predicts no words.

    hidden: the width of its states, wide: of its feed-forward layers. heads: of attention. context: the
    longest sequence, in tokens. dropout: of states and of attention.
    """
    from transformers import BertConfig, BertModel

    words = _bytes_with_marks()
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        intermediate_size=wide,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=context,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=hidden**-0.5,
        pad_token_id=words.get_vocab()["[PAD]"],
    )
    return BertModel(config), words


def _bytes_with_marks() -> PreTrainedTokenizerBase:
    """A tokenizer of the 256 bytes and the marks of BERT, without a chat template: it reads pairs."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE(vocab={text: number for number, text in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    pad, start, end = SPECIAL
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token=pad, cls_token=start, sep_token=end)
