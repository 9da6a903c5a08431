"""What samplings ask for, and what each kind of engine is said to give."""

from dataclasses import fields

import pytest

from turnsmith.errors import UsageError
from turnsmith.sample import able
from turnsmith.types import Sampling

EACH = {
    "top_k": 5,
    "min_p": 0.1,
    "min_new": 2,
    "repetition_penalty": 1.1,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.1,
    "stop": ("x",),
    "schema": {},
    "grammar": 'start: "a"',
    "prefill": "So",
}


def test_every_field_of_a_sampling_is_plain_or_can_be_asked_for():
    assert {one.name for one in fields(Sampling)} == {*EACH, "temperature", "top_p", "max_new"}


@pytest.mark.parametrize(("name", "value"), EACH.items())
def test_what_is_on_is_asked_for(name, value):
    assert able.asked(Sampling(**{name: value})) == {name}
    assert able.asked({name: list(value) if name == "stop" else value, "other": 1}) == {name}


def test_what_is_off_is_not():
    assert able.asked(Sampling(temperature=0.3, top_p=0.5, max_new=7, min_new=1)) == set()
    assert able.asked({"stop": [], "schema": None, "top_k": 0, "min_p": 0, "temperature": 0.3}) == set()


@pytest.mark.parametrize(
    ("kind", "gives"),
    [
        ("local", set(EACH)),
        ("vllm", set(EACH)),
        ("openai", {"frequency_penalty", "presence_penalty", "stop", "schema"}),
        ("llamacpp", {"top_k", "min_p", "repetition_penalty", "stop", "schema"}),
        ("gguf", set(EACH) - {"schema", "grammar"}),
    ],
)
def test_what_is_lacking_is_refused_and_nothing_else(kind, gives):
    for name, value in EACH.items():
        if name in gives:
            able.refuse(Sampling(**{name: value}), kind, "m")
        else:
            with pytest.raises(
                UsageError, match=f"^m is asked for {name}, which .* does not have: leave it out"
            ):
                able.refuse(Sampling(**{name: value}), kind, "m")


def test_the_ways_out_are_those_that_have_all_of_it():
    with pytest.raises(UsageError) as error:
        able.refuse(Sampling(top_k=5, stop=("x",)), "openai", "m")
    assert str(error.value).endswith(
        "asked for top_k, which OpenAI's protocol does not have: leave it out, or ask what has it: a model "
        "that is loaded here or llama.cpp in this process or vLLM's server (server=vllm) or llama.cpp's "
        "server (server=llamacpp)"
    )


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("http://host/v1#m", "openai"),
        ("https://host/v1#m?server=vllm&parallel=2", "vllm"),
        ("http://host/v1#m?server=llamacpp", "llamacpp"),
        ("llamacpp:models/m.gguf", "gguf"),
        ("models/m.gguf", "local"),
        ("owner/name", "local"),
    ],
)
def test_a_reference_says_what_answers(reference, kind):
    assert able.kind(reference) == kind
