"""What benchmarks/where.py promises: shares of one step's time that make up the whole."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "where.py"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["sft", "dpo"])
def test_shares_of_all_classes_make_up_the_step(what):
    command = [sys.executable, str(SCRIPT), "--model", "tiny", "--examples", "2", "--length", "64"]
    run = subprocess.run(
        [*command, "--what", what],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    shares = dict(re.findall(r"^  (\S.*?) +(-?[\d.]+)%$", run.stdout, re.MULTILINE))
    for name in ("attention", "head and loss", "matrix products of the layers", "optimiser"):
        assert float(shares[name]) > 0, run.stdout
    assert sum(map(float, shares.values())) == pytest.approx(100, abs=1)
