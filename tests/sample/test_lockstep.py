"""Models that decode in step: against a loop that runs each of them whole for every token."""

from collections import Counter
from functools import partial
from threading import Event

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from turnsmith import seeds
from turnsmith.decoders.contrast import contrast
from turnsmith.decoders.emulate import emulate
from turnsmith.decoders.proxy import proxy
from turnsmith.errors import ModelError, UsageError
from turnsmith.models.combination import mixed
from turnsmith.sample.choosing import choose
from turnsmith.sample.drafts import DraftModel, PromptLookup
from turnsmith.sample.engine import LocalEngine
from turnsmith.sample.lockstep import Beside, DraftMember, Lockstep
from turnsmith.types import Sampling

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
PROMPTS = [[5, 6, 7], [9, 3, 4, 5, 6, 7, 8, 9, 10], [11], [40, 41, 42, 40, 41, 42, 40, 41]]
LONGER = [[1, 2, 3, *prompt, 4] for prompt in PROMPTS]  # how another template has these prompts
SHORTER = [prompt[-1:] for prompt in PROMPTS]
DRAWN = Sampling(0.8, 0.9, max_new=12)
GREEDY = Sampling(0.0, max_new=12)


def llama(seed=0, vocabulary=67, **sizes):
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **SIZES | sizes)).eval()


def engine(function, lead, others, *, heads=None, name="base", **options):
    members = {one: LocalEngine(model, stop=()) for one, model in others.items()}
    beside = Beside(members, partial(mixed, function, name), heads or {})
    return LocalEngine(lead, stop=options.pop("stop", [1, 60]), beside=beside, **options)


def in_proxy(*, alpha=1.0, lead=None, expert=None, anti=None, **options):
    others = {"expert": expert or llama(1), "anti": anti or llama(2)}
    return engine(partial(proxy, alpha=alpha), lead or llama(), others, **options)


@torch.no_grad()
def naive(function, models, prompts, sampling, seed, stop=(1, 60)):
    """Ids and log-probs: every model reads all of its own prompt and the reply anew for each token."""
    uniforms = seeds.array(seed, "sample").random(sampling.max_new, dtype=np.float32)
    ids, logprobs = [], []
    while len(ids) < sampling.max_new and (not ids or ids[-1] not in stop):
        logits = {
            name: model(input_ids=torch.tensor([[*prompts[name], *ids]])).logits[:, -1, :67]
            for name, model in models.items()
        }
        drawn = torch.tensor(uniforms[len(ids) : len(ids) + 1])
        id, logprob = choose(function(**logits), drawn, [sampling])
        ids.append(int(id))
        logprobs.append(float(logprob))
    return tuple(ids), logprobs


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_each_model_reads_its_own_prompt_and_the_same_reply(sampling, rows):
    """Temperature and top-p act on what the models say together; rows are refilled when replies end."""
    models = {"base": llama(), "expert": llama(1, num_hidden_layers=1), "anti": llama(2)}
    made = in_proxy(lead=models["base"], expert=models["expert"], anti=models["anti"], rows=rows)
    found = made.generate(
        PROMPTS * 2,
        sampling=sampling,
        seeds=range(8),
        beside={"expert": LONGER * 2, "anti": SHORTER * 2},
    )
    for number, completion in enumerate(found):
        prompts = {
            "base": PROMPTS[number % 4], "expert": LONGER[number % 4], "anti": SHORTER[number % 4]
        }  # fmt: skip
        ids, logprobs = naive(proxy, models, prompts, sampling, number)
        assert completion.ids == ids
        assert completion.logprobs == pytest.approx(logprobs, abs=1e-4)


def test_the_reply_is_the_same_tokens_in_all_caches():
    """Card 35: contexts of several lengths, one suffix."""
    made = in_proxy(kept=10**6, rows=1)
    (found,) = made.generate([PROMPTS[0]], sampling=DRAWN, seeds=[3], beside={"expert": [LONGER[0]]})
    (rows,) = made._known
    assert isinstance(rows, Lockstep)
    for table, prompt in (
        (rows.lead, PROMPTS[0]), (rows.beside["expert"], LONGER[0]), (rows.beside["anti"], PROMPTS[0])
    ):  # fmt: skip
        assert table.tokens[0] == [*prompt, *found.ids][: len(table.tokens[0])]
        assert len(table.tokens[0]) >= len(prompt) + len(found.ids) - 1


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_without_any_of_it_the_lead_speaks_token_by_token_with_the_same_numbers(sampling):
    """Card 35: alpha = 0. Card 27: w = 0."""
    given = {"sampling": sampling, "seeds": range(4)}
    alone = LocalEngine(llama(), stop=[1, 60]).generate(PROMPTS, **given)
    assert in_proxy(alpha=0.0).generate(PROMPTS, **given) == alone
    others = {"tuned": llama(1), "untuned": llama(2)}
    emulated = engine(partial(emulate, weight=0.0), llama(), others).generate(PROMPTS, **given)
    assert [one.ids for one in emulated] == [one.ids for one in alone]


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_an_expert_that_learnt_nothing_changes_nothing(alpha):
    """Card 35: m+ = m- gives M for every alpha."""
    alone = LocalEngine(llama(), stop=[1, 60]).generate(PROMPTS, sampling=DRAWN, seeds=range(4))
    made = in_proxy(alpha=alpha, expert=llama(1), anti=llama(1))
    assert made.generate(PROMPTS, sampling=DRAWN, seeds=range(4)) == alone


