"""The same work for many plans: one after the other, in processes side by side, or over machines by Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from turnsmith import wheels
from turnsmith.errors import UsageError

P = TypeVar("P")
Say = Callable[[str], None]
Work = Callable[[P, Say], dict[str, Any]]


def spread(
    work: Callable[[P, Say], dict[str, Any]], plans: Sequence[P], *, jobs: int, ray: bool, say: Say
) -> list[dict[str, Any]]:
    """What `work` gives for each plan, in their order; the first error ends all.

    jobs: processes side by side, each with its share of the cores. ray: tasks of a Ray cluster, which is
    started here where none is there; its machines must share the directory of TURNSMITH_HOME and the one
    that this is called in. Whoever works elsewhere says nothing.
    """
    if jobs < 1:
        raise UsageError(f"jobs says how many work side by side: 1 at least, not {jobs}")
    if ray:
        return _by_ray(work, plans)
    if jobs == 1 or len(plans) < 2:
        return [work(plan, say) for plan in plans]
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=partial(_share, jobs)
    ) as pool:
        return list(pool.map(work, plans, [_silent] * len(plans)))


def _silent(text: str) -> None:
    """Nobody listens to a process that is one of many."""


def _share(jobs: int) -> None:
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))


def _by_ray(work: Callable[[P, Say], dict[str, Any]], plans: Sequence[P]) -> list[dict[str, Any]]:
    try:
        cluster: Any = import_module("ray")
    except ImportError:
        raise UsageError("Ray is not installed: pip install 'turnsmith[ray]'") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray tells its makers of its use
    if not cluster.is_initialized():
        cluster.init(log_to_driver=False)
    cores = [int(node["Resources"].get("CPU", 0)) for node in cluster.nodes() if node["Alive"]]
    remote = cluster.remote(_at).options(
        num_cpus=max(1, min(max(cores), sum(cores) // max(1, len(plans)))),  # a task's threads, too
        runtime_env={"env_vars": {"TURNSMITH_HOME": str(wheels.home())}},
    )
    here = str(Path.cwd())
    found: list[dict[str, Any]] = cluster.get([remote.remote(here, work, plan) for plan in plans])
    return found


def _at(place: str, work: Callable[[P, Say], dict[str, Any]], plan: P) -> dict[str, Any]:
    """The work, in the directory that relative paths of the plan are meant from."""
    os.chdir(place)
    return work(plan, _silent)
