"""Named reductions and heads: what plain torch makes of all logits, which here never exist."""

from math import log

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from turnsmith.data.batch import pack, pad
from turnsmith.data.stream import Stream
from turnsmith.errors import ModelError
from turnsmith.models import forest, head, heads
from turnsmith.models.heads import FILE, Heads
from turnsmith.models.needs import AGAINST
from turnsmith.models.reduce import COMPARISONS, Other, reduce
from turnsmith.models.score import Scoring
from turnsmith.registry import Registry
from turnsmith.testing import OBJECTIVE, Figures, examples, method, model, tokens
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.types import Loss, Rendered

NAMES = ("entropy", "collision_entropy", "logsumexp", "max", "argmax")
DATA = examples(4)


def whole_logits(scoring, batch, temperature=1.0):
    """(N, V): the logits at the trained tokens, all at once, and the states (N, H) that they come from."""
    states = scoring.hidden(batch)[batch.source][batch.entry]
    return scoring.head(states) / temperature, states


def by_torch(logits):
    p = torch.distributions.Categorical(logits=logits)
    return {
        "entropy": p.entropy(),
        "collision_entropy": -logits.softmax(1).square().sum(1).log(),
        "logsumexp": logits.exp().sum(1).log(),
        "max": logits.max(1).values,
        "argmax": logits.max(1).indices,
    }


def slope(values, scoring):
    """The gradient of a sum of these numbers, each times another."""
    scoring.zero_grad()
    torch.stack([(each * torch.linspace(-1, 2, len(each))).sum() for each in values]).sum().backward()
    return {name: p.grad.clone() for name, p in scoring.named_parameters() if p.grad is not None}


def close(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-4)  # fp32, in another order


@pytest.mark.parametrize("rows", [1, 4, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_reductions_are_those_of_all_logits_gradients_included(monkeypatch, rows, temperature):
    monkeypatch.setattr(head, "SLAB", 4 * 320 * rows)
    scoring, batch = Scoring(model()), pad(DATA)
    logits, _ = whole_logits(scoring, batch, temperature)
    expected = by_torch(logits)
    scores = scoring(batch, temperature=temperature, needs=NAMES)
    assert scores.reduced["argmax"].tolist() == expected.pop("argmax").tolist()
    for name, values in expected.items():
        torch.testing.assert_close(scores.reduced[name], values, rtol=1e-5, atol=1e-5)
    plain = logits.log_softmax(1).gather(1, batch.targets[batch.entry][:, None])[:, 0]
    torch.testing.assert_close(scores.logprobs, plain, rtol=0, atol=1e-5)
    close(
        slope([scores.logprobs, *(scores.reduced[name] for name in expected)], scoring),
        slope([plain, *expected.values()], scoring),
    )


def test_log_probs_are_the_same_with_reductions_and_without():
    scoring, batch = Scoring(model()), pad(DATA)
    torch.testing.assert_close(
        scoring(batch, needs=("entropy",)).logprobs, scoring(batch).logprobs, rtol=0, atol=1e-5
    )


def test_divergences_by_hand():
    """The other says 3/4 and 1/4 where this one says 1/2 and 1/2; the states are the logits themselves."""
    other = Other(torch.tensor([[log(3.0), 0.0]]), lambda states: states)
    names = ("kl:teacher", "reverse_kl:teacher", "jsd/0.25:teacher")
    own, target = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0])
    found = reduce(own, target, lambda states: states, names, rows=1, others={"teacher": other})
    # 3/4 ln(3/4 : 1/2) + 1/4 ln(1/4 : 1/2), and 1/2 ln(1/2 : 3/4) + 1/2 ln(1/2 : 1/4)
    assert found["kl:teacher"].item() == pytest.approx(0.75 * log(1.5) - 0.25 * log(2), abs=1e-7)
    assert found["reverse_kl:teacher"].item() == pytest.approx(0.5 * log(2) - 0.5 * log(1.5), abs=1e-7)
    # A quarter of the other and three of this one: 9/16 and 7/16.
    theirs = 0.75 * log(0.75 * 16 / 9) + 0.25 * log(0.25 * 16 / 7)
    mine = 0.5 * log(0.5 * 16 / 9) + 0.5 * log(0.5 * 16 / 7)
    assert found["jsd/0.25:teacher"].item() == pytest.approx(0.25 * theirs + 0.75 * mine, abs=1e-7)


