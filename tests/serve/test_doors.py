"""How often each may ask, worked out by hand."""

import openai
import pytest

from turnsmith.serve.doors import COUNTED, Rate
from turnsmith.serve.served import Served


def test_so_many_at_once_and_then_as_they_come_back():
    rate = Rate(60)  # one a second
    assert [rate.take("ann", 100.0) for _ in range(60)] == [0.0] * 60
    assert rate.take("ann", 100.0) == pytest.approx(1.0)
    assert rate.take("ann", 100.25) == pytest.approx(0.75)
    assert rate.take("bob", 100.25) == 0.0  # another has a count of their own
    assert rate.take("ann", 101.0) == 0.0
    assert rate.take("ann", 101.0) == pytest.approx(1.0)
    assert [rate.take("ann", 10_000.0) for _ in range(61)][-2:] == [0.0, pytest.approx(1.0)]


def test_no_rate_is_no_limit():
    rate = Rate(0)
    assert {rate.take("ann", 0.0) for _ in range(1000)} == {0.0}


def test_of_many_who_ask_those_who_have_not_for_longest_are_forgotten():
    rate = Rate(1)
    for number in range(COUNTED + 10):
        rate.take(str(number), 0.0)
    assert len(rate._left) == COUNTED
    assert rate.take("9", 0.0) == 0.0
    assert rate.take(str(COUNTED + 9), 0.0) > 0


def test_who_asks_too_often_is_told_when_to_come_back(local, batching, running):
    server = running({"tiny": Served("tiny", local, batching)}, rate=2)
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    for _ in range(2):
        client.models.list()
    with pytest.raises(openai.RateLimitError, match="more than 2 requests in a minute") as raised:
        client.models.list()
    assert 1 <= int(raised.value.response.headers["Retry-After"]) <= 30


def test_a_page_of_another_site_that_leads_its_name_here_is_refused(local, batching, running):
    import httpx2 as httpx

    server = running({"tiny": Served("tiny", local, batching)})
    assert httpx.get(f"{server.url}/v1/models").status_code == 200
    asked = httpx.get(f"{server.url}/v1/models", headers={"Host": "evil.example"})
    assert asked.status_code == 400


@pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200)])
def test_what_pages_of_other_sites_send_without_being_able_to_read_it_is_refused(
    local, batching, running, site, status
):
    """A browser sends forms and texts to any address; no key that is not asked for would stop them."""
    import httpx2 as httpx

    server = running({"tiny": Served("tiny", local, batching)})
    body = '{"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}'
    headers = {"Sec-Fetch-Site": site, "Content-Type": "text/plain"}
    address = f"{server.url}/v1/chat/completions"
    assert httpx.post(address, content=body, headers=headers, timeout=60).status_code == status
    assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 200  # nothing changes by it


def test_a_network_stays_shut_when_the_last_key_has_ended(local, batching, running):
    import httpx2 as httpx

    server = running({"tiny": Served("tiny", local, batching)}, alone=False)
    assert httpx.get(f"{server.url}/v1/models").status_code == 401
