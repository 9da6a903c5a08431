"""How well a model that was tuned on other rows tells replies that are wrong from those that are right."""

from __future__ import annotations

from turnsmith.errors import ModelError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.evaluation.tasks.heldout import losses
from turnsmith.registry import task


@task("doubted", data=True, source="arXiv:2403.12776; card 80: AUROC of -C for planted noise")
class Doubted:
    """Whether replies that are known to be wrong are less likely, for each of their tokens, than right ones.

    on: the data, whose examples have the value `wrong`, 0 or 1, as `mismatched` gives it. length: examples
    that do not fit into so many tokens are left out.
    """

    title = "Wrong replies told from right ones"
    note = "AUROC of the loss per token for the replies that are wrong: 0.5 is no better than chance."
    metrics = (
        Metric(
            "wrong replies found", "loss", "AUROC", "higher", of="replies", reduce="auroc", others=("label",)
        ),
    )

    def __init__(self, *, on: str, length: int = 512) -> None:
        self.on, self.length = on, length

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        examples = bench.examples(self.on)
        labels = {example.id: example.values.get("wrong") for example in examples}
        found: list[Item] = []
        for item in losses(subject, examples, self.length):
            label = labels[item.id]
            if not isinstance(label, float):
                raise ModelError(
                    f"doubted: example {item.id!r} does not say whether it is `wrong`: use `mismatched`"
                )
            loss = item.values["all"] / item.values["tokens"]
            found.append(Item(item.id, "", {"loss": loss, "label": label}))
        return found
