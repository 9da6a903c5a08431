"""Classes by the likelihood of their words, by hand."""

from collections import Counter

import pytest
import torch

from turnsmith.errors import DataError
from turnsmith.evaluation.tasks.classified import Classified
from turnsmith.stages.labels import labelled
from turnsmith.testing import TinyBench
from turnsmith.types import Conversation, Example, Message

WORDS = {"a": "fine", "b": "slept", "c": "a small boat"}


def rows(labels):
    made = [
        Example(
            {"text": Conversation((Message("text", f"The cat sat on {number} mats."),))},
            {},
            {"id": f"r{number}", "label": label},
        )
        for number, label in enumerate(labels)
    ]
    return list(labelled(made, words=WORDS, counts=Counter()))


def nats(bench, example, number):
    """Of the words of a class, by the model's own logits."""
    subject = bench.tuned
    prompt, word = (message.content for message in example.parts["labels"][number].messages)
    words = subject.renderer.tokenizer
    before, whole = words(prompt)["input_ids"], words(prompt + word)["input_ids"]
    with torch.no_grad():
        logits = subject.scoring.base(input_ids=torch.tensor([whole]), use_cache=False).logits[0]
    taken = logits.log_softmax(-1)[
        torch.arange(len(before) - 1, len(whole) - 1), torch.tensor(whole[len(before) :])
    ]
    return taken.double()


@pytest.mark.parametrize("words", ["sum", "mean"])
def test_the_class_with_the_likeliest_words_is_said(words):
    data = rows("abcabc")
    bench = TinyBench({"rows": data})
    items = Classified(on="rows", words=words).measure(bench.tuned, bench)
    for item, example in zip(items, data, strict=True):
        taken = [nats(bench, example, number) for number in range(3)]
        scores = torch.stack([one.sum() if words == "sum" else one.mean() for one in taken])
        truth = example.meta["class"]
        assert item.values["said"] == int(scores.argmax())
        assert item.values["right"] == float(item.values["said"] == truth)
        assert item.values["loss"] == pytest.approx(-scores.log_softmax(0)[truth].item(), abs=1e-4)
        assert item.values["chance"] == pytest.approx(1 / 3)
        assert item.values["class"] == truth


def test_data_without_classes_in_truth_are_named():
    data = [Example(one.parts, {}, {"id": one.id}) for one in rows("ab")]
    bench = TinyBench({"rows": data})
    with pytest.raises(DataError, match="example 'r0' has no class in truth"):
        Classified(on="rows").measure(bench.tuned, bench)
