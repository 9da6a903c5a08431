"""Our tasks beside the LM Evaluation Harness, where that is installed."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.shared
def test_both_give_the_same_figures_over_the_same_files(monkeypatch, tmp_path, shared):
    pytest.importorskip("lm_eval", reason="needs lm-eval, which `make parity` installs")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    parity = importlib.import_module("parity")
    model = parity.tiny(tmp_path)
    rows = parity.taken(shared / "data", tmp_path, 40)
    mine, others = parity.ours(str(model), rows), parity.theirs(str(model), rows)
    assert set(others) == {"arc", "boolq", "truthfulqa", "gsm8k"}
    for task, figures in others.items():
        assert {name: mine[task][name] for name in figures} == pytest.approx(figures, abs=parity.TOLERANCE), (
            task
        )
    assert others["truthfulqa"]["acc"] != others["truthfulqa"]["acc_norm"]  # lengths made a difference