@pytest.mark.parametrize("rows", [1, 4, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_divergences_are_those_of_all_logits_and_the_gradient_is_this_models_alone(
    monkeypatch, rows, temperature
):
    monkeypatch.setattr(head, "SLAB", 2 * 4 * 320 * rows)
    scoring, teacher, batch = Scoring(model()), Scoring(model(seed=1)), pad(DATA)
    own, other = (whole_logits(one, batch, temperature)[0].log_softmax(1) for one in (scoring, teacher))
    forth, back = (
        F.kl_div(one, two, reduction="none", log_target=True).sum(1)
        for one, two in ((own, other.detach()), (other.detach(), own))
    )
    assert forth.min() > 0.1
    middle = (0.25 * other.detach().exp() + 0.75 * own.exp()).log()
    mixed = 0.25 * F.kl_div(middle, other.detach(), reduction="none", log_target=True).sum(1)
    mixed = mixed + 0.75 * F.kl_div(middle, own, reduction="none", log_target=True).sum(1)
    needs = ("kl:teacher", "entropy", "reverse_kl:teacher", "jsd/0.25:teacher")
    scores = scoring(batch, temperature=temperature, needs=needs, others={"teacher": teacher})
    assert scores.temperature == temperature
    torch.testing.assert_close(scores.reduced["kl:teacher"], forth, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores.reduced["reverse_kl:teacher"], back, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores.reduced["jsd/0.25:teacher"], mixed, rtol=1e-4, atol=1e-5)
    found = [scores.reduced[name] for name in needs if ":" in name]
    close(slope(found, scoring), slope([forth, back, mixed], scoring))
    assert all(p.grad is None for p in teacher.parameters())


def test_a_model_is_at_no_distance_from_itself():
    scoring = Scoring(model())
    found = scoring(pad(DATA), needs=("kl:start",), others={"start": scoring}).reduced["kl:start"]
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-6)


def test_the_other_model_keeps_its_own_arithmetic():
    """One computes in bf16, the other in fp32: its logits are those that it has alone, to the bit."""
    scoring, teacher, batch = Scoring(model(), autocast=True), Scoring(model(seed=1)), pad(DATA)
    with scoring.arithmetic():
        other = teacher.beside(batch, 1.0)
        found = other.project(other.hidden)
    with torch.no_grad():
        assert torch.equal(found, teacher.head(teacher.hidden(batch)[batch.source]))
    reduced = scoring(batch, needs=("kl:teacher",), others={"teacher": teacher}).reduced["kl:teacher"]
    with scoring.arithmetic():
        own = scoring.head(scoring.hidden(batch)[batch.source]).float().log_softmax(1)
    expected = F.kl_div(own, found.log_softmax(1), reduction="none", log_target=True).sum(1)[batch.entry]
    torch.testing.assert_close(reduced, expected, rtol=1e-4, atol=1e-5)


def test_what_is_compared_has_the_names_that_are_known_without_torch():
    assert tuple(COMPARISONS) == AGAINST


@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_heads_are_linear_in_the_states_gradients_included(monkeypatch, rows):
    monkeypatch.setattr(head, "SLAB", 4 * 320 * rows)
    scoring = Scoring(model(), heads={"value": 1, "ends": 3, "q": "vocab"})
    batch = pad(DATA)
    _, states = whole_logits(scoring, batch)
    own = {name: states @ each.weight.T + each.bias for name, each in scoring.heads.items()}
    expected = {
        "value": own["value"][:, 0],
        "ends": own["ends"],
        "q": own["q"].gather(1, batch.targets[batch.entry][:, None])[:, 0],
    }
    scores = scoring(batch, needs=("q:max", "q:logsumexp"))
    assert {name: values.shape[1:] for name, values in scores.heads.items()} == {
        "value": (),
        "ends": (3,),
        "q": (),
    }
    close(dict(scores.heads), expected)
    over = {"q:max": own["q"].max(1).values, "q:logsumexp": own["q"].exp().sum(1).log()}
    close(dict(scores.reduced), over)
    found = [scores.heads["value"], scores.heads["ends"].sum(1), scores.heads["q"], *scores.reduced.values()]
    plain = [expected["value"], expected["ends"].sum(1), expected["q"], *over.values()]
    close(slope(found, scoring), slope(plain, scoring))


class Largest(TorchDispatchMode):
    """The most numbers that any tensor made in the meantime has."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, list | tuple) else [out]:
            if isinstance(each, torch.Tensor):
                self.numbers = max(self.numbers, each.numel())
        return out


def test_the_logits_of_all_tokens_never_exist(monkeypatch):
    """100 trained tokens have 32,000 logits; the largest tensor is the weight of the head, of 10,240."""
    monkeypatch.setattr(head, "SLAB", 4 * 320 * 8)
    whole = model()
    scoring = Scoring(whole, heads={"value": 1, "q": "vocab"})
    batch = pad([Rendered("long", {"text": (tokens(list(range(3, 113)), 100),)})])
    others = {"teacher": Scoring(model(seed=1))}
    with Largest() as seen:
        scores = scoring(batch, needs=("entropy", "max", "q:max", "kl:teacher"), others=others)
        numbers = [scores.logprobs, *scores.reduced.values(), *scores.heads.values()]
        torch.stack([each.sum() for each in numbers]).sum().backward()
    assert len(scores.logprobs) == 100
    assert seen.numbers == whole.lm_head.weight.numel() == 10_240
    with Largest() as seen:
        whole_logits(scoring, batch)
    assert seen.numbers == 32_000  # the measure sees them where they are


def test_a_batch_without_a_trained_token_reaches_the_heads_all_the_same():
    """Several processes wait for every gradient."""
    scoring = Scoring(model(), heads={"value": 1, "q": "vocab"})
    scores = scoring(pad([Rendered("none", {"text": (tokens(list(range(3, 12)), 0),)})]), needs=("entropy",))
    assert scores.reduced["entropy"].shape == scores.heads["q"].shape == (0,)
    torch.cat([scores.logprobs, *scores.heads.values(), *scores.reduced.values()]).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in scoring.heads.parameters())


@pytest.mark.parametrize(
    ("needs", "reason"),
    [
        (("entropie",), "over the vocabulary is called 'entropie'; there is entropy, collision_entropy, "),
        (("q:mean",), "called 'q:mean'; .* q:max"),
        (("value:max",), "called 'value:max'"),
        (("other:max",), "called 'other:max'"),
        (("kl",), "called 'kl'; .* kl:MODEL, reverse_kl:MODEL"),
        (("kl:teacher",), "reductions against teacher are wanted, and no such model is given"),
    ],
)
def test_an_unknown_reduction_is_an_error_that_names_those_there_are(needs, reason):
    with pytest.raises(ModelError, match=reason):
        Scoring(model(), heads={"value": 1, "q": "vocab"})(pad(DATA), needs=needs)


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (0, "value"),
        ("all", "value"),
        (1, "a value"),
        (1, "kl"),
        (("last", 0), "value"),
        (("middle", 1), "value"),
        (("mlp", "narrow", 1), "value"),
        (("last", "wide", 1), "value"),
    ],
)
def test_a_head_that_cannot_be_is_refused(size, name):
    with pytest.raises(ModelError, match=f"head '{name}'"):
        Scoring(model(), heads={name: size})


def test_first_weights_depend_on_the_seed_and_the_name_alone():
    made = [Heads(sizes, hidden=8, vocabulary=9, seed=seed) for sizes, seed in
            (({"a": 1, "b": 1}, 0), ({"b": 1}, 0), ({"b": 1}, 1))]  # fmt: skip
    assert torch.equal(made[0]["b"].weight, made[1]["b"].weight)
    assert not torch.equal(made[0]["a"].weight, made[0]["b"].weight)
    assert not torch.equal(made[1]["b"].weight, made[2]["b"].weight)


# ------------------------------------------------------------------------------------ saved and loaded


def test_heads_come_back_from_beside_the_model_and_strangers_are_named(tmp_path):
    model().save_pretrained(tmp_path)
    first = Heads({"value": 1, "q": "vocab"}, hidden=8, vocabulary=9, seed=1)
    heads.save(first, tmp_path)
    assert (tmp_path / FILE).is_file()
    again = Heads({"value": 1, "new": 2}, hidden=8, vocabulary=9, seed=2)
    before = again["new"].weight.clone()
    assert heads.load(again, str(tmp_path)) == ["q"]
    assert torch.equal(again["value"].weight, first["value"].weight)
    assert torch.equal(again["new"].weight, before)


def test_a_head_of_another_size_is_refused(tmp_path):
    model().save_pretrained(tmp_path)
    heads.save(Heads({"value": 1}, hidden=8, vocabulary=9), tmp_path)
    with pytest.raises(ModelError, match=r"value.bias of shape \(1,\), the objective wants \(2,\): rename"):
        heads.load(Heads({"value": 2}, hidden=8, vocabulary=9), str(tmp_path))


def test_without_heads_nothing_is_written(tmp_path):
    heads.save(Heads({}, hidden=8, vocabulary=9), tmp_path)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------- an objective of its own

MINE = '''
from turnsmith.registry import objective
from turnsmith.types import Loss, Scores

@objective(
    "bonus", per="token", needs=("entropy", "q:logsumexp"), heads={"value": 1, "q": "vocab"}, source="mine"
)
def bonus(s: Scores, *, weight: float = 0.1) -> Loss:
    """Likelihood with an entropy bonus, a value fitted to the log-probs, and a second distribution."""
    value = (s.heads["value"] - s.logprobs.detach()) ** 2
    other = s.reduced["q:logsumexp"] - s.heads["q"]
    entropy = s.reduced["entropy"]
    return Loss(-s.logprobs - weight * entropy + value + other, {"entropy": entropy})
'''


@pytest.fixture
def mine(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    registry = Registry()
    registry.use(file)
    return method("bonus", registry=registry)


def test_what_an_objective_declares_reaches_the_loop(mine):
    assert mine.needs == ("entropy", "q:logsumexp")
    assert mine.heads == {"value": 1, "q": "vocab"}


@pytest.mark.parametrize("check", OBJECTIVE, ids=lambda check: check.__name__)
def test_an_objective_with_needs_and_heads_keeps_the_contract(mine, check):
    """The gradient for every cut of a window is one of the checks."""
    check(mine, ("text",))


def test_heads_learn_in_a_run_and_the_same_however_it_is_cut(tmp_path, mine):
    ends = []
    for row, layout in ((10**6, pack), (1, pack), (60, pad)):
        whole = model()
        forest.attach(whole)
        scoring = Scoring(whole, heads=mine.heads, seed=1)
        start = {name: p.clone() for name, p in scoring.heads.named_parameters()}
        data = examples(7)
        fit(
            scoring, Stream(data, batch=3, order="given", seed=0), mine,
            Fit(steps=3, batch=3, lr=1e-3, row=row), directory=tmp_path / f"{row}", recorder=Figures(),
            place=Place(device="cpu"), seed=0, layout=layout,
        )  # fmt: skip
        assert not any(torch.equal(p, start[name]) for name, p in scoring.heads.named_parameters())
        ends.append(torch.cat([p.detach().flatten() for p in scoring.heads.parameters()]))
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=2e-4)  # Adam divides small gradients
    torch.testing.assert_close(ends[2], ends[0], rtol=0, atol=2e-4)


def test_what_is_linear_in_log_probs_has_neither():
    with pytest.raises(ValueError, match="linear objectives see log-probs only"):
        Method(lambda s: Loss(-s.logprobs), "token", linear=True, needs=("entropy",))
