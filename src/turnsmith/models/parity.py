"""Whether a written model is still the same one: its ids, weights, logits and loss, before and after."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from turnsmith.errors import ModelError
from turnsmith.models.directory import read_object
from turnsmith.types import Conversation, Message

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from turnsmith.data.render import Renderer

# Of the largest logit. float32: a merged product is summed in another order; f16 and bfloat16: weights keep
# 11 and 8 bits. What keeps fewer is not held to a logit: its loss is told instead.
TOLERANCE = {"float32": 1e-4, "f32": 1e-4, "f16": 1e-2, "bfloat16": 5e-2, "bf16": 5e-2}
# Of each weight matrix, as a share of its norm: half a step of the type, and room. Rows in a wrong order
# give 1.4.
ROUNDING = {
    "f32": 1e-6, "f16": 1e-3, "bf16": 5e-3, "q8_0": 0.02,
    "q5_1": 0.08, "q5_0": 0.10, "q4_1": 0.15, "q4_0": 0.20,
}  # fmt: skip
SHORT = "The quick brown fox asks: what is the capital of France?"
CHAT = Conversation(
    (
        Message("user", "Is it 7:42 or 8:15?"),
        Message("assistant", "It's 7:42 -- naïve, I know."),
        Message("user", "Und morgen?"),
    )
)  # No content begins or ends with spaces: servers tokenise a prompt as a whole, where those can join.


@dataclass(frozen=True, slots=True)
class Measured:
    """What a model and its tokenizer make of the fixed texts.

    ids: of the probe text; chat: of the probe conversation as a prompt, None without a chat template.
    logits: (T, V) on a short text, or its last states (T, H) where there is no head. loss: nats per token on
    the probe text, None without a head.
    """

    ids: tuple[int, ...]
    chat: tuple[int, ...] | None
    logits: "torch.Tensor"
    loss: float | None


def text() -> str:
    """The fixed text that ids and loss are compared on: prose, figures, code and other languages."""
    return Path(__file__).with_name("probe.txt").read_text(encoding="utf-8")


def measure(
    model: "PreTrainedModel", words: "PreTrainedTokenizerBase", renderer: "Renderer | None"
) -> Measured:
    """What they make of the fixed texts. renderer: of the same tokenizer."""
    import torch

    ids = words(text())["input_ids"][: _limit(model)]
    with torch.no_grad():
        out = model(input_ids=words(SHORT, return_tensors="pt")["input_ids"])
        logits = (out.logits if hasattr(out, "logits") else out.last_hidden_state)[0].float()
        loss = _loss(model, ids) if hasattr(out, "logits") else None
    chat = tuple(renderer.prompt(CHAT)) if renderer else None
    return Measured(tuple(ids), chat, logits, loss)


def same_logits(found: "torch.Tensor", expected: "torch.Tensor", kind: str, act: str) -> float:
    """The largest deviation; ModelError if it is more than TOLERANCE allows for `kind`."""
    if found.shape != expected.shape:
        raise ModelError(f"{act} changed the logits from {tuple(expected.shape)} to {tuple(found.shape)}")
    deviation = float((found - expected).abs().max())
    allowed = TOLERANCE[kind] * float(expected.abs().max())
    if not deviation <= allowed:
        raise ModelError(f"{act} changed a logit by {deviation:.3g}, more than {allowed:.3g} for {kind}")
    return deviation


def same_ids(found: Measured, expected: Measured, act: str) -> None:
    """Raises ModelError where a text or a conversation has become other tokens."""
    for what, after, before in (
        ("the probe text", found.ids, expected.ids),
        ("the probe conversation", found.chat, expected.chat),
    ):
        if after != before:
            pairs = zip(before or (), after or (), strict=False)
            place = next((i for i, (one, other) in enumerate(pairs) if one != other), 0)
            raise ModelError(f"{act} changed the token ids of {what}, first at token {place}")


def same_weights(
    found: "Mapping[str, torch.Tensor]", expected: "Mapping[str, torch.Tensor]", kind: str
) -> float:
    """The largest error of a weight matrix as a share of its norm; ModelError beyond ROUNDING for `kind`."""
    if missing := sorted(expected.keys() - found.keys()):
        raise ModelError(f"read back, the file lacks {len(missing)} weights, such as {missing[0]}")
    worst = 0.0
    for name, tensor in expected.items():
        norm = float(tensor.float().norm())
        error = float((found[name].float() - tensor.float()).norm()) / norm if norm else 0.0
        if not error <= ROUNDING[kind]:
            raise ModelError(
                f"read back, the weight {name!r} is off by {error:.2g} of its norm, more than "
                f"{ROUNDING[kind]:.2g} for {kind}"
            )
        worst = max(worst, error)
    return worst


def stops_written(directory: Path, stops: tuple[int, ...]) -> None:
    """Raises ModelError unless generation_config.json in the directory lists every stop token."""
    listed = read_object(directory / "generation_config.json").get("eos_token_id")
    known = listed if isinstance(listed, list) else [listed]
    if missing := [stop for stop in stops if stop not in known]:
        raise ModelError(f"generation_config.json lists {known} as ends of a reply, but not {missing}")


def _limit(model: "PreTrainedModel") -> int:
    """How many tokens of the probe text the model takes; 512 at most, which is about all of it."""
    return min(512, getattr(model.config, "max_position_embeddings", 512))


def _loss(model: "PreTrainedModel", ids: list[int]) -> float:
    """Nats per token."""
    import torch

    rows = torch.tensor([ids])
    logits = model(input_ids=rows).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits, rows[0, 1:]))