def test_on_its_own_start_the_expert_speaks():
    """Card 35: m- = M gives m+. Card 27: M = N gives pi^N."""
    expert = LocalEngine(llama(1), stop=[1, 60]).generate(PROMPTS, sampling=GREEDY, seeds=range(4))
    for made in (
        in_proxy(lead=llama(5), expert=llama(1), anti=llama(5)),
        engine(emulate, llama(5), {"tuned": llama(1), "untuned": llama(5)}),
    ):
        found = made.generate(PROMPTS, sampling=GREEDY, seeds=range(4))
        for one, other in zip(found, expert, strict=True):
            assert one.ids == other.ids
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_tokens_that_the_lead_does_not_know_are_cut_off_and_change_nothing():
    """Card 35: a longer vocabulary of the expert."""
    longer, same = llama(1, vocabulary=80), llama(1)
    weights = {
        name: value[:67] if value.shape[0] == 80 else value for name, value in longer.state_dict().items()
    }
    same.load_state_dict(weights)
    given = {"sampling": DRAWN, "seeds": range(4)}
    found = in_proxy(expert=longer).generate(PROMPTS, **given)
    assert [one.ids for one in found] == [one.ids for one in in_proxy(expert=same).generate(PROMPTS, **given)]


def test_fewer_tokens_than_the_lead_has_are_refused():
    with pytest.raises(ModelError, match=r"anti knows 60 ids and base, which leads, 67"):
        in_proxy(anti=llama(2, vocabulary=60)).generate([[5]], sampling=GREEDY, seeds=[0])


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
@pytest.mark.parametrize("member", ["expert", "anti", None])
def test_guesses_of_a_member_change_no_token(sampling, member):
    """Card 27: the speculative variant; the expert has a template of its own and knows more ids."""
    lead, expert, anti = llama(), llama(1, vocabulary=80), llama(2)
    given = {
        "sampling": sampling, "seeds": range(8), "beside": {"expert": LONGER * 2},
    }  # fmt: skip
    plain = in_proxy(lead=lead, expert=expert, anti=anti, rows=3).generate(PROMPTS * 2, **given)
    model = {"expert": expert, "anti": anti, None: lead}[member]
    drafter = DraftMember(DraftModel(model, most=3), member)
    found = in_proxy(lead=lead, expert=expert, anti=anti, rows=3, drafter=drafter).generate(
        PROMPTS * 2, **given
    )
    assert [one.ids for one in found] == [one.ids for one in plain]


def test_where_the_proposal_is_the_target_every_guess_is_taken():
    """Card 27: with M = N the tuned model's guesses are what is drawn."""
    lead, tuned = llama(5), llama(1)
    passes = []
    lead.register_forward_hook(lambda *_: passes.append(1))
    made = engine(
        emulate,
        lead,
        {"tuned": tuned, "untuned": llama(5)},
        stop=(),
        drafter=DraftMember(DraftModel(tuned, most=3), "tuned"),
    )
    made.generate([PROMPTS[0]], sampling=Sampling(1.0, max_new=13), seeds=[0])
    assert len(passes) == 1 + 3  # the prompt, and then four tokens for each pass


def test_what_is_drawn_has_the_distribution_of_the_product():
    """Card 27: chi-square over a toy vocabulary, with and without guesses."""
    small = {"vocabulary": 7, "hidden_size": 16, "num_attention_heads": 2}
    models = {name: llama(seed, **small) for seed, name in enumerate(("base", "tuned", "untuned"))}
    with torch.no_grad():
        logits = {name: one(input_ids=torch.tensor([[3, 4]])).logits[0, -1] for name, one in models.items()}
    expected = (logits["base"] + logits["tuned"] - logits["untuned"]).softmax(0)
    others = {"tuned": models["tuned"], "untuned": models["untuned"]}
    for drafter in (None, DraftMember(DraftModel(models["tuned"], most=1), "tuned")):
        made = engine(emulate, models["base"], others, stop=(), drafter=drafter)
        count = 2000
        drawn = made.generate([[3, 4]] * count, sampling=Sampling(1.0, max_new=2), seeds=range(count))
        seen = Counter(one.ids[0] for one in drawn)
        chi = sum((seen[id] - count * float(p)) ** 2 / (count * float(p)) for id, p in enumerate(expected))
        assert chi < 22.5  # 6 degrees of freedom: above it in one of a thousand


