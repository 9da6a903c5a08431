"""Our tasks beside the LM Evaluation Harness, over the same local files and the same model.

    python benchmarks/parity.py                                     a tiny random model
    python benchmarks/parity.py --model smollm2-135m-instruct       a real one, which takes longer

Each `parity/NAME.yaml` is a task of the harness, which reads the rows that ours reads. Accuracy as plain text
and after dividing by the length of options (`acc`, `acc_norm`), and exact answers in a chat, must agree to
1e-3. Needs `pip install lm-eval`.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TOLERANCE = 1e-3
WRITTEN = 48  # tokens of a generated answer
FILES = {
    "arc": "multiple_choice/ARC-Challenge_test.json",
    "boolq": "multiple_choice/boolq_test.json",
    "truthfulqa": "truthfulqa/fold_0_test_seed_42.csv",
    "gsm8k": "gsm8k/gsm8k_test.jsonl",
}
Figures = dict[str, dict[str, float]]  # of each task, by the name of the figure


def main() -> int:
    """Print both sides; 1 where some figure differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a directory or a shipped name; a tiny random model where absent")
    parser.add_argument("--shared", default="../shared", help="where the data are")
    parser.add_argument("--count", type=int, default=40, help="rows of each file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = located(given.model) if given.model else tiny(Path(folder))
        rows = taken(Path(given.shared) / "data", Path(folder), given.count)
        mine, others = ours(str(model), rows), theirs(str(model), rows)
    apart = 0
    print(f"{'task':<12}{'figure':<12}{'ours':>10}{'lm-eval':>10}")
    for task, figures in others.items():
        for name, value in figures.items():
            differs = abs(mine[task][name] - value) > TOLERANCE
            apart += differs
            print(
                f"{task:<12}{name:<12}{mine[task][name]:>10.4f}{value:>10.4f}{'  differs' if differs else ''}"
            )
    return int(apart > 0)


def located(reference: str) -> Path:
    """The directory of a model."""
    from turnsmith.models import load

    return load.locate(reference)


def tiny(folder: Path) -> Path:
    """A random model whose choices depend on what it reads."""
    from turnsmith.testing import directory

    return directory(folder / "model")


def taken(data: Path, folder: Path, count: int) -> dict[str, Path]:
    """The first rows of each file, those of the table as rows with options, which both sides can read."""
    made: dict[str, Path] = {}
    for name, file in FILES.items():
        source = data / file
        if source.suffix == ".csv":
            with source.open(newline="", encoding="utf-8") as opened:
                rows: Sequence[Mapping[str, Any]] = [_with_options(row) for row in csv.DictReader(opened)]
        elif source.suffix == ".json":
            rows = json.loads(source.read_text("utf-8"))
        else:
            rows = [json.loads(line) for line in source.read_text("utf-8").splitlines()]
        made[name] = folder / f"{name}.jsonl"
        made[name].write_text("".join(json.dumps(row) + "\n" for row in rows[:count]), "utf-8")
    return made


def _with_options(row: Mapping[str, str]) -> dict[str, Any]:
    """The best answer is put at another place in each row."""
    wrong = [one.strip() for one in row["Incorrect Answers"].split(";") if one.strip()]
    place = len(row["Question"]) % (len(wrong) + 1)
    options = [*wrong[:place], row["Best Answer"], *wrong[place:]]
    return {"question": row["Question"], "options": options, "answer": place}


def ours(model: str, rows: Mapping[str, Path]) -> Figures:
    """By Turnsmith's tasks, in fp32."""
    from turnsmith.data.batch import pack, pad
    from turnsmith.data.render import Renderer
    from turnsmith.evaluation.suite import Subject
    from turnsmith.evaluation.tasks.choice import Choice
    from turnsmith.evaluation.tasks.maths import Maths
    from turnsmith.models import forest, load
    from turnsmith.models.score import Scoring
    from turnsmith.sample.chat import LocalChat
    from turnsmith.sample.engine import LocalEngine

    whole, tokenizer = load.load(model, dtype="float32")
    whole.eval()
    layout = pad if forest.refusal(whole) else pack
    if layout is pack:
        forest.attach(whole)
    renderer = Renderer(tokenizer)
    chat = LocalChat(LocalEngine(whole, stop=renderer.stops), renderer)
    subject = Subject(model, Scoring(whole), renderer, chat, layout)
    found: Figures = {}
    for name, file in rows.items():
        task = Maths(file=str(file), max_new=WRITTEN) if name == "gsm8k" else Choice(file=str(file))
        items = task.measure(subject, None)  # pyright: ignore[reportArgumentType] - asks for nothing else
        names = {"exact": "right"} if name == "gsm8k" else {"acc": "text", "acc_norm": "text_by_length"}
        found[name] = {
            figure: sum(item.values[value] for item in items) / len(items) for figure, value in names.items()
        }
    return found


def theirs(model: str, rows: Mapping[str, Path]) -> Figures:
    """By the harness, in fp32."""
    import yaml

    harness: Any = importlib.import_module("lm_eval")
    keys = {"acc": "acc,none", "acc_norm": "acc_norm,none", "exact": "exact_match,number"}
    found: Figures = {}
    for name, file in rows.items():
        config = yaml.safe_load((Path(__file__).with_suffix("") / f"{name}.yaml").read_text("utf-8"))
        config["dataset_kwargs"] = {"data_files": {"test": str(file)}}
        writes = config["output_type"] == "generate_until"
        if writes:
            config["generation_kwargs"]["max_gen_toks"] = WRITTEN
        result = harness.simple_evaluate(
            "hf",
            model_args={"pretrained": model, "dtype": "float32"},
            tasks=[config],
            device="cpu",
            batch_size=8,
            apply_chat_template=writes,
            bootstrap_iters=0,
        )
        figures = result["results"][config["task"]]
        found[name] = {figure: float(figures[key]) for figure, key in keys.items() if key in figures}
    return found


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
