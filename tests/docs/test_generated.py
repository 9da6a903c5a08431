"""tools/docs.py: the pages in the repository are those that it makes, and it makes them of what there is."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from turnsmith.registry import Entry, Option, Registry

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def docs():
    """tools/docs.py, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("turnsmith_docs", ROOT / "tools" / "docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_page_is_stale(docs):
    made, there = docs.pages(), docs.written()
    stale = sorted(path for path in {*made, *there} if made.get(path) != there.get(path))
    assert not stale, "these pages are not what the code says: run `python tools/docs.py` and commit them"


def test_a_stale_page_is_named_and_written_anew_and_a_page_of_nothing_is_removed(
    docs, tmp_path, monkeypatch, capsys
):
    for file, text in docs.written().items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    (tmp_path / "docs" / "results.json").write_text("[]")
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    docs.main([])
    capsys.readouterr()
    assert docs.main(["--check"]) == 0
    page, gone = tmp_path / "docs/reference/objective/dpo.md", tmp_path / "docs/reference/stage/gone.md"
    page.write_text("old")
    gone.write_text("of a component that is there no more")
    assert docs.main(["--check"]) == 1
    assert capsys.readouterr().out.split() == [
        "stale", "docs/reference/objective/dpo.md", "stale", "docs/reference/stage/gone.md",
    ]  # fmt: skip
    assert docs.main([]) == 0
    assert page.read_text().startswith("# dpo")
    assert not gone.exists()


def test_the_verbs_of_a_group_have_pages_and_the_group_is_its_default(docs):
    pages = docs.pages()
    assert "turnsmith data FILE [OPTIONS]" in pages["docs/reference/command/data.md"]
    assert "turnsmith data show FILE [ID...]" in pages["docs/reference/command/data-show.md"]
    assert "docs/reference/command/data-describe.md" not in pages
    assert "[data show](command/data-show.md)" in pages["docs/reference/index.md"]


def test_torch_is_not_imported():
    code = "import docs, sys; docs.pages(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "tools"
    )
    assert done.stdout.strip() == "False"


def test_a_component_has_its_options_its_source_and_the_recipes_that_use_it(docs):
    page = docs.pages()["docs/reference/trainable/lora.md"]
    assert "| `rank` | `int` | `16` |" in page
    assert "[arXiv:2106.09685](https://arxiv.org/abs/2106.09685) eq. 3" in page
    assert "* [quickstart](../recipe/quickstart.md)" in page


def test_what_a_recipe_uses_are_its_components_and_those_it_leaves_to_the_defaults(docs):
    plain = {
        "title": "t",
        "base": "./b",
        "forgetting": False,
        "steps": [
            {"data": {"name": "d", "read": "d.jsonl", "format": "pairs", "stages": [{"head": {"count": 1}}]}},
            {"train": {"name": "m", "data": "d", "trainable": "full", "fit": {"steps": 1}}},
            {"evaluate": {"model": "m", "suite": [{"heldout": {"on": "d"}}]}},
        ],
    }
    assert docs.uses(plain, Registry()) == {
        ("format", "pairs"), ("stage", "head"), ("objective", "sft"), ("trainable", "full"),
        ("task", "heldout"),
    }  # fmt: skip


def test_papers_lead_to_what_names_them(docs):
    entry = Entry("stage", "mine", "mine", "m", 1, "", "", (), {"source": "arXiv:2401.00001 eq. 2"})
    page = docs.papers([entry], {"some": {"source": "arXiv:2401.00001"}, "other": {"source": "a book"}})
    assert page.splitlines()[-1] == (
        "| [arXiv:2401.00001](https://arxiv.org/abs/2401.00001) | [stage mine](stage/mine.md), eq. 2 | "
        "[some](recipe/some.md) |"
    )


def test_signs_of_markdown_in_a_docstring_are_shown_as_they_are(docs):
    assert docs.prose("a * b_c `d * e_f` <|end|>") == r"a \* b\_c `d * e_f` \<\|end\|\>"
    assert docs.code("int | None") == "<code>int &#124; None</code>"


def test_a_recipe_shows_what_came_of_its_own_claim(docs):
    row = {
        "card": 1, "recipe": "mine", "method": "mine", "claim": "c", "figure": 1.0, "interval": [0.5, 1.5],
        "n": 9, "seeds": 3, "baseline": "b", "verdict": "holds", "control": None, "minutes": 1.0,
        "command": "turnsmith claims mine", "date": "2026-11-22", "machine": "m",
    }  # fmt: skip
    page = docs.recipe("quickstart", {"title": "T"}, [{**row, "recipe": "quickstart"}, row])
    assert page.count("+1.000 [+0.500, +1.500]") == 1


def test_options_without_a_default_have_a_value_in_the_example(docs):
    entry = Entry("stage", "head", "head", "m", 1, "", "", (Option("count", "int", "(required)"),))
    assert "head: {count: 100}" in docs.in_recipe(entry, Registry())