def test_nothing_is_drawn_that_the_contrast_finds_implausible_and_no_reply_is_too_short():
    """Card 26: outside of the plausible set the probability is exactly 0; a least length holds."""
    tuned, known = llama(3), llama(4)
    made = engine(partial(contrast, cut=0.3), tuned, {"known": known}, name="tuned", stop=range(40, 67))
    found = made.generate([[5, 6]] * 20, sampling=Sampling(1.0, max_new=8, min_new=4), seeds=range(20))
    whole = [one for one in found if one.finish != "stuck"]
    assert whole
    assert all(len(one.ids) >= 4 for one in whole)
    with torch.no_grad():
        for one in found:
            for place, id in enumerate(one.ids):
                ids = torch.tensor([[5, 6, *one.ids[:place]]])
                probabilities = tuned(input_ids=ids).logits[0, -1].softmax(0)
                assert probabilities[id] >= 0.3 * probabilities.max() * (1 - 1e-4)


def test_heads_of_the_lead_are_handed_to_the_function():
    """Of size 1 as (B,), of others as (B, n), at every token of a prompt's end and a reply."""
    lead, expert = llama(), llama(1)
    torch.manual_seed(9)
    heads = {"gate": nn.Linear(32, 1), "pair": nn.Linear(32, 2)}

    def gated(base, expert, gate, pair):
        assert gate.shape == base.shape[:1]
        assert pair.shape == (len(base), 2)
        return base + (gate + pair[:, 1])[:, None].sigmoid() * expert

    found = engine(gated, lead, {"expert": expert}, heads=heads, rows=3).generate(
        PROMPTS, sampling=GREEDY, seeds=range(4)
    )

    def by_hand(base, expert, ids):
        states = lead.model(input_ids=ids).last_hidden_state[:, -1]
        weight = (heads["gate"](states)[:, 0] + heads["pair"](states)[:, 1]).sigmoid()
        return base + weight[:, None] * expert

    for prompt, completion in zip(PROMPTS, found, strict=True):
        ids = list(prompt)
        for id in completion.ids:
            given = torch.tensor([ids])
            with torch.no_grad():
                made = by_hand(lead(given).logits[:, -1], expert(given).logits[:, -1], given)
            assert int(made.argmax()) == id
            ids.append(id)


def test_a_stream_is_what_a_call_gives_and_can_be_cancelled():
    made = in_proxy()
    beside = {"expert": [LONGER[1]]}
    (whole,) = made.generate([PROMPTS[1]], sampling=DRAWN, seeds=[5], beside=beside)
    stream = made.stream(PROMPTS[1], sampling=DRAWN, seed=5, beside=beside)
    assert tuple(stream) == whole.ids
    cancel = Event()
    cancel.set()
    (none,) = made.generate([PROMPTS[1]], sampling=DRAWN, seeds=[5], cancel=cancel)
    assert none.finish == "cancelled"


def test_what_was_read_is_remembered_by_all_models():
    lead, expert, anti = llama(), llama(1), llama(2)
    made = in_proxy(lead=lead, expert=expert, anti=anti)
    plain = in_proxy(lead=lead, expert=expert, anti=anti)
    first, second = [*PROMPTS[3]], [*PROMPTS[3], 7, 8]
    counted = []

    def count(module, args, given):
        counted.append(given["input_ids"].shape[1])

    with made.remembering():
        made.generate([first], sampling=GREEDY, seeds=[0])
        models = (lead, expert, anti)
        hooks = [one.model.register_forward_pre_hook(count, with_kwargs=True) for one in models]
        found = made.generate([second], sampling=Sampling(0.0, max_new=1), seeds=[0])
        for hook in hooks:
            hook.remove()
    assert counted == [2, 2, 2]
    assert found[0].ids == plain.generate([second], sampling=Sampling(0.0, max_new=1), seeds=[0])[0].ids


def test_guesses_from_the_prompt_serve_models_in_step_too():
    lead, expert, anti = llama(), llama(1), llama(2)
    given = {"sampling": GREEDY, "seeds": range(4), "beside": {"expert": LONGER}}
    plain = in_proxy(lead=lead, expert=expert, anti=anti).generate(PROMPTS, **given)
    drafter = PromptLookup()
    found = in_proxy(lead=lead, expert=expert, anti=anti, drafter=drafter).generate(PROMPTS, **given)
    assert [one.ids for one in found] == [one.ids for one in plain]


def test_equal_prompts_of_the_lead_may_be_several_of_another():
    made = in_proxy()
    others = [[1, 2, 5], [8, 5, 5, 5]]
    both = made.generate([[5], [5]], sampling=GREEDY, seeds=[0, 0], beside={"expert": others})
    apart = [made.generate([[5]], sampling=GREEDY, seeds=[0], beside={"expert": [one]})[0] for one in others]
    assert [one.ids for one in both] == [one.ids for one in apart]


def test_the_shortest_context_holds_for_all():
    made = in_proxy(anti=llama(2, max_position_embeddings=16))
    assert made.context == 16
    with pytest.raises(ModelError, match="context ends at 16"):
        made.generate([[5] * 10], sampling=GREEDY, seeds=[0])


def test_prompts_for_nobody_are_refused():
    with pytest.raises(UsageError, match="'other'"):
        in_proxy().generate([[5]], sampling=GREEDY, seeds=[0], beside={"other": [[5]]})
