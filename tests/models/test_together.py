"""Scores of models together: against log-softmax of whole logits, in several forms of one conversation."""

from functools import partial

import pytest
import torch
from torch import nn

from turnsmith.data.batch import in_step, pack, pad
from turnsmith.data.render import Renderer
from turnsmith.decoders.contrast import contrast
from turnsmith.decoders.proxy import proxy
from turnsmith.errors import DataError, ModelError, RenderError
from turnsmith.models import forest
from turnsmith.models.combination import mixed
from turnsmith.models.networks.llama import CHATML
from turnsmith.models.score import Scoring
from turnsmith.models.together import Together
from turnsmith.testing import chat, conversations, examples, model, tokenizer
from turnsmith.types import Conversation, Message, Rendered

OTHER = CHATML.replace(
    "'<|im_start|>' + message['role'] + '\n'", "'<|im_start|>the ' + message['role'] + ' says\n'"
)
OTHER = OTHER.replace("<|im_start|>assistant\n", "<|im_start|>the assistant says\n")


def packable(whole):
    forest.attach(whole)
    return whole


def together(function=proxy, names=("base", "expert", "anti"), vocabulary=320, heads=None, layers=2):
    models = {name: model(seed=seed, vocabulary=vocabulary, layers=layers) for seed, name in enumerate(names)}
    scorings = {name: Scoring(packable(one)) for name, one in models.items()}
    return Together(scorings, partial(mixed, function, names[0]), heads), models


@torch.no_grad()
def naive(function, models, forms, temperature=1.0):
    """Log-probs of the trained tokens; forms: of each model, the sequences that it reads."""
    lead = next(iter(forms))
    found = []
    for number, tokens in enumerate(forms[lead]):
        rows = {}
        for name, sequences in forms.items():
            ids = torch.tensor(sequences[number].inputs, dtype=torch.long)
            at = torch.tensor(sequences[number].weights).nonzero()[:, 0] - 1
            rows[name] = models[name](input_ids=ids[None]).logits[0, at]
        targets = torch.tensor(tokens.targets, dtype=torch.long)[torch.tensor(tokens.weights) > 0]
        made = (function(**rows) / temperature).log_softmax(1)
        found.append(made.gather(1, targets[:, None])[:, 0])
    return torch.cat(found)


@pytest.mark.parametrize("layout", [pack, pad])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_scores_are_of_the_combined_distribution_in_every_layout(layout, temperature):
    whole, models = together()
    run = examples(4)
    found = whole(layout(run), temperature=temperature)
    sequences = [one.parts["text"][0] for one in run]
    expected = naive(proxy, models, dict.fromkeys(models, sequences), temperature)
    torch.testing.assert_close(found.logprobs, expected, atol=1e-5, rtol=1e-4)


def test_a_slab_is_computed_at_a_time(monkeypatch):
    whole, _ = together()
    batch = pack(examples(4))
    expected = whole(batch).logprobs
    heights = []
    inner = whole.mix

    def mix(lead, others, said):
        heights.append(len(lead))
        return inner(lead, others, said)

    whole.mix = mix
    monkeypatch.setattr("turnsmith.models.head.SLAB", 4 * 3 * 320 * 2)  # bytes of two tokens of three models
    torch.testing.assert_close(whole(batch).logprobs, expected)
    assert max(heights) == 2
    assert sum(heights) == len(batch.targets)


def test_each_model_is_scored_on_its_own_rendering():
    """The trained tokens are the same, where they stand is not."""
    words = tokenizer()
    expert = Renderer(tokenizer(OTHER))
    renderer = Renderer(words, beside={"expert": expert, "anti": Renderer(words)})
    assert list(renderer.beside) == ["expert"]  # what renders alike reads the lead's own
    told = [one.parts["text"] for one in conversations(3)]
    run = [Rendered(str(at), {"text": tuple(renderer.render(one))}) for at, one in enumerate(told)]
    whole, models = together(vocabulary=len(words))
    batch = in_step(pack, ["expert"])(run)
    own = [one.parts["text"][0] for one in run]
    theirs = [expert.render(one)[0] for one in told]
    assert len(own[0]) != len(theirs[0])
    expected = naive(proxy, models, {"base": own, "expert": theirs, "anti": own})
    torch.testing.assert_close(whole(batch).logprobs, expected, atol=1e-5, rtol=1e-4)


def test_what_is_cut_is_cut_in_every_form():
    renderer = Renderer(tokenizer(), beside={"expert": Renderer(tokenizer(OTHER))})
    (tokens,) = renderer.render(chat("u: Hello", "a: Hi.", "u: And you?", "a: I am fine, thank you."))
    ends = tokens.weights.nonzero()[0]
    first = int(ends[(tokens.turns[ends] == 1).nonzero()[0][-1]]) + 1  # after the first reply
    cut = tokens.cut(first)
    other = cut.beside["expert"]
    assert (cut.weights > 0).sum() == (other.weights > 0).sum() == (tokens.turns[ends] == 1).sum()
    assert other.inputs[-1] == cut.inputs[-1]
    assert len(other) > len(cut)


