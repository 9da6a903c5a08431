"""Tasks that measure on files: found and read before anything is trained, measured anew when they change."""

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.recipes.checking import check
from turnsmith.recipes.start import run
from turnsmith.testing import directory

TASK = '''
"""Counts letters of lines; a line must not be empty."""
from pathlib import Path
from turnsmith.errors import DataError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.registry import task

@task("letters", files=("file", "more"))
class Letters:
    """Letters of each line."""
    title = "Letters"
    note = "How many letters a line has."
    metrics = (Metric("letters", "letters", "letters", "higher"),)

    def __init__(self, *, file: str, more: str | None = None) -> None:
        self.lines = Path(file).read_text().splitlines()
        for number, line in enumerate(self.lines, start=1):
            if not line:
                raise DataError(f"{file}, line {number}: there is nothing")

    def measure(self, subject, bench):
        return [Item(str(n), "", {"letters": len(line)}) for n, line in enumerate(self.lines)]
'''


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return directory(tmp_path_factory.mktemp("model"))


@pytest.fixture
def use(tmp_path, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letters.py").write_text(TASK)
    return [tmp_path / "letters.py"]


def recipe(base, file, *, train=False, **options):
    steps = [
        {"data": {"name": "sums", "stages": [{"sums": {"count": 4}}]}},
        {"train": {"name": "tuned", "data": "sums", "fit": {"steps": 1, "dtype": "float32"}}},
    ]
    suite = [{"letters": {"file": str(file), **options}}]
    measured = {"model": "tuned" if train else "base", "suite": suite}
    steps = [*(steps if train else []), {"evaluate": measured}]
    return {"title": "Letters", "base": str(base), "forgetting": False, "steps": steps}


def measured(plain, use, **said):
    """The key of the measurement, and the mean of its figure."""
    (found,) = run(plain, name="letters", use=use, **said)
    task = found["steps"][-1]["tasks"][0]
    return *task["measurements"].values(), task["metrics"][0]["after"]


def test_a_file_that_changed_is_measured_anew_and_one_that_moved_is_not(base, use, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("ab\nabcd\n")
    first = measured(recipe(base, lines), use)
    assert first[-1] == 3.0
    assert measured(recipe(base, lines), use) == first
    lines.rename(tmp_path / "other.txt")
    assert measured(recipe(base, tmp_path / "other.txt"), use) == first
    lines.write_text("ab\nabcdef\n")
    key, mean = measured(recipe(base, lines), use)
    assert key != first[0]
    assert mean == 4.0


def test_every_option_that_names_a_file_counts(base, use, tmp_path):
    for name in ("lines.txt", "more.txt"):
        (tmp_path / name).write_text("ab\n")
    keys = [measured(recipe(base, "lines.txt"), use)[0]]
    keys.append(measured(recipe(base, "lines.txt", more="more.txt"), use)[0])
    assert measured(recipe(base, "lines.txt", more="more.txt"), use)[0] == keys[1]
    (tmp_path / "more.txt").write_text("abc\n")
    keys.append(measured(recipe(base, "lines.txt", more="more.txt"), use)[0])
    assert len(set(keys)) == 3


def test_a_file_may_lie_beside_the_recipe(base, use, tmp_path):
    from turnsmith.recipes import yaml12

    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "lines.txt").write_text("abc\n")
    (tmp_path / "beside" / "letters.yaml").write_text(yaml12.dump(recipe(base, "lines.txt")))
    (found,) = run(tmp_path / "beside" / "letters.yaml", use=use)
    assert found["steps"][-1]["tasks"][0]["metrics"][0]["after"] == 3.0


def test_a_file_that_is_nowhere_is_an_error_before_anything_is_made(base, use, tmp_path):
    plain = recipe(base, "lines.txt", train=True)
    for look in (run, check):
        with pytest.raises(UsageError, match=r"task 'letters', option 'file': no data at 'lines\.txt'"):
            look(plain, name="letters", use=use)
    assert not (tmp_path / "home" / "shelf").exists()


def test_a_bad_row_is_an_error_before_anything_is_trained(base, use, tmp_path):
    (tmp_path / "lines.txt").write_text("ab\n\n")
    plain = recipe(base, "lines.txt", train=True)
    for look in (run, check):
        with pytest.raises(DataError, match=r"lines\.txt, line 2: there is nothing"):
            look(plain, name="letters", use=use)
    assert not (tmp_path / "runs").exists()
