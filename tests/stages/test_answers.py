"""Several answers to a prompt, judged, and what is chosen among them."""

from collections import Counter

import pytest

from turnsmith.data.render import Renderer
from turnsmith.errors import DataError, UsageError
from turnsmith.sample.chat import LocalChat
from turnsmith.stages.answers import answers, best_and_worst, best_answer, each_answer
from turnsmith.testing import STAGE, chat, conversations, model, tokenizer
from turnsmith.types import Completion, Conversation, Example, Failure, Message, Reply, Usage

WORDS = tokenizer()
RENDERER = Renderer(WORDS)
STOP = RENDERER.stop


class Scripted:
    """An engine that writes given texts in their order; `*` is the token that ends a reply."""

    def __init__(self, *texts):
        self.texts = list(texts)

    def generate(self, prompts, *, sampling, seeds, ends=None):
        found = []
        for _ in prompts:
            text = self.texts.pop(0)
            ids = WORDS(text.rstrip("*"))["input_ids"] + [STOP] * text.endswith("*")
            finish = "stop" if text.endswith("*") else "length"
            for count in range(1, len(ids) + 1):
                if ends is not None and ends(ids[:count]):
                    ids, finish = ids[:count], "stop"
                    break
            ids = ids[: sampling.max_new]
            found.append(Completion(tuple(ids), (-0.5,) * len(ids), finish))
        return found


def asked(*ids):
    return [Example({"text": chat("u: Hi", "a: never seen")}, {"rating": 1.0}, {"id": id}) for id in ids]


def length(conversations, examples):
    return [float(len(one.messages[-1].content)) for one in conversations]


def made(texts, *, n, ids=("a",), reward=length, **options):
    counts = Counter()
    by = LocalChat(Scripted(*texts), RENDERER)
    return list(answers(asked(*ids), by=by, reward=reward, n=n, counts=counts, **options)), counts


def test_each_prompt_has_n_answers_with_their_rewards():
    ones, _ = made(["a*", "bcd*", "ef*", "g*"], n=2, ids=("x", "y"))
    assert [one.id for one in ones] == ["x", "y"]
    assert [[said.messages[-1].content for said in one.parts["replies"]] for one in ones] == [
        ["a", "bcd"],
        ["ef", "g"],
    ]
    assert [one.values["reward"] for one in ones] == [(1.0, 3.0), (2.0, 1.0)]
    assert ones[0].values["rating"] == 1.0
    assert ones[0].parts["replies"][0].messages[0].content == "Hi"
    assert len(ones[0].parts["replies"][0].messages) == 2  # what stood there is not shown


def test_what_was_drawn_stays_as_it_was():
    ((one,), _) = made(["cat*"], n=1)
    said = one.parts["replies"][0].messages[-1]
    assert said.ids == (*WORDS("cat")["input_ids"], STOP)
    assert said.logprobs == (-0.5,) * len(said.ids)


def test_nothing_but_the_answer_learns():
    """Card 11: the prompt is masked."""
    shots = Example({"text": chat("u: Hi", "a: Hello there", "u: And you?")}, {}, {"id": "x"})
    by = LocalChat(Scripted("cat*"), RENDERER)
    (one,) = answers([shots], by=by, reward=length, n=1, counts=Counter())
    (tokens,) = RENDERER.render(one.parts["replies"][0])
    assert tokens.inputs[tokens.weights > 0].tolist() == [*WORDS("cat")["input_ids"], STOP]


def test_an_answer_at_the_limit_is_known_as_cut():
    (one,), counts = made(["never ends", "ok*"], n=2, max_new=5)
    assert one.values["cut"] == (1.0, 0.0)
    assert one.values["tokens"] == (5.0, 1.0 + len(WORDS("ok")["input_ids"]))
    assert counts == {"answers cut at 5 tokens": 1}


def test_an_answer_is_cut_at_a_header_and_nothing_stands_behind_it():
    """Card 11: text after the header is gone before scoring, and so are the tokens after the stop."""
    (one,), _ = made(["yes\n\nHuman: and more of it*"], n=1, stop=("\n\nHuman:",))
    said = one.parts["replies"][0].messages[-1]
    assert said.content == "yes"
    assert WORDS.decode(said.ids) == "yes\n\nHuman:"
    assert one.values["reward"] == (3.0,)
    assert one.values["cut"] == (0.0,)


