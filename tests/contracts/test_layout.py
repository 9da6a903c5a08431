"""However a window is laid out and cut, its losses and gradients are those of plain rows, one for each
conversation, through the untouched model."""

import functools
import json
from itertools import combinations, product

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from turnsmith.data.batch import fill_rows, pack, pad, slots
from turnsmith.data.formats.oasst import oasst
from turnsmith.data.prepare import prepare
from turnsmith.data.render import Renderer
from turnsmith.models import forest
from turnsmith.models.recompute import recompute
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.objectives.pairs import dpo
from turnsmith.testing import chat, model, tokenizer
from turnsmith.testing.families import CONTEXTS, FAMILIES, VOCABULARY, Double, family, gradients
from turnsmith.train.method import Method, unit_weights, units
from turnsmith.trainables.half import Half
from turnsmith.trainables.install import install
from turnsmith.trainables.lora import Lora
from turnsmith.trainables.select import full, layers
from turnsmith.types import Example, Rendered, Tokens

BETA = 0.5
METHODS = {
    "sft": Method(sft, "token"),
    "dpo": Method(functools.partial(dpo, beta=BETA), "example", reference=True),
}
TRAINABLES = {
    "full": (full, {}),
    "lora": (Lora, {"rank": 4}),
    "half": (Half, {"level": "model"}),
    "layers": (layers, {"last": 1}),
}
# Relative, of the loss and of the norm of the gradient. What the design promises; for bf16, whose products
# have 8 bits, against float32: one token too many or too few changes the gradient by about its whole norm.
TOLERANCES = {"float64": (1e-9, 1e-9), "float32": (1e-4, 1e-4), "bfloat16": (2e-2, 3e-1)}
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}


# ---------------------------------------------------------------------------------------- windows


