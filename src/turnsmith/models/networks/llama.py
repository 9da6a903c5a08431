"""A small Llama with bytes as tokens, for experiments whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from turnsmith.registry import network

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@network("llama")
def llama(
    *,
    layers: int = 2,
    hidden: int = 64,
    wide: int = 192,
    heads: int = 4,
    shared: int = 2,
    context: int = 512,
    words: tuple[str, ...] = (),
    apart: tuple[str, ...] = (),
    spread: float = 0.02,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Llama's architecture, with a token for every byte and ChatML's template.

    hidden: the width of its states, wide: of its feed-forward layers. heads: of queries; shared: how many of
    them share keys and values. context: the longest sequence, in tokens. words: what is one token by itself,
    with the blank before it, e.g. a word or a few that always stand together; what is drawn is read back
    without that blank. apart: the same, where the blank is a token of its own and is read back. spread:
    standard deviation of the first weights; hidden**-0.5, which keeps the size of what they are given, learns
    to look things up sooner.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = bytes_as_tokens()
    with_words(tokenizer, words)
    with_words(tokenizer, apart, blanks=False)
    pad, end = (tokenizer.get_vocab()[text] for text in ("<|endoftext|>", "<|im_end|>"))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=wide,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // shared,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        initializer_range=spread,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    return LlamaForCausalLM(config), tokenizer


def bytes_as_tokens() -> PreTrainedTokenizerBase:
    """A tokenizer of the 256 bytes and the special tokens of ChatML."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE(vocab={text: number for number, text in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = CHATML
    return fast


def with_words(tokenizer: PreTrainedTokenizerBase, words: Sequence[str], *, blanks: bool = True) -> None:
    """Give the tokenizer tokens for whole words, with the blank before them or without it."""
    from tokenizers import AddedToken

    whole: Any = [AddedToken(text, lstrip=blanks, single_word=True, normalized=False) for text in words]
    tokenizer.add_tokens(whole)
