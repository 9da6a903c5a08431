"""How much memory tensors take while something is computed."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def peak_bytes(model: nn.Module, work: Callable[[], object]) -> int:
    """Bytes of the model's weights and buffers, and the most that tensors took beyond these during `work`.

    What else lies in memory, such as another model, does not count. On a CPU every tensor that is made and
    freed is followed, so `work` takes longer.
    """
    held = {one.untyped_storage().data_ptr(): one for one in (*model.parameters(), *model.buffers())}
    weights = sum(one.untyped_storage().nbytes() for one in held.values())
    devices = {one.device for one in held.values()}
    if devices == {torch.device("cpu")}:
        return weights + _on_cpu(work)
    [device] = devices
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return weights + torch.cuda.max_memory_allocated(device) - before


def _on_cpu(work: Callable[[], object]) -> int:
    from torch.profiler import ProfilerActivity, profile

    gc.collect()  # what is freed meanwhile would be taken off, though it was there before
    following = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with _without_stderr():
        following.start()
    try:
        work()
    finally:
        with _without_stderr():
            following.stop()
    results = following.profiler.kineto_results if following.profiler is not None else None
    assert results is not None
    events: list[Any] = results.events()  # torch's types do not know how many bytes an event is of
    changes = sorted((one for one in events if one.name() == "[memory]"), key=lambda one: one.start_ns())
    taken = most = 0
    for change in changes:
        event: Any = change  # torch's stubs know nothing of it
        taken += int(event.nbytes())
        most = max(most, taken)
    return most


@contextmanager
def _without_stderr() -> Iterator[None]:
    """The profiler writes a line when it starts and stops, past Python."""
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
