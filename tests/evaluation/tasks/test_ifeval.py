"""From published rows to four figures."""

import json

import pytest

from turnsmith.data.batch import pad
from turnsmith.data.render import Renderer
from turnsmith.errors import DataError
from turnsmith.evaluation.items import compare
from turnsmith.evaluation.suite import Subject
from turnsmith.evaluation.tasks.ifeval import IfEval
from turnsmith.models.score import Scoring
from turnsmith.testing import model, tokenizer
from turnsmith.types import Message, Reply, Usage

ROWS = [
    {
        "key": 1000,
        "prompt": "Say yes in JSON, without commas.",
        "instruction_id_list": ["detectable_format:json_format", "punctuation:no_comma"],
        "kwargs": [{}, {}],
    },
    {
        "key": 1001,
        "prompt": "Give a title.",
        "instruction_id_list": ["detectable_format:title"],
        "kwargs": [{}],
    },
]


def written(path, *rows):
    file = path / "input_data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(file)


def measured(file, *said):
    def chat(conversations, *, sampling=None, seed=0):
        assert sampling.temperature == 0.0
        return [Reply(Message("assistant", text), finish, Usage(1, 1)) for text, finish in said]

    tiny = Subject("tiny", Scoring(model()).eval(), Renderer(tokenizer()), chat, pad)
    return IfEval(file=file).measure(tiny, None)


def test_four_figures_strict_and_loose_by_prompt_and_by_instruction(tmp_path):
    items = measured(written(tmp_path, *ROWS), ('Sure\n{"a": "yes"}', "stop"), ("A song", "length"))
    # The first is JSON only without its first line, and has no comma; the second has no title.
    assert items[0].values == {
        "strict_prompt": 0, "loose_prompt": 1, "strict": 1, "loose": 2, "instructions": 2, "cut": 0,
    }  # fmt: skip
    assert items[0].shown["broken"] == ["detectable_format:json_format"]
    assert items[1].values == {
        "strict_prompt": 0, "loose_prompt": 0, "strict": 0, "loose": 0, "instructions": 1, "cut": 1,
    }  # fmt: skip
    figures = {row["name"]: row["after"] for row in compare(IfEval.metrics, items, items)}
    assert figures == {
        "prompts followed, strict": 0,
        "prompts followed, loose": 1 / 2,
        "instructions followed, strict": pytest.approx(1 / 3),
        "instructions followed, loose": pytest.approx(2 / 3),
        "replies cut off": 1 / 2,
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"kwargs": [{}]},
            "'kwargs' is .* must be a list of one object for each of detectable_format:json_format",
        ),
        ({"instruction_id_list": []}, "'instruction_id_list' is .*, and must be a list of ids"),
        ({"instruction_id_list": ["a", "punctuation:no_comma"]}, "no instruction has the id 'a'"),
        ({"prompt": None}, "'prompt' is None"),
    ],
)
def test_a_bad_row_stops_with_its_place(tmp_path, change, said):
    with pytest.raises(DataError, match=rf"input_data\.jsonl, line 2: .*{said}"):
        IfEval(file=written(tmp_path, ROWS[1], {**ROWS[0], **change}))


@pytest.mark.shared
def test_the_published_prompts_are_read_whole(shared):
    file = shared / "data" / "instruct" / "ifeval_input_data.jsonl"
    if not file.is_file():
        pytest.skip(f"needs {file}, which is not there")
    task = IfEval(file=str(file))
    assert len(task.prompts) == 540
    assert len({one.id for ones in task.instructions for one in ones}) == 25
