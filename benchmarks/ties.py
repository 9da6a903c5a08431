"""Where two greedy replies part: how near to the best the logits of both tokens are, for `sample.py`.

Prints one gap for each case of a file, from one fp32 forward pass of transformers over what both had drawn.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def main(arguments: Sequence[str]) -> list[float]:
    """The gap of each case: `ids` before the tokens `one` and `other`."""
    import torch
    from transformers import AutoModelForCausalLM

    asked: dict[str, Any] = json.loads(arguments[1])
    model: Any = AutoModelForCausalLM.from_pretrained(asked["model"], dtype=torch.float32).eval()
    with torch.inference_mode():
        return [
            gap(model(torch.tensor([case["ids"]])).logits[0, -1], case["one"], case["other"])
            for case in json.loads(Path(asked["file"]).read_text())
        ]


def gap(logits: Tensor, one: int, other: int) -> float:
    """How far the lower of two tokens is below the best of all. logits: (V,)."""
    return float(logits.max() - logits[[one, other]].min())


if __name__ == "__main__":
    print("\n" + json.dumps(main(sys.argv)))
