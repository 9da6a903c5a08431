"""Words that are one token of a small Llama."""

from turnsmith.models.networks.llama import llama

TEXT = "A cat naps, and a dog."


def read(**options):
    _, tokenizer = llama(layers=1, hidden=16, wide=16, **options)
    ids = tokenizer(TEXT)["input_ids"]
    return tokenizer.decode(ids), [tokenizer.decode([id]) for id in ids]


def test_words_that_stand_apart_are_read_back_with_their_blanks():
    text, tokens = read(apart=("cat", "dog"))
    assert text == TEXT
    assert tokens[:4] == ["A", " ", "cat", " "]


def test_words_swallow_the_blank_before_them():
    text, tokens = read(words=("cat", "dog"))
    assert text == "Acat naps, and adog."
    assert tokens[:3] == ["A", "cat", " "]
