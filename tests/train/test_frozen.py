"""What is frozen is not paid for: no gradients, and nothing held for a backward pass that does not come."""

import weakref
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from turnsmith.data.batch import pack, pad
from turnsmith.models import forest
from turnsmith.models.lower import blocks
from turnsmith.models.recompute import recompute
from turnsmith.models.score import Scoring
from turnsmith.testing import examples, model
from turnsmith.trainables.half import Half
from turnsmith.trainables.install import install, learning
from turnsmith.trainables.lora import Lora
from turnsmith.trainables.select import biases, full, layers

DATA = examples(3)
UPPER = tuple(f"layers.{number}.self_attn.{name}_proj" for number in (2, 3) for name in "qv")


def named(*wanted):
    """A trainable: the parameters whose names hold all of these."""
    return lambda whole, draw: {name: all(w in name for w in wanted) for name, _ in whole.named_parameters()}


# What learns, and the lowest block in which something does.
TRAINABLES = {
    "layers": (layers, {"last": 2}, 2),
    "lora": (Lora, {"rank": 4, "targets": UPPER}, 2),
    "biases": (biases, {}, 0),
    "one norm": (named("layers.1.input_layernorm"), {}, 1),
}
MEASURED = pytest.mark.parametrize("trainable", TRAINABLES)
STORED = pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
AUTOCAST = pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "autocast"])
LAYOUTS = pytest.mark.parametrize("layout", [pack, pad], ids=["pack", "pad"])


def scoring(component, options, *, checkpointing=False, autocast=False, first=False):
    """first: whether activation checkpointing is switched on before the trainable is attached."""
    whole = model(layers=4, bias=True)
    if checkpointing and first:
        recompute(whole)
    whole = install(whole, component, options, seed=0)
    if checkpointing and not first:
        recompute(whole)
    forest.attach(whole)
    return Scoring(whole, autocast=autocast).train()


class Held:
    """A tensor that the graph holds for the backward pass; it goes when the graph lets go of it."""

    def __init__(self, tensor, block):
        self.tensor, self.block = tensor, block


class Watch:
    """What is held for the backward pass by each block (-1: before the first), parameters aside, and what
    each block gave."""

    def __init__(self, subject):
        self.own = {p.untyped_storage().data_ptr() for p in subject.parameters()}
        self.stack, self.now = blocks(subject.base)[1], -1
        self.seen, self.given = [], []

    @property
    def held(self):
        alive = [one for one in (weak() for weak in self.seen) if one is not None]
        return [one for one in alive if one.tensor.untyped_storage().data_ptr() not in self.own]

    def holds(self, tensor):
        pointer = tensor.untyped_storage().data_ptr()
        return any(one.tensor.untyped_storage().data_ptr() == pointer for one in self.held)

    def _pack(self, tensor):
        held = Held(tensor, self.now)
        self.seen.append(weakref.ref(held))
        return held

    def _leave(self, block, inputs, output):
        self.now += 1
        self.given.append(output)

    @contextmanager
    def watching(self):
        hooks = [block.register_forward_hook(self._leave) for block in self.stack]
        hooks.append(self.stack[0].register_forward_pre_hook(lambda *_: setattr(self, "now", 0)))
        with saved_tensors_hooks(self._pack, lambda held: held.tensor):
            yield self
        for hook in hooks:
            hook.remove()


@MEASURED
@STORED
@AUTOCAST
@LAYOUTS
def test_below_the_lowest_that_learns_nothing_is_kept_and_no_backward_comes(
    trainable, checkpointing, autocast, layout
):
    component, options, lowest = TRAINABLES[trainable]
    subject = scoring(component, options, checkpointing=checkpointing, autocast=autocast)
    with Watch(subject).watching() as seen:
        loss = subject(layout(DATA)).logprobs.sum()
    assert [given.requires_grad for given in seen.given] == [number >= lowest for number in range(4)]
    assert {held.block for held in seen.held} >= {lowest, 3}
    assert not [held for held in seen.held if held.block < lowest]
    loss.backward()
    assert {n for n, p in subject.named_parameters() if p.grad is not None} == set(learning(subject))


def test_checkpointing_before_an_adapter_would_let_the_backward_down_to_the_embeddings():
    """That is why the trainable comes first: peft asks for gradients of the embeddings' output otherwise."""
    subject = scoring(Lora, {"rank": 4, "targets": UPPER}, checkpointing=True, first=True)
    with Watch(subject).watching() as seen:
        subject(pack(DATA))
    assert all(given.requires_grad for given in seen.given)


def test_the_input_of_a_frozen_matrix_is_kept_only_where_the_matrix_learns():
    """Half fine-tuning freezes matrices in the middle. What goes into down_proj, the gated product, is held
    by nothing else; half of the four blocks' down_proj are frozen, give or take the draw."""
    subject = scoring(Half, {})
    read = {}
    for number, block in enumerate(blocks(subject.base)[1]):
        block.mlp.down_proj.register_forward_pre_hook(
            lambda module, inputs, number=number: read.update({number: (inputs[0], module.weight)})
        )
    with Watch(subject).watching() as seen:
        loss = subject(pack(DATA)).logprobs
    assert loss.requires_grad
    learns = [read[number][1].requires_grad for number in range(4)]
    assert set(learns) == {True, False}
    assert [seen.holds(read[number][0]) for number in range(4)] == learns


@pytest.mark.parametrize(
    ("component", "options"),
    [(full, {}), (layers, {"last": 1}), (Half, {}), (biases, {})],
    ids=["full", "layers", "half", "biases"],
)
@STORED
def test_a_backward_pass_makes_no_product_for_what_is_frozen(component, options, checkpointing):
    """A matrix m x n and T tokens: 2 T m n for its weight's gradient if that learns, and as many for its
    input's if something below it learns. Attention, and what is recomputed, are other operations."""
    subject = scoring(component, options, checkpointing=checkpointing)
    wanted = []
    for module in subject.base.get_decoder().modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(
                lambda module, inputs: wanted.append(
                    module.weight.numel() * (module.weight.requires_grad + inputs[0].requires_grad)
                )
            )
    batch = pack(DATA)
    total = subject.hidden(batch).sum()
    expected = 2 * batch.slots * sum(wanted)
    with FlopCounterMode(display=False) as counter:
        total.backward()
    assert counter.get_flop_counts()["Global"][torch.ops.aten.mm] == expected
