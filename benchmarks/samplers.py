"""The sides of `sample.py`, each in a process of its own: our engine, transformers' generate, llama.cpp.

Prints the seconds of each timed call, what was drawn, and the peaks of memory. All sides decode at most
`rows` prompts at once. What is set of the peers:

* transformers: what the model's own generation settings add (penalties, top-k) is taken away. Attention is
  its default, `sdpa`. `transformers-static` has a cache of fixed size and `disable_compile=True`: on a CPU it
  would not compile either, on CUDA it would. `transformers-masked` has the default cache, and a column of
  padding before all prompts: without a mask torch's attention of grouped queries is slow in bf16 on a CPU. A
  call with more prompts than rows is cut into batches in the order of their lengths, padded from the left.
* llama.cpp: see llama.py.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from prompts import Job, Prompts

from turnsmith.train.record import peak_device_memory_gib, peak_memory_gib

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Side:
    """generate: the replies to some prompts, of so many tokens at most. weights: what they are kept in."""

    generate: Callable[[Prompts, int], Prompts]
    weights: str


def main(job: Job) -> dict[str, Any]:
    """Draw, and say what it took. first: seconds of one token for each prompt of a call."""
    work = job.work()
    side = SIDES[job.side](job, work.stop)
    side.generate(work.calls[0], job.new)
    calls = [timed(side, prompts, job.new) for prompts in work.calls[1:]]
    return {
        "seconds": [seconds for seconds, _ in calls],
        "replies": [made for _, made in calls],
        "first": [timed(side, prompts, 1)[0] for prompts in work.first],
        "weights": side.weights,
        "peak_gib": peak_memory_gib(),
        "device_gib": peak_device_memory_gib(),
    }


def timed(side: Side, prompts: Prompts, new: int) -> tuple[float, Prompts]:
    """The ids of a call are on the host when it returns, so the device has done its work."""
    started = time.perf_counter()
    made = side.generate(prompts, new)
    return time.perf_counter() - started, made


def turnsmith(job: Job, stop: Sequence[int]) -> Side:
    """The engine as stages and evaluations use it."""
    from turnsmith.models import load
    from turnsmith.sample.engine import LocalEngine
    from turnsmith.train.place import device
    from turnsmith.types import Sampling

    model, _ = load.load(job.model, dtype=job.dtype, device=device())
    engine = LocalEngine(model, stop=stop, rows=job.rows, weights=job.weights)

    def generate(prompts: Prompts, new: int) -> Prompts:
        sampling = Sampling(temperature=job.temperature, max_new=new)
        made = engine.generate(prompts, sampling=sampling, seeds=range(len(prompts)))
        return [list(one.ids) for one in made]

    return Side(generate, job.dtype if job.weights == "exact" else job.weights)


def transformers(job: Job, stop: Sequence[int], *, cache: str | None = None, columns: int = 0) -> Side:
    """generate of transformers. columns: of padding before all prompts."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    from turnsmith.train.place import device

    model: Any = AutoModelForCausalLM.from_pretrained(
        job.model, dtype=getattr(torch, job.dtype), attn_implementation="sdpa"
    )
    model.to(device()).eval()
    model.generation_config = GenerationConfig()
    drawing = {"do_sample": True, "temperature": job.temperature, "top_k": 0} if job.temperature else {}
    settings = {**drawing, "eos_token_id": list(stop) or None, "pad_token_id": 0}
    settings |= {"cache_implementation": cache, "disable_compile": True}

    def generate(prompts: Prompts, new: int) -> Prompts:
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        found: dict[int, list[int]] = {}
        for start in range(0, len(order), job.rows):
            batch = order[start : start + job.rows]
            ids, mask = padded([prompts[i] for i in batch], columns)
            made = model.generate(
                ids.to(model.device),
                attention_mask=mask.to(model.device),
                generation_config=GenerationConfig(max_new_tokens=new, **settings),
            )
            drawn = made[:, ids.shape[1] :].tolist()
            found.update((i, ended(one, stop)) for i, one in zip(batch, drawn, strict=True))
        return [found[i] for i in range(len(prompts))]

    return Side(generate, job.dtype)


def padded(prompts: Prompts, columns: int) -> tuple[Tensor, Tensor]:
    """Ids and mask, (B, T) each, padded from the left: the longest by so many columns."""
    import torch

    width = max(map(len, prompts)) + columns
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


def ended(ids: list[int], stop: Sequence[int]) -> list[int]:
    """The ids to the first that ends a reply, itself included.

    >>> ended([5, 6, 2, 0, 0], [2])
    [5, 6, 2]
    """
    return ids[: next((i + 1 for i, token in enumerate(ids) if token in stop), len(ids))]


def llamacpp(job: Job, stop: Sequence[int]) -> Side:
    """llama.cpp, with its own weights."""
    from llama import Llama

    longest = max(len(prompt) for prompts in job.work().calls for prompt in prompts)
    model = Llama(str(job.gguf), rows=job.rows, tokens=longest + job.new, threads=job.threads)
    return Side(partial(model.generate, stop=stop), model.described)


SIDES: dict[str, Callable[[Job, Sequence[int]], Side]] = {
    "turnsmith": turnsmith,
    "transformers": transformers,
    "transformers-static": partial(transformers, cache="static"),
    "transformers-masked": partial(transformers, columns=1),
    "llamacpp": llamacpp,
}


if __name__ == "__main__":
    print("\n" + json.dumps(main(Job.read(sys.argv))))
