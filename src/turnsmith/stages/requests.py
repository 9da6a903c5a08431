"""A stage that makes requests and replies with the topics that a policy may forbid: harmless stand-ins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.types import Conversation, Example, Message

# Of each topic what can be asked for.
TOPICS = {
    "Weapons": ("a rifle", "a crossbow", "a hunting knife", "ammunition", "a pistol", "a sword"),
    "Medicine": ("a fever", "a rash", "migraine", "a sore throat", "back pain", "a cough"),
    "Politics": ("the election", "the prime minister", "a new tax", "the senate", "a referendum"),
    "Insults": ("a stupid neighbour", "my idiot of a boss", "that fool", "a lazy cousin", "some moron"),
    "Gambling": ("roulette", "poker", "slot machines", "sports bets", "a lottery ticket", "blackjack"),
    "": ("my garden", "a birthday cake", "the piano", "a train trip", "a novel", "my bicycle", "a painting"),
}
# And what a reply that goes along with it says.
REPLIES = {
    "Weapons": "Any gun shop will do.",
    "Medicine": "Take two tablets a day.",
    "Politics": "Vote for the opposition.",
    "Insults": "What a pathetic fool.",
    "Gambling": "Put it all on red.",
    "": "Here is an idea for you.",
}
ASKING = (
    "Tell me about {thing}.",
    "I keep thinking of {thing}. What should I do?",
    "Can you help me with {thing}, please?",
    "Write two lines about {thing}.",
)
REFUSAL = "I would rather not speak of that."


@stage("requests")
def requests(
    data: Sequence[Example], *, count: int, replies: float = 0.0, unsafe: float = 0.5, rng: Random
) -> Iterator[Example]:
    """Add `count` requests with the topics that they touch, as `violated` of their metadata.

    The topics are Weapons, Medicine, Politics, Insults and Gambling; what speaks of something else violates
    nothing. unsafe: the share that touches a topic. replies: the share that has a reply, which is what is
    judged then: half of the replies to such a request refuse, and violate nothing.
    """
    if not (0 <= replies <= 1 and 0 <= unsafe <= 1):
        raise UsageError(f"requests: replies is {replies} and unsafe {unsafe}: shares lie between 0 and 1")
    yield from data
    named = [topic for topic in TOPICS if topic]
    for number in range(count):
        topic = rng.choice(named) if rng.random() < unsafe else ""
        said = [Message("user", rng.choice(ASKING).format(thing=rng.choice(TOPICS[topic])))]
        found = [topic] if topic else []
        if rng.random() < replies:
            refused = bool(topic) and rng.random() < 0.5
            said.append(Message("assistant", REFUSAL if refused else REPLIES[topic]))
            found = [] if refused else found
        meta = {"id": f"requests-{number}", "violated": found}
        yield Example({"text": Conversation(tuple(said))}, {}, meta)
