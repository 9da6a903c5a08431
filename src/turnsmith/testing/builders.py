"""Small real things: a tokenizer with a chat template, a two-layer model, conversations, scores with given
values."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from turnsmith import album, seeds
from turnsmith.data import formats
from turnsmith.models.networks.llama import CHATML
from turnsmith.types import (
    IMAGE,
    Conversation,
    Example,
    Image,
    Json,
    Message,
    Part,
    Rendered,
    Role,
    Scores,
    Span,
    Tokens,
    Value,
)
from turnsmith.types import Path as ForestPath

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LETTERS: dict[str, Role] = {"s": "system", "u": "user", "a": "assistant"}
TEXTS = (
    "Hello there, how are you today?",
    "I am fine, thank you. And you?",
    "What is two plus two? It is four.",
    "The cat sat on the mat while the dog slept.",
    "Tell me a story about the sea and a small boat.",
)


@cache
def tokenizer(template: str = CHATML) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer of some 300 tokens, with <|im_start|> and <|im_end|> and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = template
    return fast


def model(
    *,
    seed: int = 0,
    vocabulary: int = 320,
    layers: int = 2,
    hidden: int = 32,
    dropout: float = 0.0,
    bias: bool = False,
) -> PreTrainedModel:
    """A random Llama with grouped-query attention, in fp32. bias: whether its projections have bias terms."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=None,
        attention_dropout=dropout,
        tie_word_embeddings=True,
        initializer_range=0.2,
        attention_bias=bias,
        mlp_bias=bias,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: PreTrainedModel = LlamaForCausalLM(config)
    return made.eval()


def directory(path: Path, *, seed: int = 0, template: str = CHATML) -> Path:
    """A model directory with the tiny model and tokenizer in it."""
    words = tokenizer(template)
    model(seed=seed, vocabulary=len(words)).save_pretrained(path)
    words.save_pretrained(path)
    return path


def picture(colour: tuple[int, int, int] = (255, 0, 0), *, size: int = 8) -> Image:
    """A square of one colour, as an image that carries its own file."""
    from PIL import Image as Picture

    file = io.BytesIO()
    Picture.new("RGB", (size, size), colour).save(file, "PNG")
    return album.of_bytes(file.getvalue())


def chat(*said: str) -> Conversation:
    """A conversation from texts that start with `u:`, `a:` or `s:`.

    >>> chat("u: Hi", "a: Hello").messages[1].role
    'assistant'
    """
    return Conversation(tuple(Message(LETTERS[text[0]], text[2:].strip()) for text in said))


def conversations(count: int, *, parts: Sequence[str] = ("text",)) -> list[Example]:
    """Examples of two turns, all different; the parts of one example share all but their last answer."""
    made = []
    for number in range(count):
        start = chat(
            f"u: Tell me about the number {number}.", f"a: It is {number}, thank you.", "u: And then?"
        )
        answers = (f"The cat sat on {number + rank} mats, and slept." for rank in range(len(parts)))
        ones = {
            part: start.then(Message("assistant", text)) for part, text in zip(parts, answers, strict=True)
        }
        made.append(Example(ones, {}, {"id": f"chat-{number}"}))
    return made


def variety() -> list[Example]:
    """An example of each shape that there is: system text, images, weights, spans, fields, sampled ids, raw
    text, pairs, several replies, values and meta."""
    start = chat("s: Be brief.", "u: Hello there", "a: Hi.", "u: And you?")
    spoken = Message("assistant", "I am fine.", 0.5, (Span(0, 4, 2.0),), {"name": "Ann"})
    sampled = Message("assistant", "Fine.", ids=(40, 41, 2), logprobs=(-0.5, -1.25, -0.125))
    raw = Conversation((Message("text", "The cat sat on the mat.\n"),))
    seen = Message("user", f"What is {IMAGE} here?", images=(picture(),))
    shapes: dict[str, dict[str, Part]] = {
        "seen": {"text": Conversation((seen, Message("assistant", "A red square.")))},
        "plain": {"text": chat("u: Hello", "a: Hi")},
        "spoken": {"text": start.then(spoken)},
        "sampled": {"text": start.then(sampled)},
        "raw": {"text": raw},
        "pair": {"chosen": start.then(spoken), "rejected": start.then(sampled)},
        "several": {"prompt": start, "replies": (start.then(spoken), start.then(sampled))},
    }
    meta: dict[str, Json] = {"people": ["ann", "bob"], "page": None}
    rewards: dict[str, dict[str, Value]] = {"several": {"reward": (1.0, 0.25)}}
    return [
        Example(parts, {"rating": 0.5, **rewards.get(name, {})}, {"id": name, **meta})
        for name, parts in shapes.items()
    ]


