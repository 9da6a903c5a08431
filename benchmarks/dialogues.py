"""Dialogues per minute of a model that talks to itself, beside a plain loop over transformers' generate.

    python benchmarks/dialogues.py                                 64 openings, five turns of 32 tokens
    python benchmarks/dialogues.py --model tiny --count 8 --new 8  random weights: does it run at all

The openings are the first user turns of the chats that come with Turnsmith; the model answers, answers itself
as the user, and so on. Ours is `converse` with two speakers of one LocalChat. The other side keeps texts,
exchanges the roles, and gives all dialogues to `generate` in one batch padded on the left; it reads the whole
history anew at every turn. Both draw as many tokens for every reply: tokens that end a turn, or are no whole
characters, are kept from being drawn, on both sides in the same way. Sides alternate, each run in a process
of its own. Where they did not do the same work, the benchmark ends with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from step import measured
from workload import SHAPES, located

OURS, PEER = "turnsmith", "transformers"
TOLERANCE = 0.05  # of the tokens read: a text that is read again may have other tokens than were drawn
WARM = 2  # dialogues of one turn before the clock runs


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what was asked."""
    asked = parsed(arguments)
    asked.folder.mkdir(parents=True, exist_ok=True)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"load {load} at the start, {asked.threads} threads, {asked.rounds} rounds")
    job = {key: getattr(asked, key) for key in ("model", "count", "turns", "new", "dtype", "seed")}
    job |= {"folder": str(asked.folder)}
    print(f"{asked.model} {asked.dtype}: {asked.count} dialogues, {asked.turns} turns of {asked.new} tokens")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        job["file"] = str(Path(place) / "openings.json")
        job |= run("openings", job, asked.threads)
        for number in range(asked.rounds):
            sides = (OURS, PEER) if number % 2 == 0 else (PEER, OURS)
            runs = {side: run(side, job, asked.threads) for side in sides}
            agree(job, runs)
            rows.append(runs)
    for side in (OURS, PEER):
        print(line(side, [runs[side] for runs in rows], asked.count))
    print(ratio_line(rows))
    if asked.json:
        asked.json.write_text(json.dumps({"load": load, "job": job, "rounds": rows}, indent=1) + "\n")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="smollm2-135m-instruct", help=f"a model, or random weights: {', '.join(SHAPES)}")
    add("--count", type=int, default=64, help="openings")
    add("--turns", type=int, default=5, help="replies in a dialogue")
    add("--new", type=int, default=32, help="tokens of a reply")
    add("--dtype", choices=["bfloat16", "float32"], default="float32")
    add("--rounds", type=int, default=3)
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--json", type=Path, help="file for all that was measured")
    add("--folder", type=Path, default=Path(tempfile.gettempdir()) / "turnsmith-benchmark")
    return parser.parse_args(arguments)


def run(what: str, job: dict[str, Any], threads: int) -> dict[str, Any]:
    """What this script says of itself, in a fresh process."""
    return measured("dialogues", json.dumps({**job, "what": what}), threads)


def agree(job: dict[str, Any], runs: dict[str, dict[str, Any]]) -> None:
    """End the benchmark where the two did not do the same."""
    ours, theirs, wanted = runs[OURS], runs[PEER], job["count"] * job["turns"] * job["new"]
    if not ours["written"] == theirs["written"] == wanted:
        raise SystemExit(
            f"tokens written are {ours['written']} ({OURS}) and {theirs['written']} ({PEER}), not {wanted}"
        )
    if abs(ours["read"] - theirs["read"]) > TOLERANCE * theirs["read"]:
        raise SystemExit(
            f"tokens read differ by more than {TOLERANCE:.0%}: {ours['read']} ({OURS}) and {theirs['read']} "
            f"({PEER})"
        )


def line(side: str, runs: Sequence[dict[str, Any]], count: int) -> str:
    """Medians over the processes of one side."""
    seconds = statistics.median(one["seconds"] for one in runs)
    memory = statistics.median(peak(one) for one in runs)
    return (
        f"  {side:<12} {60 * count / seconds:10,.1f} dialogues/min {seconds:8.2f} s {runs[0]['read']:10,} "
        f"tokens read  peak {memory:.2f} GiB"
    )


def ratio_line(rows: Sequence[dict[str, dict[str, Any]]]) -> str:
    """How many times as fast we are, the median of the pairs and the least and most."""
    ratios = sorted(runs[PEER]["seconds"] / runs[OURS]["seconds"] for runs in rows)
    memory = statistics.median(peak(runs[OURS]) / peak(runs[PEER]) for runs in rows)
    spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f}, {len(ratios)} pairs)"
    return f"  {OURS} is {statistics.median(ratios):.2f} times as fast {spread}, memory {memory:.2f}"


def peak(one: dict[str, Any]) -> float:
    """GiB at most: of the device, where there is one."""
    return one["peak_gib"] if one["device_gib"] is None else one["device_gib"]


# ---------------------------------------------------------------------------- in processes of their own