def test_an_answer_that_begins_with_a_header_is_empty_and_still_has_a_token_to_learn():
    """Card 11: at least one action token."""
    (one,), _ = made(["Human: I go on"], n=1, stop=("Human:",))
    said = one.parts["replies"][0]
    assert said.messages[-1].content == ""
    (tokens,) = RENDERER.render(said)
    learnt = tokens.inputs[tokens.weights > 0]
    assert learnt.tolist() == WORDS("Human:")["input_ids"]


def test_the_end_of_a_turn_is_learnt_where_the_model_drew_it_and_only_there():
    """Card 11: the EOS token itself carries reward; one that the template puts there does not."""
    (one,), _ = made(["cat*", "cat"], n=2)
    ended, cut = (RENDERER.render(said)[0] for said in one.parts["replies"])
    assert ended.inputs.tolist() == cut.inputs.tolist()
    assert ended.weights.sum() == cut.weights.sum() + 1
    last = int(ended.weights.nonzero()[0][-1])
    assert ended.inputs[last] == STOP
    assert cut.weights[last] == 0


def test_what_could_not_be_answered_or_judged_is_left_out_and_counted():
    def by(conversations, *, sampling=None, seed=0):
        return [
            Failure("no words") if at == 1 else Reply(Message("assistant", f"{at}"), "stop", Usage(1, 1))
            for at, _ in enumerate(conversations)
        ]

    def reward(conversations, examples):
        return [None if one.messages[-1].content == "2" else 1.0 for one in conversations]

    counts = Counter()
    ones = list(answers(asked("a", "b", "c"), by=by, reward=reward, n=2, counts=counts))
    left = [[said.messages[-1].content for said in one.parts["replies"]] for one in ones]
    assert left == [["0"], ["3"], ["4", "5"]]
    assert [len(one.values["reward"]) for one in ones] == [1, 1, 2]
    assert counts == {"answers that did not come: no words": 1, "answers that could not be judged": 1}


def judged(**rewards):
    """An example with an answer for each letter."""
    said = tuple(chat("u: Hi", f"a: {letter}") for letter in rewards)
    return Example({"replies": said}, {"reward": tuple(rewards.values()), "rating": 1.0}, {"id": "x"})


def test_each_answer_becomes_an_example():
    ones = list(each_answer([judged(a=0.5, b=2.0)]))
    assert [one.id for one in ones] == ["x/0", "x/1"]
    assert [one.values for one in ones] == [
        {"reward": 0.5, "rating": 1.0},
        {"reward": 2.0, "rating": 1.0},
    ]
    assert ones[1].parts["text"].messages[-1].content == "b"


def test_the_best_answer_is_kept_and_of_equals_the_first():
    (one,) = best_answer([judged(a=0.5, b=2.0, c=2.0)])
    assert one.parts["text"].messages[-1].content == "b"
    assert one.values["reward"] == 2.0


def test_the_best_and_the_worst_make_a_pair_unless_they_are_too_near():
    counts = Counter()
    near = judged(a=1.0, b=1.5)
    (one,) = best_and_worst([judged(a=0.5, b=2.0, c=0.25), near], least=0.5, counts=counts)
    assert one.parts["chosen"].messages[-1].content == "b"
    assert one.parts["rejected"].messages[-1].content == "c"
    assert one.values == {"rating": 1.0, "reward_chosen": 2.0, "reward_rejected": 0.25}
    assert counts == {"prompts whose best and worst answers are no more than 0.5 apart": 1}


def test_equal_rewards_make_no_pair():
    assert not list(best_and_worst([judged(a=1.0, b=1.0)], counts=Counter()))


def test_what_has_no_several_answers_is_refused():
    (plain,) = conversations(1)
    with pytest.raises(DataError, match="no several conversations 'replies'"):
        list(each_answer([plain]))
    several = Example({"replies": (chat("u: Hi", "a: a"),)}, {}, {"id": "x"})
    with pytest.raises(DataError, match="no 'reward' for each of its 'replies'"):
        list(best_answer([several]))
    with pytest.raises(UsageError, match="n is 0"):
        made([], n=0)


@pytest.mark.parametrize("check", STAGE, ids=lambda check: check.__name__)
def test_contract(check):
    from turnsmith.sample.engine import LocalEngine

    by = LocalChat(LocalEngine(model(), stop=RENDERER.stops), RENDERER)
    given = [one for one in conversations(3) if isinstance(one.parts["text"], Conversation)]
    check(lambda data: answers(data, by=by, reward=length, n=2, max_new=3, counts=Counter()), given)
