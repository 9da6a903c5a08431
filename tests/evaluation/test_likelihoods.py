"""The log-likelihood of options, held against plain transformers."""

import math

import pytest
import torch

from turnsmith.errors import ModelError
from turnsmith.evaluation.likelihoods import as_text, in_chat, likelihoods
from turnsmith.testing.tasks import subject

ASKED = ("What is two plus two?", ["It is four.", "A small boat on the sea.", "five"])


@torch.no_grad()
def behind(measured, prompt, ids):
    """Log-probability of `ids` behind `prompt`, by one plain pass."""
    logits = measured.scoring.model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].log_softmax(-1)
    return sum(float(logits[len(prompt) + at - 1, id]) for at, id in enumerate(ids))


def test_in_a_chat_the_whole_reply_counts_with_its_stop_token():
    measured = subject()
    prompt, options = ASKED
    found = likelihoods(measured, {"one": [in_chat(prompt, option) for option in options]})
    words = measured.renderer.tokenizer
    start = words(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n").input_ids
    expected = [behind(measured, start, words(f"{option}<|im_end|>").input_ids) for option in options]
    assert found["one"] == pytest.approx(expected, abs=1e-4)  # fp32, sums of some ten tokens


def test_as_text_the_blank_and_the_option_count_and_no_stop_token():
    measured = subject()
    prompt, options = ASKED
    found = likelihoods(measured, {"one": [as_text(prompt, option) for option in options]})
    words = measured.renderer.tokenizer
    start = words(prompt).input_ids
    expected = [behind(measured, start, words(f" {option}").input_ids) for option in options]
    assert found["one"] == pytest.approx(expected, abs=1e-4)


def test_text_begins_with_the_token_that_the_tokenizer_begins_texts_with():
    from tokenizers.processors import TemplateProcessing

    measured = subject()
    words = measured.renderer.tokenizer
    before = words.backend_tokenizer.post_processor
    bos = "<|endoftext|>"
    words.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, 0)])
    words.bos_token = bos
    try:
        found = likelihoods(measured, {"one": [as_text("Hello", "there")]})
    finally:
        words.backend_tokenizer.post_processor = before
        words.bos_token = None
    ids = [words(text, add_special_tokens=False).input_ids for text in ("Hello", " there")]
    assert found["one"] == pytest.approx([behind(measured, [0, *ids[0]], ids[1])], abs=1e-4)


def test_what_belongs_together_stays_together_over_many_batches():
    measured = subject()
    asked = {f"{n}": [in_chat(f"Count to {n}", "1 2 3"), in_chat(f"Count to {n}", "no")] for n in range(40)}
    together = likelihoods(measured, asked)
    assert list(together) == list(asked)
    for id in ("0", "17", "39"):
        assert together[id] == pytest.approx(likelihoods(measured, {id: asked[id]})[id], abs=1e-4)


def test_what_is_longer_than_the_context_is_named():
    with pytest.raises(
        ModelError, match=r"item long has \d+ tokens with its answer, and the context of tiny-0"
    ):
        likelihoods(subject(), {"long": [in_chat("Hello " * 700, "there")]})


def test_a_model_that_gives_no_numbers_is_an_error_and_no_wrong_answer():
    measured = subject()
    with torch.no_grad():
        measured.scoring.model.lm_head.weight.fill_(math.nan)
    with pytest.raises(ModelError, match="log-probs that are no numbers, among the items one"):
        likelihoods(measured, {"one": [in_chat("Hello", "there")]})
