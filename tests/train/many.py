"""What tests of several processes have each of them do: `many.py OUT RUN...`, alone or under a launcher.

Windows have two to four micro-batches: with three, one of two processes is idle in the last round; with two,
one of three. What each run gave is in OUT/RUN-RANK.pt.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed

from turnsmith import ranks, registry, testing
from turnsmith.data.stream import Stream
from turnsmith.errors import TrainingError
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.objectives.pairs import dpo
from turnsmith.testing import Figures, examples, model
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.train.stop import Interrupted
from turnsmith.trainables.install import Learner
from turnsmith.trainables.install import learning as learns
from turnsmith.types import Loss

PAIR = ("chosen", "rejected")
TOKENS, PAIRS = Method(sft, "token", linear=True), Method(functools.partial(dpo, beta=0.5), "example", True)


def reference(batch):
    return -2.0 - batch.targets[batch.entry] % 3


def ranked(s):
    values = (s.heads["reward"] - 1) ** 2 + s.heads["kinds"].square().sum(1)
    return Loss(values + s.along("text", s.heads["value"] ** 2))


def weighed(s):
    return Loss(-s.sums("text") * s.values["worth"])


class Coupled:
    """All weights learn, and the states of all micro-batches of a window are pulled towards a mean of 0."""

    def select(self, model, draw):
        model.model.norm.register_forward_hook(lambda module, given, made: setattr(self, "states", made))
        return dict.fromkeys((name for name, _ in model.named_parameters()), True)

    def tally(self, model, batch):
        return self.states.flatten(0, 1)[batch.source].sum(0)

    def penalty(self, model, total):
        return 1e-4 * total.square().sum()


class Stopped(Figures):
    """The last process is told to stop after the second step."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place

    def step(self, values: Mapping[str, float]) -> None:
        super().step(values)
        if values["step"] == 2 and self.place.rank == self.place.accelerator.num_processes - 1:
            os.kill(os.getpid(), signal.SIGINT)


@dataclass(frozen=True)
class Run:
    """Four steps. loramoe and coupled have penalties that couple the micro-batches of a window."""

    method: Method = TOKENS
    parts: tuple[str, ...] = ("text",)
    batch: int = 3
    row: int = 1
    trainable: str = "lora"
    live: Callable[..., torch.Tensor] | None = None
    shard: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    validate: bool = False


PAIRED = Run(PAIRS, PAIR, live=reference)
CUT = {
    "tokens": Run(),
    "tokens-full": Run(trainable="full"),
    "pairs": PAIRED,
    "pairs-full": replace(PAIRED, trainable="full"),
    "window": Run(trainable="loramoe"),
    "window-full": Run(trainable="coupled"),
    "rows": replace(PAIRED, batch=5, row=80),  # several pairs in each packed row
    "even": Run(batch=4),
}
RUNS = {
    **CUT,
    **{f"{name}-shard": replace(run, shard=True) for name, run in CUT.items()},
    "heads": Run(Method(ranked, "sequence", heads={"reward": ("last", 1), "kinds": ("mean", 2), "value": 1})),
    "taught": Run(testing.method("distil")),
    "skipped": Run(Method(weighed, "example"), batch=2, options={"nonfinite": "skip"}),
    "refused": Run(Method(weighed, "example"), batch=2),
    "refused-shard": Run(Method(weighed, "example"), batch=2, shard=True),
    "stopped": Run(batch=2),
    "best-shard": Run(shard=True, validate=True, options={"evaluate": 1}),
    "moved": Run(trainable="full"),
    "moved-shard": Run(trainable="full", shard=True),
}


def learner(kind: str) -> Learner:
    whole = model()
    forest.attach(whole)
    known = registry.Registry()
    given: dict[str, Any] = {"lora": {"rank": 4}, "loramoe": {"rank": 2, "dropout": 0.0, "balance": 1.0}}
    component = Coupled if kind == "coupled" else known.function("trainable", kind)
    return Learner(whole, component, given.get(kind, {}), seed=0)


def carry_out(name: str, run: Run, directory: Path) -> None:
    place = Place(device="cpu", shard=run.shard)
    one = learner(run.trainable)
    scoring = Scoring(one.model, heads=run.method.heads)
    options = Fit(**{"steps": 4, "batch": run.batch, "lr": 1e-3, "row": run.row, **run.options})
    # Of the third, which the third step sees, what it is worth is no number.
    values = [{"worth": float("nan" if at == 2 else 1), "knowledge": float(at % 2)} for at in range(7)]
    made = [replace(x, values=v) for x, v in zip(examples(7, parts=run.parts), values, strict=True)]
    method = run.method
    if name.startswith("taught"):
        teacher = model(seed=1)
        forest.attach(teacher)
        method = replace(method, others={"teacher": Scoring(teacher)})
    begins = not (directory / name).exists()
    place.accelerator.wait_for_everyone()
    recorder = Stopped(place) if name == "stopped" or (begins and name.startswith("moved")) else Figures()
    measured = iter((3.0, 1.0, 2.0, 2.5, 2.25))  # the state after the first step is the best
    held: list[str] = []

    def watch(step: int, total: int) -> None:
        held.append(",".join(sorted({type(p).__name__ for p in scoring.parameters()})))

    try:
        fit(
            scoring, Stream(made, batch=run.batch, order="shuffled", seed=0), method, options,
            directory=directory / name, recorder=recorder, place=place, seed=0, reference=run.live,
            learner=one, watch=watch, validate=(lambda: next(measured)) if run.validate else None,
        )  # fmt: skip
    except Interrupted:
        pass
    except TrainingError as error:
        (directory / f"{name}-{place.rank}.txt").write_text(str(error))
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in recorder.rows]
    weights = torch.cat([_whole(p).flatten() for p in learns(scoring).values()])
    torch.save({"rows": rows, "weights": weights, "held": held}, directory / f"{name}-{place.rank}.pt")


def _whole(parameter):
    return parameter.full_tensor().detach() if hasattr(parameter, "full_tensor") else parameter.detach()


def end_early() -> None:
    """The process ends while what it told the others is still on its way, in both groups."""
    ranks.join()
    Place(device="cpu")
    for group in 1000 * (distributed.group.WORLD, ranks._line()):
        distributed.all_reduce(torch.ones(1), group=group, async_op=True)


if __name__ == "__main__":
    out, *names = sys.argv[1:]
    for each in names:
        end_early() if each == "early" else carry_out(each, RUNS[each], Path(out))
