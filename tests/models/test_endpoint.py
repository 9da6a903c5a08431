"""How a model behind a server is named, and what is said of a name that cannot be meant."""

import pytest

from turnsmith.errors import ModelError, UsageError
from turnsmith.models.endpoint import endpoint
from turnsmith.models.locate import locate


def test_options_follow_the_model_which_may_hold_slashes_and_colons():
    one = endpoint("https://host.example/v1/#owner/model:7b?parallel=3&seconds=2.5&price=0.5,2&version=may")
    assert (one.url, one.model) == ("https://host.example/v1", "owner/model:7b")
    assert (one.parallel, one.seconds, one.price, one.version) == (3, 2.5, (0.5, 2.0), "may")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("http://host/v1", "an endpoint is named http://HOST:PORT/v1#MODEL"),
        ("http:///v1#m", "an endpoint is named"),
        ("http://host/v1#m?paralel=2", "has no option 'paralel'; did you mean 'parallel'"),
        ("http://host/v1#m?parallel=two", "option parallel: 'two' cannot be read as int"),
        ("http://host/v1#m?parallel=0", "parallel must be above 0, is 0"),
        ("http://host/v1#m?wait=-1", "wait must not be negative"),
        ("http://host/v1#m?limit=max", "limit is one of max_tokens, max_completion_tokens, not 'max'"),
        ("http://host/v1#m?server=sglang", "server is one of openai, vllm, llamacpp, not 'sglang'"),
        ("http://host/v1#m?ids=true", "only vLLM's server gives token ids with log-probs: add server=vllm"),
        ("http://host/v1#m?server=vllm&ids=yes", "option ids: 'yes' cannot be read as true_or_false"),
        ("http://me:secret@host/v1#m", "would be written into reports"),
    ],
)
def test_a_name_that_cannot_be_meant_says_why(reference, words):
    with pytest.raises(UsageError) as error:
        endpoint(reference)
    assert words in str(error.value)


def test_a_password_in_the_url_is_not_repeated():
    with pytest.raises(UsageError) as error:
        endpoint("http://me:hunter2@host/v1#m")
    assert "hunter2" not in str(error.value)


def test_how_it_is_asked_is_no_part_of_what_it_is():
    one = endpoint("http://host/v1#m").fingerprint
    assert endpoint("http://host/v1#m?key=A&parallel=2&price=1,2").fingerprint == one
    assert endpoint("http://host/v1#m?server=openai").fingerprint == one
    beyond = ("http://host/v1#m?server=vllm", "http://host/v1#m?server=vllm&ids=true")  # asked for more
    others = ("http://host/v2#m", "http://host/v1#n", "http://host/v1#m?version=2", *beyond)
    assert len({one, *(endpoint(other).fingerprint for other in others)}) == 6


def test_a_key_is_taken_from_the_variable_that_is_named(monkeypatch):
    named = endpoint("http://host/v1#m?key=MY_KEY")
    monkeypatch.setenv("MY_KEY", " abc\n")
    assert named.secret() == "abc"
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(UsageError, match="MY_KEY, and this environment variable is not set"):
        named.secret()
    assert endpoint("http://host/v1#m").secret() is None


def test_its_weights_cannot_be_had():
    with pytest.raises(ModelError, match=r"is an endpoint: it can be asked .* need a directory"):
        locate("http://host/v1#m")