def jsonl(path: Path, made: Sequence[Example]) -> Path:
    """A data file with these examples, in the format `turnsmith`."""
    lines = [json.dumps(formats.to_row(example), ensure_ascii=False) for example in made]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def tokens(ids: Sequence[int], trained: int) -> Tokens:
    """Token ids of which the last `trained` carry weight 1."""
    array = np.array(ids, np.int32)
    weights = np.zeros(len(ids), np.float32)
    weights[len(ids) - trained :] = 1
    weights[0] = 0
    return Tokens(array, array, weights, np.zeros(len(ids), np.int32))


def examples(
    count: int, *, parts: Sequence[str] = ("text",), seed: int = 0, vocabulary: int = 320
) -> list[Rendered]:
    """Random ids as examples: the parts share a prompt of 18 tokens and end on 1 to 9 trained ones."""
    rng = seeds.array(seed, "examples")

    def draw(length: int) -> list[int]:
        return rng.integers(3, vocabulary, length).tolist()

    made = []
    for number in range(count):
        prompt = draw(18)
        sizes = {part: int(rng.integers(1, 10)) for part in parts}
        ones = {part: (tokens(prompt + draw(size), size),) for part, size in sizes.items()}
        made.append(Rendered(f"made-{number}", ones))
    return made


class Figures:
    """A recorder that keeps the rows of a run in memory: what `fit` asks of one. stop: the step after which
    the run is told to stop, as by Ctrl-C."""

    def __init__(self, stop: int | None = None) -> None:
        self.rows: list[dict[str, float]] = []
        self.stop = stop

    def step(self, values: Mapping[str, float]) -> None:
        self.rows.append(dict(values))
        if values["step"] == self.stop:
            os.kill(os.getpid(), signal.SIGINT)

    def rewind(self, step: int) -> None:
        self.rows = [row for row in self.rows if row["step"] <= step]


class Told:
    """A `Run` of which every pass gives the same scores, each path a sequence of its trained tokens.

    ids: of these, one path behind the other; all 0 where they are not given. passes: the embeddings that each
    pass was given, None where it was given none.
    """

    def __init__(self, scores: Scores, ids: Sequence[int] = ()) -> None:
        self.scores = scores
        count = len(scores.logprobs)
        self.inputs = torch.tensor([list(ids) or [0] * count], dtype=torch.long)
        self.place = torch.arange(count)
        first = torch.tensor([int((scores.path < path).sum()) for path in scores.path], dtype=torch.long)
        self.position = self.place - first
        self.passes: list[torch.Tensor | None] = []

    def __call__(
        self, embeds: torch.Tensor | None = None, *, needs: Sequence[str] = (), gradients: bool = True
    ) -> Scores:
        self.passes.append(embeds)
        none = torch.zeros(len(self.scores.logprobs), dtype=torch.long)
        return replace(self.scores, reduced={**dict.fromkeys(needs, none), **self.scores.reduced})

    def table(self, ids: torch.Tensor) -> torch.Tensor:
        return ids[..., None].to(self.scores.logprobs.dtype)

    def rows(self) -> torch.Tensor:
        longest = max([1, *(self.position + 1).tolist()])
        found = torch.full((len(self.scores.paths), longest), -1)
        found[self.scores.path, self.position] = self.inputs[0]
        return found


def scores(
    parts: Mapping[str, Sequence[Sequence[float]]],
    *,
    reference: Mapping[str, Sequence[Sequence[float]]] | None = None,
    values: Mapping[str, Sequence[float]] | None = None,
    reduced: Mapping[str, Sequence[float]] | None = None,
    heads: Mapping[str, Sequence[float]] | None = None,
    temperature: float = 1.0,
) -> Scores:
    """Scores with given log-probs: for each part, for each example, the log-probs of its trained tokens.

    reduced, heads: by name, a number for each trained token, example by example and part by part; of a head
    on a read-out a number for each path.
    """
    paths, logprobs, path, references = [], [], [], []
    examples = max(len(ones) for ones in parts.values())
    for owner in range(examples):
        for part, ones in parts.items():
            if owner < len(ones):
                path += [len(paths)] * len(ones[owner])
                logprobs += list(ones[owner])
                references += list(reference[part][owner]) if reference else []
                paths.append(ForestPath(owner, part, 0))
    count = len(logprobs)

    def learnt(given: Mapping[str, Sequence[float]] | None) -> dict[str, torch.Tensor]:
        return {
            name: torch.tensor(list(ones), dtype=torch.float64, requires_grad=True)
            for name, ones in (given or {}).items()
        }

    return Scores(
        logprobs=torch.tensor(logprobs, dtype=torch.float64, requires_grad=True),
        weights=torch.ones(count, dtype=torch.float64),
        turns=torch.zeros(count, dtype=torch.long),
        path=torch.tensor(path, dtype=torch.long),
        paths=tuple(paths),
        examples=examples,
        reference=torch.tensor(references, dtype=torch.float64) if reference else None,
        values={name: torch.tensor(list(ones), dtype=torch.float64) for name, ones in (values or {}).items()},
        reduced=learnt(reduced),
        heads=learnt(heads),
        temperature=temperature,
    )
