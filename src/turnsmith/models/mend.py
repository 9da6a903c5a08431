"""What a pretrained model needs before it learns and before it answers turn by turn."""

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def mend(model: "PreTrainedModel", words: "PreTrainedTokenizerBase") -> None:
    """Lets every token learn, and names every token that ends a reply in the generation settings."""
    embeddings = model.get_input_embeddings()
    if getattr(embeddings, "padding_idx", None) is not None:
        embeddings.padding_idx = None  # pyright: ignore[reportArgumentType]
    settings = getattr(model, "generation_config", None)
    ends = [getattr(model.config, "eos_token_id", None), words.eos_token_id, _turn_end(words)]
    ends = [getattr(settings, "eos_token_id", None), *ends]
    flat = [end for each in ends for end in (each if isinstance(each, list) else [each]) if end is not None]
    stops = list(dict.fromkeys(flat))
    for config in (model.config, model.config.get_text_config()):
        if getattr(config, "pad_token_id", None) in stops:
            config.pad_token_id = None
    if settings is not None and stops:
        settings.eos_token_id = stops if len(stops) > 1 else stops[0]
        if settings.pad_token_id is None:
            settings.pad_token_id = stops[0] if words.pad_token_id is None else words.pad_token_id


def _turn_end(words: "PreTrainedTokenizerBase") -> int | None:
    """The token that the chat template puts after an assistant's words, if it is a token of its own."""
    if not words.chat_template:
        return None
    messages = [{"role": "user", "content": "sesame"}, {"role": "assistant", "content": "sesame"}]
    text = ""
    with contextlib.suppress(Exception):  # Templates raise what they like at messages they do not like.
        text = str(words.apply_chat_template(messages, tokenize=False))
    ids = words(text.rpartition("sesame")[2].strip(), add_special_tokens=False)["input_ids"]
    return ids[0] if ids and ids[0] in words.added_tokens_decoder else None