def test_plain_text_is_the_same_for_all():
    renderer = Renderer(tokenizer(), beside={"expert": Renderer(tokenizer(OTHER))})
    (tokens,) = renderer.render(Conversation((Message("text", "The cat sat."),)))
    assert tokens.beside["expert"].inputs.tolist() == tokens.inputs.tolist()


def test_another_number_of_trained_tokens_is_an_error():
    """A template that trims replies has fewer of them to score."""
    trimmed = OTHER.replace("+ message['content'] +", "+ message['content'] | trim +")
    renderer = Renderer(tokenizer(), beside={"expert": Renderer(tokenizer(trimmed))})
    told = Conversation((Message("user", "Hello"), Message("assistant", "Hi there  ")))
    with pytest.raises(RenderError, match=r"'mine'.*trained tokens.*'expert'"):
        renderer.render(told, name="mine")


def test_an_example_that_was_rendered_for_others_is_refused():
    with pytest.raises(DataError, match="'made-0' is not there in the form that 'expert' reads"):
        in_step(pack, ["expert"])(examples(1))


def test_a_sampled_reply_ends_in_the_way_of_each_template():
    """What the lead sampled keeps its ids; another model sees the end that its own template writes."""
    ends = OTHER.replace("<|im_end|>", "<|endoftext|>")
    renderer = Renderer(tokenizer(), beside={"expert": Renderer(tokenizer(ends))})
    words = tokenizer().get_vocab()
    ids = (40, 41, words["<|im_end|>"])
    said = Message("assistant", tokenizer().decode(ids[:2]), ids=ids)
    told = Conversation((Message("user", "Hello"), said))
    (tokens,) = renderer.render(told)
    trained = [one.targets[one.weights > 0].tolist() for one in (tokens, tokens.beside["expert"])]
    assert trained == [list(ids), [40, 41, words["<|endoftext|>"]]]
    prompt = renderer.prompts(told.then(Message("user", "Go on")))["expert"]
    assert words["<|im_end|>"] not in prompt


def test_a_member_with_more_ids_is_scored_by_those_of_the_lead():
    whole, _ = together()
    wide = model(seed=1, vocabulary=400)
    wider = Together({**whole.scorings, "expert": Scoring(packable(wide))}, partial(mixed, proxy, "base"))
    narrow = model(seed=1)
    narrow.load_state_dict(
        {name: value[:320] if len(value) == 400 else value for name, value in wide.state_dict().items()}
    )
    same = Together({**whole.scorings, "expert": Scoring(packable(narrow))}, partial(mixed, proxy, "base"))
    batch = pack(examples(2))
    torch.testing.assert_close(wider(batch).logprobs, same(batch).logprobs)


def test_reductions_are_over_the_combined_logits_and_against_other_models():
    whole, _ = together()
    batch = pack(examples(2))
    start = Scoring(packable(model(seed=0)))
    zero = Together(whole.scorings, partial(mixed, partial(proxy, alpha=0.0), "base"))
    found = zero(batch, needs=("kl:start", "entropy"), others={"start": start})
    alone = start(batch, needs=("entropy",))
    assert found.reduced["kl:start"].abs().max() < 1e-6  # it is the start itself
    torch.testing.assert_close(found.reduced["entropy"], alone.reduced["entropy"])
    against = start(batch, needs=("kl:both",), others={"both": whole})
    assert (against.reduced["kl:both"] > 0).all()


def test_heads_of_the_lead_are_handed_over():
    torch.manual_seed(3)
    gate = nn.Linear(32, 1)

    def gated(base, expert, gate):
        return base + gate[:, None] * expert

    whole, models = together(gated, ("base", "expert"), heads={"gate": gate})
    run = examples(2)
    found = whole(pack(run)).logprobs
    sequences = [one.parts["text"][0] for one in run]
    expected = []
    with torch.no_grad():
        for tokens in sequences:
            ids = torch.tensor(tokens.inputs, dtype=torch.long)
            at = torch.tensor(tokens.weights).nonzero()[:, 0] - 1
            states = models["base"].model(input_ids=ids[None]).last_hidden_state[0, at]
            base, expert = (models[name](input_ids=ids[None]).logits[0, at] for name in ("base", "expert"))
            made = (base + gate(states) * expert).log_softmax(1)
            expected.append(made.gather(1, ids[at + 1][:, None])[:, 0])
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-5, rtol=1e-4)


def test_a_context_that_a_member_does_not_have_is_an_error():
    whole, models = together()
    models["anti"].config.max_position_embeddings = 16
    with pytest.raises(ModelError, match=r"anti reads .* context ends at 16"):
        whole(pack(examples(1)))


def test_what_the_contrast_finds_implausible_cannot_be_scored():
    whole, _ = together(partial(contrast, cut=1.0), ("tuned", "known"))
    with pytest.raises(ModelError, match="one of made-0, made-1, made-2 no probability at all"):
        whole(pack(examples(3)))


def test_there_is_no_projection_of_all():
    whole, _ = together()
    with pytest.raises(ModelError, match="no output projection"):
        _ = whole.projection
