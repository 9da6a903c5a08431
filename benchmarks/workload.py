"""What both sides of `step.py` are given: one file with the examples of one optimiser step, as token ids.

Run as a process of its own, which prints the counts of what it wrote, so that whoever measures stays small:
what a process inherits counts in its peak memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from turnsmith.types import Rendered, Tokens

REPLY = 128  # tokens of a reply in a pair, where there are enough replies as long as that
PROMPT = 1 / 3  # share of a synthetic sequence that is not trained, as in real chats
READ = 3000  # chats that are looked at

# Llama shapes with random weights: SmolLM2-135M, Llama 3.2 1B, and one to test with.
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 320,
    },
    "135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one measured process does.

    model: a directory. file: the examples. side: `turnsmith` or the name of a peer. steps: the first is
    warm-up. reference: of DPO. row: most tokens of a micro-batch of ours. batch: rows of a micro-batch of the
    peers.
    """

    model: str
    file: str
    what: Literal["sft", "dpo"]
    side: str
    trainable: Literal["full", "lora"]
    dtype: Literal["float32", "bfloat16"]
    reference: Literal["precomputed", "live"]
    steps: int
    length: int
    lr: float
    row: int
    batch: int

    @classmethod
    def read(cls, arguments: Sequence[str]) -> Job:
        """The job that this process was started with."""
        return cls(**json.loads(arguments[1]))

    @property
    def argument(self) -> str:
        """What `read` reads."""
        return json.dumps(asdict(self))

    def examples(self) -> list[dict[str, list[int]]]:
        """Conversations with `input_ids` and `labels` (-100: not trained), or pairs with `prompt_ids`,
        `chosen_ids` and `rejected_ids`."""
        return json.loads(Path(self.file).read_text())


def main(arguments: Sequence[str]) -> None:
    """Write what was asked for, and print its counts: see `counts`."""
    asked: dict[str, Any] = json.loads(arguments[1])
    model = located(asked["model"], Path(asked["folder"]))
    file = Path(asked["file"])
    made = list(_examples(asked, model))
    file.write_text(json.dumps(made))
    print(json.dumps({"model": str(model), **counts(made)}))


def counts(examples: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, int]:
    """Tokens, trained tokens and pairs that attention needs, nothing padded or computed twice: the prompt of
    a pair counts once. read: tokens with a prompt for each reply. examples: how many."""
    tokens = supervised = attended = read = 0
    for one in examples:
        if "labels" in one:
            length = len(one["input_ids"])
            tokens, read = tokens + length, read + length
            supervised += sum(label != -100 for label in one["labels"])
            attended += length * (length + 1) // 2
            continue
        prompt = len(one["prompt_ids"])
        tokens, read = tokens + prompt, read + 2 * prompt
        attended += prompt * (prompt + 1) // 2
        for reply in (len(one["chosen_ids"]), len(one["rejected_ids"])):
            tokens, read, supervised = tokens + reply, read + reply, supervised + reply
            attended += reply * prompt + reply * (reply + 1) // 2
    found = {"tokens": tokens, "supervised": supervised, "attended": attended, "read": read}
    return {**found, "examples": len(examples)}


def located(name: str, folder: Path) -> Path:
    """The directory of a model; one of SHAPES is made in `folder` if it is not there yet."""
    if name not in SHAPES:
        from turnsmith.models import locate

        return Path(locate.locate(name))
    place = folder / f"model-{name}"
    if not place.is_dir():
        _make(name, place)
    return place


