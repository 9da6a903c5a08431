"""Two hundred who ask at once."""

import asyncio
from collections import Counter

import httpx2 as httpx
import pytest
from sqlalchemy import func, select

from turnsmith.serve.batching import Batching
from turnsmith.serve.served import Served
from turnsmith.serve.store.tables import Message

CLIENTS = 200
BODY = {"model": "tiny", "max_tokens": 8, "temperature": 1.0}


@pytest.fixture
def crowd(local, store, running):
    def ask(waiting, rounds=1):
        batching = Batching(local.engine, rows=16, capacity=128, waiting=waiting)
        server = running({"tiny": Served("tiny", local, batching)}, store=store, patience=60)
        return asyncio.run(_asked(f"{server.url}/v1/chat/completions", rounds))

    return ask


async def _asked(url, rounds):
    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=CLIENTS)) as client:

        async def one(number):
            body = {**BODY, "stream": bool(number % 2)}
            body["messages"] = [{"role": "user", "content": f"What is {number}?"}]
            found = []
            for _ in range(rounds):
                answer = await client.post(url, json=body)
                found.append((answer.status_code, answer.headers.get("Retry-After"), answer.text))
            return found

        return [one for found in await asyncio.gather(*map(one, range(CLIENTS))) for one in found]


def test_all_are_answered_where_there_is_room_to_wait(crowd, store):
    answers = crowd(waiting=CLIENTS)
    assert Counter(status for status, _, _ in answers) == {200: CLIENTS}
    assert all("error" not in text for _, _, text in answers)
    whole = select(func.count()).where(Message.role == "assistant", Message.state == "whole")
    assert store.read(lambda s: s.scalar(whole)) == CLIENTS


def test_who_finds_the_queue_full_is_told_when_to_come_back(crowd, store):
    answers = crowd(waiting=20)
    counts = Counter((status, again) for status, again, _ in answers)
    assert set(counts) == {(200, None), (429, "1")}
    assert counts[200, None] >= 36  # as many as draw and wait at once
    whole = select(func.count()).where(Message.role == "assistant", Message.state == "whole")
    assert store.read(lambda s: s.scalar(whole)) == counts[200, None]
