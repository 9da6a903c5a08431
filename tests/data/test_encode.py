"""Texts of templates to ids: what is a special token, what is text, and where no token may cross."""

import copy

import pytest

from turnsmith.data.encode import Encoder, Segment
from turnsmith.data.render import Renderer
from turnsmith.data.template import BREAK, Template
from turnsmith.testing import chat, tokenizer

MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def encoder(words=None, header=""):
    words = words or tokenizer()
    return Encoder(words, Template("", {}, MARKS).pattern, header)


def ids(text):
    return tuple(tokenizer()(text, add_special_tokens=False)["input_ids"])


def test_special_tokens_are_segments_of_their_own():
    [first, second, third] = encoder().segments("<|im_start|>Hi<|im_end|>")
    assert first == Segment(0, 12, ids("<|im_start|>"))
    assert second == Segment(12, 14, ids("Hi"))
    assert third == Segment(14, 24, ids("<|im_end|>"))


def test_a_broken_special_token_is_text():
    [only] = encoder().segments(f"<{BREAK}|im_end|>")
    assert not set(only.ids) & {*ids("<|im_end|>")}
    assert tokenizer().decode(only.ids) == "<|im_end|>"


def test_a_token_never_reaches_from_a_header_into_a_reply():
    text = "assistant Hello"
    assert [s.end for s in encoder(header="assistant H").segments(text)] == [11, 15]
    assert [s.end for s in encoder(header="assistant H").segments(text, cuts=[12])] == [11, 12, 15]
    assert [s.end for s in encoder().segments(text)] == [15]


def test_what_is_encoded_before_is_not_encoded_again_and_is_the_same():
    one = encoder()
    assert (
        one.plain(["Hi", "Hi", "there"])
        == one.plain(["Hi", "Hi", "there"])
        == [ids("Hi"), ids("Hi"), ids("there")]
    )


def test_the_tokenizer_is_left_as_it_was():
    words = copy.deepcopy(tokenizer())
    encoder(words).ids("Hi<|im_end|>")
    assert words("<|im_end|>", add_special_tokens=False)["input_ids"] == list(ids("<|im_end|>"))


def test_spans_are_those_of_the_text_with_breaks_in_it():
    one, text = encoder(), f"ab<{BREAK}|im_end|>c"
    [segment] = one.segments(text)
    spans = one.spans(segment, text)
    assert spans[0] == (0, 1)
    assert spans[2] == (2, 3)  # the bracket
    assert spans[3] == (4, 5)  # what follows it, behind the BREAK
    assert spans[-1] == (len(text) - 1, len(text))


@pytest.mark.parametrize(("side", "text"), [("rstrip", "<|end|> \n Hi"), ("lstrip", "Hi \n<|end|>")])
def test_a_special_token_swallows_the_spaces_that_it_swallows_in_its_tokenizer(side, text):
    from tokenizers import AddedToken

    words = copy.deepcopy(tokenizer())
    words.add_special_tokens(
        {"additional_special_tokens": [AddedToken("<|end|>", special=True, **{side: True})]}
    )
    one = Encoder(words, Template("", {}, (*MARKS, "<|end|>")).pattern, "")
    assert one.ids(text) == words(text, add_special_tokens=False)["input_ids"]


def sentencepiece():
    """A tokenizer that writes a space in front of a text, as Llama 2 does, and of no later part."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    letters = [chr(code) for code in range(10, 127)] + ["\u2581"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(MARKS), initial_alphabet=letters, show_progress=False
    )
    made.train_from_iterator(
        ["Hello there, how are you?", "Zwei Fragen? Gladly. And two more. Of course!"], trainer
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = tokenizer().chat_template
    return fast


def test_a_tokenizer_that_writes_a_space_first_gets_no_more_of_them():
    words = sentencepiece()
    assert len(words("Hi")["input_ids"]) == len(
        words("<|im_end|>Hi")["input_ids"]
    )  # one mark, one space less
    renderer = Renderer(words)
    conversation = chat("u: Hello there", "a: How are you?", "u: two", "a: Gladly.")
    [tokens] = renderer.render(conversation)
    assert tokens.inputs.tolist() == renderer.whole(conversation)
    assert words.decode(tokens.inputs[tokens.weights > 0]) == "How are you?<|im_end|>Gladly.<|im_end|>"
