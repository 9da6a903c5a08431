"""What every test finds: one thread, no hub, a cache of its own, and the shared directory if there is one."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
if "PYTEST_XDIST_WORKER" in os.environ:  # read by torch when it is imported: two workers, two cores
    os.environ["OMP_NUM_THREADS"] = "1"

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"
ABSENT = f"needs {SHARED}, which is not there"
HOME = "TURNSMITH_HOME"

user_home = pytest.StashKey[str | None]()
session_home = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Puts Turnsmith's cache into a directory that goes with the session."""
    if config.getoption("numprocesses", None) and "PYTEST_XDIST_WORKER" not in os.environ:
        return  # the workers, which run the tests, would take our directory for the user's
    config.stash[user_home] = os.environ.get(HOME)
    config.stash[session_home] = tempfile.TemporaryDirectory(prefix="turnsmith-home-")
    os.environ[HOME] = config.stash[session_home].name


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leaves the environment and the disk as they were."""
    if session_home in config.stash:
        config.stash[session_home].cleanup()
        set_home(config.stash[user_home])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs a device or directory that is absent. Torch is asked only if a test needs a GPU."""
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu:
        import torch

        if not torch.cuda.is_available():
            for item in on_gpu:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    if not SHARED.is_dir():
        for item in items:
            if item.get_closest_marker("shared"):
                item.add_marker(pytest.mark.skip(reason=ABSENT))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Lets slow tests, and the fixtures made for them, use the user's cache: they need real models."""
    if not item.get_closest_marker("slow"):
        return (yield)
    ours = os.environ[HOME]
    set_home(item.config.stash[user_home])
    try:
        return (yield)
    finally:
        set_home(ours)


def set_home(home: str | None) -> None:
    """Turnsmith's cache from now on; None is its default place."""
    if home is None:
        os.environ.pop(HOME, None)
    else:
        os.environ[HOME] = home


@pytest.fixture(scope="session")
def shared() -> Path:
    """The directory ../shared beside the repository; who asks for it is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(ABSENT)
    return SHARED


@pytest.fixture(scope="session")
def own_cache(pytestconfig: pytest.Config) -> Path:
    """The user's own cache, for tests that are not slow and yet need a real model."""
    from turnsmith import wheels

    ours = os.environ[HOME]
    set_home(pytestconfig.stash[user_home])
    try:
        return wheels.home()
    finally:
        set_home(ours)
