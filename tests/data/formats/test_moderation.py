"""OpenAI's moderation set."""

from collections import Counter

import pytest

from turnsmith.data.formats import from_file
from turnsmith.data.formats.moderation import moderation
from turnsmith.errors import DataError
from turnsmith.registry import Registry
from turnsmith.testing import chat


def test_labels_that_are_absent_are_unlabelled_and_not_0():
    parsed = moderation({"prompt": "Hi", "S3": 0, "V2": 1, "H": 1, "SH": 0})
    assert parsed.parts == {"text": chat("u: Hi")}
    assert parsed.meta == {"violated": ["H", "V2"], "unlabelled": ["S", "V", "HR", "H2"]}


@pytest.mark.parametrize("value", [2, "1", 0.5])
def test_a_label_that_is_neither_0_nor_1_is_refused(value):
    with pytest.raises(DataError, match="`S` must be 0 or 1"):
        moderation({"prompt": "Hi", "S": value})


def test_the_real_set_has_the_counts_of_its_paper(shared):
    path = shared / "data" / "moderation" / "openai_moderation_1680.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"needs {path}, which is not there")
    found, name, skipped = from_file(path, "moderation", Registry())
    assert (len(found), name, skipped) == (1680, "moderation", Counter())
    assert sum(bool(one.meta["violated"]) for one in found) == 522
    labels = Counter(label for one in found for label in one.meta["violated"])
    assert labels == {"S": 237, "H": 162, "V": 94, "S3": 85, "HR": 76, "SH": 51, "H2": 41, "V2": 24}
    assert found[0].meta["prompt"] == found[0].parts["text"].messages[0].content