def _make(name: str, place: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from turnsmith.testing import tokenizer

    # The tiny one is told apart by its loss: larger weights, so that the tokens differ in likelihood.
    spread = 0.2 if name == "tiny" else 0.02
    config = LlamaConfig(
        **SHAPES[name],
        initializer_range=spread,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    aside = place.with_name(place.name + ".partial")
    LlamaForCausalLM(config).save_pretrained(aside)
    tokenizer().save_pretrained(aside)
    aside.rename(place)


def _examples(asked: Mapping[str, Any], model: Path) -> Iterator[dict[str, list[int]]]:
    count, length, ratio, seed = asked["examples"], asked["length"], asked["ratio"], asked["seed"]
    if asked["model"] in SHAPES:
        vocabulary = SHAPES[asked["model"]]["vocab_size"]
        ids = Random(seed)

        def draw(size: int) -> list[int]:
            return [ids.randrange(3, vocabulary) for _ in range(size)]

        for _ in range(count):
            if asked["what"] == "sft":
                yield conversation(draw(length), int(length * PROMPT))
            else:
                reply = min(REPLY, int(length / (1 + ratio)))
                yield pair(draw(int(ratio * reply)), draw(reply), draw(reply))
        return
    read = chats(model, length, seed)
    yield from (_real(read, count) if asked["what"] == "sft" else _real_pairs(read, count, ratio))


def conversation(ids: list[int], untrained: int) -> dict[str, list[int]]:
    """A conversation of which all but the first tokens are trained."""
    return {"input_ids": ids, "labels": [-100] * untrained + ids[untrained:]}


def pair(prompt: list[int], chosen: list[int], rejected: list[int]) -> dict[str, list[int]]:
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


def chats(model: Path, length: int, seed: int) -> Iterator[Rendered]:
    """The chats that come with Turnsmith, in an order drawn from `seed`, as tokens with our loss mask."""
    from collections import Counter
    from itertools import islice

    from transformers import AutoTokenizer

    from turnsmith import wheels
    from turnsmith.data import formats
    from turnsmith.data.prepare import Terms, rendered
    from turnsmith.data.render import Renderer
    from turnsmith.registry import Registry

    _, examples = formats.stream(wheels.obtain("chitchat"), "auto", Registry(), Counter())
    read = list(islice(examples, READ))
    Random(seed).shuffle(read)
    terms = Terms(parts=("text",), length=length, over="drop")
    return rendered(read, Renderer(AutoTokenizer.from_pretrained(model)), terms, Counter())


def _real(chats: Iterator[Rendered], count: int) -> Iterator[dict[str, list[int]]]:
    found = 0
    for chat in chats:
        if found == count:
            return
        (tokens,) = chat.parts["text"]
        labels = [
            int(target) if weight else -100
            for target, weight in zip(tokens.targets, tokens.weights, strict=True)
        ]
        found += 1
        yield {"input_ids": tokens.inputs.tolist(), "labels": labels}
    raise SystemExit(f"there are {found} chats as short as that, {count} were asked for")


def _real_pairs(chats: Iterator[Rendered], count: int, ratio: float) -> Iterator[dict[str, list[int]]]:
    """Prompts of real turns, cut so that they are `ratio` times as long as the two replies after them: real
    ones of other chats, the longest there are, cut to REPLY tokens or to the shorter of the two."""
    found = [one for chat in chats for one in chat.parts["text"]]
    replies = sorted((reply for one in found for reply in _replies(one)), key=len, reverse=True)
    longest = {id(one): max(map(len, _replies(one)), default=0) for one in found}
    if len(replies) < 2 * count:
        raise SystemExit(f"there are {len(replies)} replies, for {count} pairs it takes {2 * count}")
    shortest = len(replies[2 * count - 1])
    prompts = (one for one in found if longest[id(one)] < shortest)  # none that a reply was taken from
    for number in range(count):
        chosen, rejected = replies[2 * number], replies[2 * number + 1]
        reply = min(REPLY, len(rejected))
        size = int(ratio * reply)
        prompt = next((one for one in prompts if len(one) >= size), None)
        if prompt is None:
            raise SystemExit(f"there are {number} chats of {size} tokens for prompts, not {count}")
        yield pair(prompt.inputs[:size].tolist(), chosen[:reply], rejected[:reply])


def _replies(tokens: Tokens) -> list[list[int]]:
    """The trained tokens of each turn."""
    import numpy as np

    trained = tokens.weights > 0
    turns = np.unique(tokens.turns[trained])
    return [tokens.inputs[trained & (tokens.turns == turn)].tolist() for turn in turns]


if __name__ == "__main__":
    main(sys.argv)
