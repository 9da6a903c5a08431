"""A chat answers each conversation by itself, keeps the sampled ids, and streams the text of its reply."""

import json
import re

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from turnsmith.data.render import Renderer
from turnsmith.errors import DataError, UsageError
from turnsmith.sample.chat import LocalChat
from turnsmith.sample.engine import LocalEngine
from turnsmith.types import Completion, Conversation, Failure, Message, Reply, Sampling, Usage

TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SENTENCES = [
    "Zwei Fragen? Gladly. And two more. Of course!",
    "How are you today? I am fine, thank you, and you?",
    "Grüße aus Köln 🙂 und ein schönes Wochenende 👍🏽",
    "system user assistant",
]
ASKED = Conversation((Message("user", "How are you?"),))
OTHER = Conversation(
    (
        Message("system", "Be kind."),
        Message("user", "Grüße 🙂"),
        Message("assistant", "Fine."),
        Message("user", "And two more."),
    )
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def renderer():
    """Of a byte-level BPE tokenizer of about 300 tokens with a ChatML template."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator(SENTENCES, trainer)
    raw.add_special_tokens([AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    return Renderer(tokenizer)


@pytest.fixture(scope="module")
def engine(renderer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(renderer.tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=160,
        initializer_range=0.1,
    )
    return LocalEngine(LlamaForCausalLM(config).eval(), stop=[renderer.stop])


@pytest.fixture(scope="module")
def chat(engine, renderer):
    return LocalChat(engine, renderer, sampling=Sampling(max_new=24))


class Script:
    """An engine that says the given ids, as a whole or one by one."""

    def __init__(self, ids, stop):
        self.completion = Completion(tuple(ids), (-1.0,) * len(ids), "stop" if ids[-1] == stop else "length")

    def generate(self, prompts, *, sampling, seeds):
        return [self.completion] * len(prompts)

    def stream(self, prompt, *, sampling, seed):
        yield from self.completion.ids
        return self.completion


def drained(stream):
    pieces = []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return pieces, end.value


def test_a_reply_is_what_the_engine_draws_after_the_prompt(chat, renderer):
    (reply,) = chat([ASKED])
    assert isinstance(reply, Reply)
    ids = reply.message.ids
    assert reply.message.role == "assistant"
    assert len(reply.message.logprobs) == len(ids)
    assert reply.usage == Usage(len(renderer.prompt(ASKED)), len(ids))
    assert reply.finish == ("stop" if ids[-1] == renderer.stop else "length")
    assert "<|im_end|>" not in reply.message.content


def test_a_stop_token_is_counted_but_not_said(renderer):
    ids = [*renderer.tokenizer.encode("I am fine."), renderer.stop]
    (reply,) = LocalChat(Script(ids, renderer.stop), renderer)([ASKED])
    assert reply.message == Message("assistant", "I am fine.", ids=tuple(ids), logprobs=(-1.0,) * len(ids))
    assert (reply.finish, reply.usage.completion) == ("stop", len(ids))


def test_a_continued_conversation_keeps_the_sampled_ids(chat, renderer):
    (reply,) = chat([ASKED], seed=3)
    again = ASKED.then(reply.message, Message("user", "Gladly."))
    start = renderer.prompt(ASKED)
    prompt = renderer.prompt(again)
    assert prompt[: len(start)] == start
    assert tuple(prompt[len(start) : len(start) + len(reply.message.ids)]) == reply.message.ids
    # The ids cannot come from the text: these bytes are no characters, and the text has lost them.
    assert tuple(renderer.tokenizer.encode(reply.message.content)) != reply.message.ids
    (next_reply,) = chat([again])
    assert isinstance(next_reply, Reply)


def test_what_cannot_be_answered_fails_alone(chat):
    refused = [
        (ASKED.then(Message("assistant", "Fine.")), "nothing to answer"),
        (ASKED.then(Message("tool", "42")), "no tools here"),
        (Conversation((Message("user", "x" * 400),)), r"\d+ tokens and 24 may follow, .* ends at 160"),
        (Conversation((Message("text", "Once upon"),)), "raw text"),
        (Conversation(()), "no messages"),
        (Conversation((Message("user", "\ufdd0"),)), "U\\+FDD0"),
    ]
    mixed = [ASKED, *[conversation for conversation, _ in refused], OTHER]
    first, *failures, last = chat(mixed)
    assert [first, last] == chat([ASKED, OTHER])
    for (_, words), failure in zip(refused, failures, strict=True):
        assert isinstance(failure, Failure)
        assert re.search(words, failure.reason), failure.reason


def test_nothing_asked_is_nothing_answered(chat):
    assert chat([]) == []
    assert isinstance(chat([Conversation(())])[0], Failure)


def test_a_reply_depends_on_its_conversation_and_the_seed_only(chat):
    (alone,) = chat([OTHER], seed=1)
    many = chat([ASKED, OTHER, ASKED, OTHER], seed=1)
    assert many[1].message.ids == alone.message.ids
    assert many[1].message.ids != many[3].message.ids  # asked twice, answered anew
    assert many[0].message.ids != many[2].message.ids
    assert chat([OTHER], seed=2)[0].message.ids != alone.message.ids


def test_with_a_seed_for_each_a_reply_depends_on_nothing_else(chat):
    empty = Conversation(())
    first, failed, other, again, same = chat.by_seeds(
        [ASKED, empty, OTHER, ASKED, ASKED], seeds=[5, 6, 7, 8, 5]
    )
    assert first.message.ids == same.message.ids == chat.by_seeds([ASKED], seeds=[5])[0].message.ids
    assert again.message.ids != first.message.ids
    assert again.message.ids == chat.by_seeds([ASKED], seeds=[8])[0].message.ids
    assert other.message.ids == chat.by_seeds([OTHER], seeds=[7])[0].message.ids
    assert isinstance(failed, Failure)
    with pytest.raises(ValueError, match="shorter"):
        chat.by_seeds([ASKED, OTHER], seeds=[1])


def test_the_calls_sampling_goes_before_the_chats(chat):
    (short,) = chat([ASKED], sampling=Sampling(0, max_new=2))
    assert len(short.message.ids) <= 2
    assert chat([ASKED], sampling=Sampling(0, max_new=2), seed=5) == [short]


def test_a_system_message_is_put_first_where_there_is_none(engine, renderer):
    chat = LocalChat(engine, renderer, sampling=Sampling(max_new=3), system="Be kind.")
    asked = Conversation((Message("system", "Be kind."), *ASKED.messages))
    assert chat([ASKED])[0].usage.prompt == len(renderer.prompt(asked))
    assert chat([OTHER])[0].usage.prompt == len(renderer.prompt(OTHER))


@pytest.mark.parametrize("seed", range(6))
def test_streamed_text_is_the_text_of_the_reply(chat, seed):
    pieces, reply = drained(chat.stream(OTHER, seed=seed))
    assert "".join(pieces) == reply.message.content
    (whole,) = chat([OTHER], seed=seed)
    assert (reply.message.ids, reply.finish, reply.usage) == (whole.message.ids, whole.finish, whole.usage)


def test_characters_of_several_tokens_are_held_back_until_whole(renderer):
    text = "né 👍🏽 日本 ok"
    ids = [*renderer.tokenizer.encode(text), renderer.stop]
    pieces, reply = drained(LocalChat(Script(ids, renderer.stop), renderer).stream(ASKED))
    assert len(ids) > len(text)  # some characters took several tokens
    assert "".join(pieces) == reply.message.content == text
    assert all("\ufffd" not in piece and piece for piece in pieces)
    assert len(pieces) > 6


def test_bytes_that_never_become_a_character_are_given_at_the_end(renderer):
    ids = renderer.tokenizer.encode("ok 日")[:-1]  # cut off inside of a character
    pieces, reply = drained(LocalChat(Script(ids, renderer.stop), renderer).stream(ASKED))
    assert "".join(pieces) == reply.message.content
    assert reply.message.content.endswith("\ufffd")
    assert reply.finish == "length"


def test_streaming_what_cannot_be_answered_raises_at_once(chat, renderer):
    with pytest.raises(DataError, match="nothing to answer"):
        chat.stream(ASKED.then(Message("assistant", "Fine.")))

    class Silent:
        def generate(self, prompts, *, sampling, seeds):
            raise NotImplementedError

    with pytest.raises(DataError, match="whole replies only"):
        LocalChat(Silent(), renderer).stream(ASKED)


def test_replies_are_plain_values(chat):
    (reply,) = chat([ASKED])
    json.dumps([reply.message.ids, reply.message.logprobs])


# ---------------------------------------------------------------- how replies begin and end, and what is cut


def test_a_reply_goes_on_from_its_prefill(chat, renderer, engine):
    sampling = Sampling(0, max_new=12, prefill="Gladly. ")
    (reply,) = chat([ASKED], sampling=sampling)
    begun = renderer.ids("Gladly. ")
    prompt = [*renderer.prompt(ASKED), *begun]
    (drawn,) = engine.generate([prompt], sampling=Sampling(0, max_new=12), seeds=[0])
    assert reply.message.ids == (*begun, *drawn.ids)
    assert reply.message.logprobs == (*[0.0] * len(begun), *drawn.logprobs)
    assert reply.message.content.startswith("Gladly. ")
    assert reply.usage == Usage(len(prompt), len(drawn.ids))
    pieces, streamed = drained(chat.stream(ASKED, sampling=sampling))
    assert pieces[0] == "Gladly. "
    assert streamed == reply


def test_a_reply_ends_before_a_text_to_stop_at(chat):
    (free,) = chat([ASKED], seed=5)
    text = free.message.content
    stop = text[7:10]
    assert text.index(stop) == 7
    sampling = Sampling(max_new=24, stop=("never said", stop))
    (reply,) = chat([ASKED], sampling=sampling, seed=5)
    assert (reply.message.content, reply.finish) == (text[:7], "stop")
    kept = reply.message.ids
    assert kept == free.message.ids[: len(kept)]  # up to the token that completes the text
    assert stop in chat.renderer.text(kept)
    assert stop not in chat.renderer.text(kept[:-1])
    pieces, streamed = drained(chat.stream(ASKED, sampling=sampling, seed=5))
    assert "".join(pieces) == text[:7]
    assert streamed == reply


def test_the_beginning_of_a_text_to_stop_at_is_said_if_it_goes_on_otherwise(renderer):
    ids = [*renderer.ids("And two more. Of"), renderer.stop]
    talk = LocalChat(Ends(ids, renderer.stop), renderer)
    pieces, reply = drained(talk.stream(ASKED, sampling=Sampling(stop=("Of course", "more?"))))
    assert "".join(pieces) == reply.message.content == "And two more. Of"


class Ends(Script):
    """The same, for whoever says when replies end."""

    def stream(self, prompt, *, sampling, seed, ends):
        return super().stream(prompt, sampling=sampling, seed=seed)


def long_talk(turns, size=8):
    said = [Message("system", "Be kind.")]
    for number in range(turns):
        said += [Message("user", f"{number}" * size), Message("assistant", "Fine.")]
    return Conversation((*said, Message("user", "And now?")))


def test_the_oldest_turns_are_left_out_where_that_was_asked_for(engine, renderer):
    cutting = LocalChat(engine, renderer, sampling=Sampling(0, max_new=24), over="oldest")
    whole = long_talk(6)
    assert len(renderer.prompt(whole)) + 24 > 160
    fitting = next(
        kept
        for left in range(1, 7)
        if len(renderer.prompt(kept := Conversation((whole.messages[0], *whole.messages[1 + 2 * left :]))))
        <= 160 - 24
    )
    assert fitting.messages[0].role == "system"
    assert fitting.messages[1].role == "user"
    assert cutting([whole]) == cutting([fitting])
    (refused,) = LocalChat(engine, renderer)([whole], sampling=Sampling(0, max_new=24))
    assert isinstance(refused, Failure)
    (never,) = cutting([Conversation((Message("user", "x" * 400),))])
    assert "context ends at 160" in never.reason


def test_samples_of_one_prompt_differ_and_belong_to_it(chat):
    from turnsmith.sample.chat import samples

    found = samples(chat, [ASKED, OTHER], 3, seed=1)
    assert [len(replies) for replies in found] == [3, 3]
    assert len({reply.message.ids for reply in found[0]}) == 3
    assert found[1] == chat([OTHER] * 3, seed=1)


def test_turns_of_a_dialogue_go_on_from_what_was_read(chat, monkeypatch):
    from turnsmith.sample.rows import Rows

    news, read = [], Rows.read
    monkeypatch.setattr(
        Rows,
        "read",
        lambda self, rows, ids, **more: news.append(len(ids[0])) or read(self, rows, ids, **more),
    )
    with chat.remembering():
        (first,) = chat([ASKED])
        news.clear()
        (second,) = chat([ASKED.then(first.message, Message("user", "And you?"))])
    before = len(chat.renderer.prompt(ASKED)) + len(first.message.ids)
    assert news[0] <= second.usage.prompt - before + 1
    assert chat([ASKED.then(first.message, Message("user", "And you?"))])[0].message.ids == second.message.ids


# ---------------------------------------------------------------------------------- schemas and grammars

SCHEMA = {
    "type": "object",
    "properties": {"n": {"enum": [1, 2]}, "why": {"type": "string", "maxLength": 8}},
    "required": ["n", "why"],
    "additionalProperties": False,
}


def test_replies_keep_to_a_schema(chat):
    import jsonschema

    sampling = Sampling(1.3, max_new=110, schema=SCHEMA)
    replies = chat([ASKED] * 6, sampling=sampling)
    ended = [reply for reply in replies if reply.finish == "stop"]
    assert len(ended) >= 3  # the others fell into blanks
    for reply in ended:
        jsonschema.validate(json.loads(reply.message.content), SCHEMA)
    assert len({reply.message.content for reply in ended}) > 1
    # Whoever is asked beside them, and each alone, says the same.
    assert chat([ASKED], sampling=sampling)[0].message.ids == replies[0].message.ids
    _, streamed = drained(chat.stream(ASKED, sampling=sampling))
    assert streamed.message.ids == replies[0].message.ids


def test_a_grammar_goes_on_from_the_prefill(chat):
    sampling = Sampling(max_new=8, grammar='start: "Gladly" | "Grand"', prefill="Gr")
    (reply,) = chat([ASKED], sampling=sampling)
    assert (reply.message.content, reply.finish) == ("Grand", "stop")


def test_log_probs_are_those_without_the_grammar(chat, engine):
    (reply,) = chat([ASKED], sampling=Sampling(max_new=8, grammar='start: "Gladly"'))
    ids = reply.message.ids
    prompt = chat.renderer.prompt(ASKED)
    with torch.no_grad():
        logits = engine.model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].log_softmax(1)
    expected = [float(logits[len(prompt) - 1 + place, id]) for place, id in enumerate(ids)]
    assert reply.message.logprobs == pytest.approx(expected, abs=1e-4)


def test_a_grammar_that_cannot_be_met_fails_that_reply_alone(chat):
    # An `a` leads to what no text is; a `b` is a whole reply.
    sampling = Sampling(max_new=8, grammar='start: "a" NEVER | "b"\nNEVER: /x/ & /y/')
    replies = chat([ASKED] * 40, sampling=sampling)
    failed = [reply for reply in replies if isinstance(reply, Failure)]
    said = [reply.message.content for reply in replies if isinstance(reply, Reply)]
    assert set(said) <= {"b"}
    assert len(failed) + len(said) == 40
    assert all("cannot keep to the grammar" in one.reason for one in failed)
    with pytest.raises(UsageError, match="cannot be kept to the grammar"):
        chat([ASKED], sampling=Sampling(grammar="start: ("))
