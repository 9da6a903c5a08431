"""A byte-level BPE tokenizer in the words of GGUF: tokens, their types, merges, and how text is split."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnsmith.errors import ModelError

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from tokenizers.pre_tokenizers import PreTokenizer
    from transformers import PreTrainedTokenizerBase

SPLITTING = (
    "Text that each way of splitting cuts otherwise: I'm, we'LL, they'RE; 7 42 365 1998 31415 3.14 x2y "
    "don't\n\n  two spaces,\ttabs \n and   three;  (brackets) != ==  ¿Qué? naïve Привет 今天 ½ 10€ !!!\n \n"
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def write(writer: "GGUFWriter", words: "PreTrainedTokenizerBase", size: int, stops: Sequence[int]) -> None:
    """Writes vocabulary, special tokens, stop tokens and chat template.

    size: the rows of the embedding; rows without a token become unused ones.
    Raises ModelError where llama.cpp could not tokenise the same way, or has no place for a stop token.
    """
    model = _bpe(words)
    texts, types = _vocabulary(words, size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting(words))
    writer.add_token_list(texts)
    writer.add_token_types(types)
    writer.add_token_merges([each if isinstance(each, str) else " ".join(each) for each in model["merges"]])
    writer.add_add_space_prefix(False)
    writer.add_add_bos_token(adds_bos(words))
    writer.add_add_eos_token(False)
    for token, add in (
        (words.bos_token_id, writer.add_bos_token_id),
        (words.unk_token_id, writer.add_unk_token_id),
        (words.pad_token_id, writer.add_pad_token_id),
    ):
        if isinstance(token, int):
            add(token)
    _stops(writer, words, stops)
    if words.chat_template:
        writer.add_chat_template(_template(words))


def splitting(words: "PreTrainedTokenizerBase") -> str:
    """llama.cpp's name for how the tokenizer cuts text before it merges, found by what it does.

    llama.cpp's own converter hashes token ids, which knows published vocabularies only. What counts is the
    cutting, so that a text which all known ways cut differently is cut here.
    Raises ModelError if none of them cuts like this tokenizer.
    """
    backend: Any = words.backend_tokenizer
    own = _cut(backend.pre_tokenizer)
    known = _known()
    for name, way in known.items():
        if own == _cut(way):
            return name
    raise ModelError(
        f"this tokenizer cuts text in a way that GGUF has no name for here (known: {', '.join(known)}): "
        "llama.cpp would give other token ids. Export --to safetensors"
    )


def stops_written(file: Path, stops: Sequence[int]) -> None:
    """Raises ModelError unless the file names every stop token."""
    from gguf import GGUFReader

    fields = GGUFReader(file).fields
    names = [f"tokenizer.ggml.{place}_token_id" for place in ("eos", "eot", "eom")]
    found = [int(fields[name].contents()) for name in names if name in fields]
    if missing := [stop for stop in stops if stop not in found]:
        raise ModelError(f"{file.name} names {found} as ends of a reply, but not {missing}")


def adds_bos(words: "PreTrainedTokenizerBase") -> bool:
    """Whether the tokenizer puts its first token before a text by itself."""
    ids = words("a")["input_ids"]
    return words.bos_token_id is not None and ids[0] == words.bos_token_id


def _known() -> "dict[str, PreTokenizer]":
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

    bytes_alone = ByteLevel(add_prefix_space=False, use_regex=False)
    by_words = ByteLevel(add_prefix_space=False, use_regex=True)
    return {
        "gpt-2": by_words,
        "smollm": Sequence([Digits(individual_digits=True), by_words]),
        "llama-bpe": Sequence([Split(Regex(LLAMA3), "isolated"), bytes_alone]),
        "qwen2": Sequence([Split(Regex(QWEN2), "isolated"), bytes_alone]),
    }


def _cut(way: "PreTokenizer | None") -> list[str]:
    return [piece for piece, _ in way.pre_tokenize_str(SPLITTING)] if way else []


def _bpe(words: "PreTrainedTokenizerBase") -> dict[str, Any]:
    """The tokenizer's model: byte-level BPE, or ModelError."""
    if not words.is_fast:
        raise ModelError("GGUF is written from tokenizers with a tokenizer.json only; this one has none")
    backend: Any = words.backend_tokenizer
    plain = json.loads(backend.to_str())
    model = plain["model"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        kind = "sentencepiece (byte fallback)" if model.get("byte_fallback") else model["type"]
        raise ModelError(
            f"the tokenizer is {kind}, and GGUF is written for byte-level BPE only: export --to safetensors"
        )
    if (plain["normalizer"] or {"type": "NFC"})["type"] != "NFC":
        raise ModelError(
            f"llama.cpp cannot normalise text like this tokenizer ({plain['normalizer']['type']})"
        )
    return model


def _vocabulary(words: "PreTrainedTokenizerBase", size: int) -> tuple[list[str], list[int]]:
    """The text and type of each token."""
    from gguf import TokenType

    if len(words) > size:
        raise ModelError(f"the tokenizer has {len(words)} tokens, but the model's embedding only {size} rows")
    added = words.added_tokens_decoder
    known = {number: text for text, number in words.get_vocab().items()}
    texts, types = [], []
    for number in range(size):
        texts.append(known.get(number, f"[PAD{number}]"))
        kind = TokenType.NORMAL if number in known else TokenType.UNUSED
        if number in added:
            kind = TokenType.CONTROL if added[number].special else TokenType.USER_DEFINED
        types.append(int(kind))
    return texts, types


def _stops(writer: "GGUFWriter", words: "PreTrainedTokenizerBase", stops: Sequence[int]) -> None:
    """The tokenizer's own end first, then the end of a turn and, if there is a third, that of a message."""
    own = words.eos_token_id
    ordered = sorted(stops, key=lambda stop: stop != own)
    places = (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)
    if len(ordered) > len(places):
        lost = ", ".join(repr(words.convert_ids_to_tokens(stop)) for stop in ordered[len(places) :])
        raise ModelError(f"GGUF has places for {len(places)} stop tokens; lost would be {lost}")
    for add, stop in zip(places, ordered, strict=False):
        add(stop)


def _template(words: "PreTrainedTokenizerBase") -> Any:
    """One template, or the named ones as GGUF lists them."""
    template = words.chat_template
    if isinstance(template, str):
        return template
    assert template is not None
    return [{"name": name, "template": text} for name, text in template.items()]