def said(*lengths, seed, prompt=()):
    """A conversation of runs of random tokens, behind a prompt; every other run is trained, a token of it by
    half. The numbers called reference are no model's."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor([*prompt, *torch.randint(3, VOCABULARY, (sum(lengths),), generator=generator)])
    turns = torch.repeat_interleave(torch.arange(len(lengths) + 1), torch.tensor([len(prompt), *lengths]))
    weights = ((turns > 0) & (turns % 2 == 0)).float()
    weights[-1] = 0.5
    inputs = ids.int().numpy()
    extras = {"reference": (-1.0 - ids % 3 / 2).float().numpy()}
    return Tokens(inputs, inputs, weights.numpy(), turns.int().numpy(), extras)


def asked(length, seed):
    return torch.randint(3, VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def tree():
    """Three answers to one prompt; the first of them is asked on in two ways, and learns on both."""
    prompt = asked(20, seed=90)
    first = said(3, 17, seed=10, prompt=prompt)
    on = first.inputs.tolist()
    ones = [said(4, 5, seed=11, prompt=on), said(2, 6, seed=12, prompt=on)]
    learnt = [Tokens(one.inputs, one.inputs, one.weights.copy(), one.turns, one.extras) for one in ones]
    for one in learnt:
        one.weights[len(prompt) + 3 : len(on)] = 1.0
    return Rendered("tree", {"text": (*learnt, said(3, 4, seed=13, prompt=prompt))})


WINDOWS = {
    "sft": [
        tree(),
        Rendered("alone", {"text": (said(5, 7, 2, 3, seed=1),)}),
        Rendered("sample 1", {"text": (said(1, 5, seed=2, prompt=asked(18, seed=91)),)}),
        Rendered("short", {"text": (said(1, 2, seed=3),)}),
        Rendered("sample 2", {"text": (said(1, 8, seed=4, prompt=asked(18, seed=91)),)}),
    ],
    "dpo": [
        Rendered(
            f"pair {seed}",
            {
                "chosen": (said(2, 5, seed=seed, prompt=asked(17 + seed, seed=80 + seed % 2)),),
                "rejected": (said(2, 3 + seed, seed=50 + seed, prompt=asked(17 + seed, seed=80 + seed % 2)),),
            },
        )
        for seed in range(4)
    ],
}

LAYOUTS = {
    "padded": lambda window, per: [pad(window)],
    "packed": lambda window, per: [pack(window, least=10**6)],  # nothing shared
    "shared": lambda window, per: [pack(window)],
    "dealt": lambda window, per: [pack(run) for run in fill_rows(window, 90, per=per)],
    "cut": lambda window, per: [pack(run) for run in fill_rows(window, 48, per=per)],
}


def test_the_layouts_are_what_their_names_say():
    """A window shares its prefixes, is cut into rows, and its tree goes over several of them."""
    laid = {name: lay(WINDOWS["sft"], "token") for name, lay in LAYOUTS.items()}
    # Conversations of 49, 48, 27, 17, 24, 3 and 27 tokens. The tree has 20 + 3 + 17 that its first answer
    # ends, 9 and 8 behind it, and 7 for the other answer; the two samples share 18.
    assert {name: [batch.slots for batch in batches] for name, batches in laid.items()} == {
        "padded": [7 * 49],
        "packed": [49 + 48 + 27 + 17 + 24 + 3 + 27],
        "shared": [64 + 17 + 3 + 33],
        "dealt": [64 + 17 + 3, 33],
        "cut": [49, 48, 27 + 17 + 3, 33],  # the tree goes over three rows
    }
    (shared,) = laid["shared"]
    assert len(shared.entry) == len(shared.targets) + 17  # the first answer learns on two paths


# -------------------------------------------------------------------------------------- both sides


def built(name, trainable, dtype):
    """The model with what learns chosen, the same for both sides."""
    component, options = TRAINABLES[trainable]
    whole = install(family(name, torch.float32), component, options, seed=0)
    generator = torch.Generator().manual_seed(2)
    for key, parameter in whole.named_parameters():
        if "lora_" in key:
            nn.init.normal_(parameter, std=0.2, generator=generator)
    return whole.to(dtype)


def by_rows(model, window, objective):
    """The loss from the model's own logits, a call for each conversation: what the objectives' papers say."""
    total = denominator = 0.0
    for example in window:
        ratios = []
        for tokens in (one for ones in example.parts.values() for one in ones):
            ids = torch.tensor(tokens.inputs).long()
            logprobs = model(input_ids=ids[None], use_cache=False).logits[0].log_softmax(-1)
            taken = logprobs[torch.arange(len(ids) - 1), ids[1:]]
            weights = torch.tensor(tokens.weights[1:]).to(taken.dtype)
            if objective == "sft":
                total, denominator = total - (taken * weights).sum(), denominator + weights.sum()
            else:
                reference = torch.tensor(tokens.extras["reference"][1:]).to(taken.dtype)
                ratios.append(((taken - reference) * weights).sum())
        if objective == "dpo":
            chosen, rejected = ratios
            total, denominator = total - F.logsigmoid(BETA * (chosen - rejected)), denominator + 1
    loss = total / denominator
    loss.backward()
    return loss.item(), gradients(model)


def by_batches(model, window, objective, layout, *, autocast, attached):
    """The loss as a step computes it."""
    if attached:
        forest.attach(model)
    scoring, method = Scoring(model, autocast=autocast), METHODS[objective]
    batches = LAYOUTS[layout](window, method.per)
    denominator = sum(units(method.per, batch) for batch in batches)
    loss = 0.0
    for batch in batches:
        scores = scoring(batch)
        value = (method.objective(scores).values * unit_weights(method.per, scores)).sum() / denominator
        value.backward()
        loss += value.item()
    return loss, gradients(model)


# Every pair of two choices is here once at least, which the next test counts.
MATRIX = [
    ("llama", "padded", "half", "float32", "stored"),
    ("llama", "packed", "full", "float64", "recomputed"),
    ("llama", "shared", "layers", "bfloat16", "recomputed"),
    ("llama", "dealt", "lora", "float64", "stored"),
    ("llama", "cut", "lora", "float32", "recomputed"),
    ("qwen3", "padded", "full", "bfloat16", "stored"),
    ("qwen3", "packed", "layers", "float32", "stored"),
    ("qwen3", "shared", "half", "float64", "recomputed"),
    ("qwen3", "dealt", "full", "float32", "recomputed"),
    ("qwen3", "cut", "lora", "bfloat16", "stored"),
    ("gemma3", "padded", "layers", "float64", "recomputed"),
    ("gemma3", "packed", "half", "bfloat16", "stored"),
    ("gemma3", "shared", "lora", "float32", "stored"),
    ("gemma3", "dealt", "layers", "bfloat16", "stored"),
    ("gemma3", "cut", "full", "float64", "stored"),
    ("mixtral", "padded", "lora", "float32", "stored"),
    ("mixtral", "packed", "lora", "float64", "recomputed"),
    ("mixtral", "shared", "full", "float32", "stored"),
    ("mixtral", "dealt", "half", "float64", "stored"),
    ("mixtral", "cut", "layers", "float64", "stored"),
    ("gpt2", "padded", "layers", "bfloat16", "recomputed"),
    ("gpt2", "packed", "lora", "float64", "stored"),
    ("gpt2", "shared", "half", "float32", "stored"),
    ("gpt2", "dealt", "full", "bfloat16", "recomputed"),
    ("gpt2", "cut", "half", "float64", "stored"),
]


# A router chooses between experts: what bf16 rounds may choose another, in any layout.
EXEMPT = {("mixtral", "bfloat16")}
COLUMNS = (FAMILIES, tuple(LAYOUTS), tuple(TRAINABLES), tuple(TOLERANCES), ("stored", "recomputed"))


def test_every_pair_of_choices_is_in_the_matrix():
    for one, other in combinations(range(len(COLUMNS)), 2):
        there = {(row[one], row[other]) for row in MATRIX}
        assert there == set(product(COLUMNS[one], COLUMNS[other])) - EXEMPT


@pytest.mark.parametrize("objective", METHODS)
@pytest.mark.parametrize(("name", "layout", "trainable", "dtype", "activations"), MATRIX)
def test_a_layout_gives_the_loss_and_the_gradient_of_plain_rows(
    name, layout, trainable, dtype, activations, objective
):
    rows, batches = (built(name, trainable, DTYPES[dtype]) for _ in range(2))
    if activations == "recomputed":
        recompute(batches, **CONTEXTS)
        if trainable == "lora":
            batches.enable_input_require_grads()
    with Double():
        loss, slope = by_rows(rows, WINDOWS[objective], objective)
        found, gradient = by_batches(
            batches, WINDOWS[objective], objective, layout,
            autocast=dtype == "bfloat16", attached=layout != "padded",
        )  # fmt: skip
    near, alike = TOLERANCES[dtype]
    assert found == pytest.approx(loss, rel=near)
    assert (gradient - slope).norm() < alike * slope.norm()


# ---------------------------------------------------------------------------- trees of conversations

Q = "What shall I do when the sea is calm and the boat is small?"


def node(id, text, *replies):
    role = "prompter" if id.startswith("q") else "assistant"
    return {"message_id": id, "text": text, "role": role, "replies": list(replies)}


OPEN = node(
    "q1", Q,
    node("a1", "Tell a story about the sea.",
         node("q2", "Which story is it?", node("a3", "The cat and the dog."), node("a4", "The small boat.")),
         node("q3", "Thank you, and then?", node("a5", "Then sleep."))),
    node("a2", "Sit on the mat, while the dog sleeps."),
)  # fmt: skip


def tokenised(rows):
    """The trees as tokens, each of them one example."""
    given = [Example({"text": oasst(row).parts["text"]}, meta={"id": row["message_tree_id"]}) for row in rows]
    made, _ = prepare(given, Renderer(tokenizer()), ["text"], length=10**6)
    return made


def beginnings(example):
    """Every distinct beginning of a path: the nodes of the tree, a token each."""
    ids = [one.inputs.tolist() for one in example.parts["text"]]
    return {tuple(path[:stop]) for path in ids for stop in range(1, len(path) + 1)}


def test_a_tree_of_conversations_is_one_example_whose_messages_are_computed_once():
    (example,) = tokenised([{"message_tree_id": "t", "prompt": OPEN}])
    assert [len(ones) for ones in example.parts.values()] == [4]  # a3, a4, a5, a2 end a conversation each
    batch = pack([example])
    assert batch.tokens == batch.slots == len(beginnings(example))
    assert batch.tokens < 0.6 * sum(map(len, example.parts["text"]))
    asked = len(Renderer(tokenizer()).prompt(chat(f"u: {Q}")))
    # The question, with the mark of who answers: one root, and under it the two answers.
    assert batch.forest.bounds[1] == asked
    assert batch.forest.parent[0] == -1
    assert batch.forest.parent.count(-1) == 1
    assert batch.forest.parent.count(0) == 2


@pytest.mark.parametrize(("row", "rows"), [(10**6, 1), (150, 2)])
def test_a_tree_trains_in_one_pass_or_cut_as_its_conversations_do(row, rows):
    window = tokenised([{"message_tree_id": "t", "prompt": OPEN}])
    whole, trees = (model().double() for _ in range(2))
    runs = fill_rows(window, row, per="token")
    assert len(runs) == rows
    with Double():
        loss, slope = by_rows(whole, window, "sft")
        forest.attach(trees)
        scoring = Scoring(trees)
        batches = [pack(run) for run in runs]
        count = sum(units("token", batch) for batch in batches)
        found = 0.0
        for batch in batches:
            scores = scoring(batch)
            value = (sft(scores).values * scores.weights).sum() / count
            value.backward()
            found += value.item()
    assert found == pytest.approx(loss, rel=1e-9)
    assert (gradients(trees) - slope).norm() < 1e-9 * slope.norm()


@pytest.mark.shared
def test_a_real_sample_of_trees_takes_a_third_fewer_tokens_than_its_conversations(shared):
    """100 trees of OpenAssistant, 555 conversations, in byte-like tokens."""
    lines = (shared / "data" / "chat" / "en_100_tree.jsonl").read_text("utf-8").splitlines()
    trees = tokenised(map(json.loads, lines))
    apart = sum(len(one) for tree in trees for one in tree.parts["text"])
    laid = sum(slots(tree) for tree in trees)
    assert (len(trees), sum(len(tree.parts["text"]) for tree in trees)) == (100, 555)
    assert 1 - laid / apart == pytest.approx(0.32, abs=0.01)
    assert laid == sum(pack([tree]).slots for tree in trees)
