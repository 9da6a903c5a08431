"""A small model on the disk, and a home in which its arithmetic is known."""

import pytest

from turnsmith.testing import directory


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return directory(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path))
    (tmp_path / "arithmetic.json").write_text('{"dtype": "float32", "seconds": {}}')