def openings(job: dict[str, Any]) -> dict[str, str]:
    """Write first user turns that differ, in an order drawn from the seed; gives the model's directory."""
    from collections import Counter
    from random import Random

    from turnsmith import wheels
    from turnsmith.data import formats
    from turnsmith.registry import Registry
    from turnsmith.types import Conversation

    model = str(located(job["model"], Path(job["folder"])))
    if job["model"] in SHAPES:
        texts = [f"Tell me a story about {number} small boats." for number in range(job["count"])]
    else:
        _, examples = formats.stream(wheels.obtain("chitchat"), "auto", Registry(), Counter())
        chats = [one.parts["text"] for one in examples]
        firsts = [m for one in chats if isinstance(one, Conversation) for m in one.messages[:1]]
        texts = list(dict.fromkeys(first.content for first in firsts if first.role == "user"))
        Random(job["seed"]).shuffle(texts)
    if len(texts) < job["count"]:
        raise SystemExit(f"there are {len(texts)} openings, {job['count']} were asked for")
    Path(job["file"]).write_text(json.dumps(texts[: job["count"]]))
    return {"directory": model}


def ours(job: dict[str, Any]) -> Callable[[Sequence[str], int], tuple[int, int]]:
    """What holds dialogues from openings, as many turns, and gives the tokens read and written."""
    from turnsmith.data.render import Renderer
    from turnsmith.models import load
    from turnsmith.rollout.converse import Speaker, converse, endings
    from turnsmith.sample.chat import LocalChat
    from turnsmith.sample.engine import LocalEngine
    from turnsmith.train.place import device
    from turnsmith.types import Sampling

    model, words = load.load(job["directory"], dtype=job["dtype"], device=device())
    spare(model, words)
    renderer = Renderer(words)
    chat = LocalChat(LocalEngine(model, stop=renderer.stops), renderer, sampling=Sampling(max_new=job["new"]))
    speakers = {"user": Speaker(chat), "model": Speaker(chat)}

    def hold(texts: Sequence[str], turns: int) -> tuple[int, int]:
        dialogues = converse(speakers, texts, turns=turns, seed=job["seed"])
        if (ended := endings(dialogues)) != {"turns": len(texts)}:
            raise SystemExit(f"dialogues ended early: {dict(ended)}")
        return sum(one.usage.prompt for one in dialogues), sum(one.usage.completion for one in dialogues)

    return hold


def theirs(job: dict[str, Any]) -> Callable[[Sequence[str], int], tuple[int, int]]:
    """The same as a plain loop."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    words: Any = AutoTokenizer.from_pretrained(job["directory"], padding_side="left")
    words.pad_token = words.pad_token or words.eos_token
    model: Any = AutoModelForCausalLM.from_pretrained(job["directory"], dtype=getattr(torch, job["dtype"]))
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    spare(model, words)
    torch.manual_seed(job["seed"])
    plain = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "pad_token_id": words.pad_token_id}

    def hold(texts: Sequence[str], turns: int) -> tuple[int, int]:
        said, read, written = [[text] for text in texts], 0, 0
        for turn in range(turns):
            roles = ("user", "assistant") if turn % 2 == 0 else ("assistant", "user")
            chats = [[{"role": roles[n % 2], "content": text} for n, text in enumerate(one)] for one in said]
            given = words.apply_chat_template(
                chats, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
            ).to(model.device)
            made = model.generate(**given, do_sample=True, max_new_tokens=job["new"], **plain)
            made = made[:, given["input_ids"].shape[1] :]
            for one, text in zip(said, words.batch_decode(made), strict=True):
                one.append(text)
            read, written = read + int(given["attention_mask"].sum()), written + made.numel()
        return read, written

    return hold


def spare(model: Any, words: Any) -> None:
    """Keep the model from drawing control tokens and pieces of characters, by a bias of its head: no reply
    ends before its length, and a text has about as many tokens when it is read again."""
    import torch

    from turnsmith.data.encode import special_tokens

    size: int = model.get_input_embeddings().weight.shape[0]
    texts = words.batch_decode([[id] for id in range(size)], clean_up_tokenization_spaces=False)
    barred = {id for id, text in enumerate(texts) if not text or "\ufffd" in text}
    barred |= set(special_tokens(words).values())
    old = model.get_output_embeddings()
    head = torch.nn.Linear(*old.weight.shape[::-1], device=old.weight.device, dtype=old.weight.dtype)
    head.weight = old.weight
    with torch.no_grad():
        head.bias.zero_()
        head.bias[sorted(barred)] = -1e4
    model.set_output_embeddings(head)


def side(job: dict[str, Any]) -> dict[str, Any]:
    """Hold the dialogues, and say what it took."""
    from turnsmith.train.record import peak_device_memory_gib, peak_memory_gib

    texts: list[str] = json.loads(Path(job["file"]).read_text())
    hold = {OURS: ours, PEER: theirs}[job["what"]](job)
    hold(texts[:WARM], 1)
    started = time.perf_counter()
    read, written = hold(texts, job["turns"])
    return {
        "seconds": time.perf_counter() - started,
        "read": read,
        "written": written,
        "peak_gib": peak_memory_gib(),
        "device_gib": peak_device_memory_gib(),
    }


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("{"):
        given: dict[str, Any] = json.loads(sys.argv[1])
        print("\n" + json.dumps(openings(given) if given["what"] == "openings" else side(given)))
    else:
        main()
