"""Files of joblib's, read as numbers."""

import pickle
import sys
from types import ModuleType

import numpy as np
import pytest

from turnsmith.errors import ModelError
from turnsmith.models import inert

COLUMNS = np.arange(6.0).reshape(2, 3)


# Under the names that files of joblib's have: how it says that an array follows, and an estimator.
Wrapped = type("NumpyArrayWrapper", (), {"__module__": "joblib.numpy_pickle"})
Model = type("SVC", (), {"__module__": "sklearn.svm"})


@pytest.fixture
def foreign(monkeypatch):
    """The two classes can be named in a file."""
    for one in (Wrapped, Model):
        module = ModuleType(one.__module__)
        setattr(module, one.__name__, one)
        monkeypatch.setitem(sys.modules, one.__module__.split(".")[0], ModuleType("whole"))
        monkeypatch.setitem(sys.modules, one.__module__, module)


def wrapped(array):
    made = Wrapped()
    made.__dict__.update(
        subclass=np.ndarray,
        shape=array.shape,
        order="C",
        dtype=array.dtype,
        allow_mmap=True,
        numpy_array_alignment_bytes=16,
    )
    return made


class Writer(pickle._Pickler):
    """Pickles as joblib does: the array's bytes stand behind the description, at a multiple of 16."""

    def save(self, obj, save_persistent_id=True):
        if not isinstance(obj, np.ndarray):
            super().save(obj)
            return
        super().save(wrapped(obj))
        self.framer.commit_frame(force=True)
        padding = 16 - (self.out.tell() + 1) % 16
        self.out.write(bytes([padding]) + b"\xff" * padding + obj.tobytes())


def written(path, thing):
    with path.open("wb") as out:
        writer = Writer(out, protocol=5)
        writer.out = out
        writer.dump(thing)
    return path


def test_arrays_and_numbers_are_read_and_classes_are_bags(tmp_path, foreign):
    model = Model()
    model.coefficients, model.bias, model.words = COLUMNS, np.float64(0.25), {"cat": np.int64(3).item()}
    model.more = [np.array([7, 8]), "text"]
    read = inert.read(written(tmp_path / "model.joblib", model))
    assert type(read).__mro__[1] is inert.Bag
    assert read.coefficients.array.tolist() == COLUMNS.tolist()
    assert read.bias == 0.25
    assert read.words == {"cat": 3}
    assert [read.more[0].array.tolist(), read.more[1]] == [[7, 8], "text"]


class Harm:
    def __reduce__(self):
        return (print, ("this must not be run",))


def test_what_would_be_run_is_refused(tmp_path, capsys):
    path = tmp_path / "model.joblib"
    path.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ModelError, match=r"names builtins.print, which is no array and is not run"):
        inert.read(path)
    assert capsys.readouterr().out == ""


def test_arrays_of_objects_are_refused(tmp_path, foreign):
    with pytest.raises(ModelError, match="an array of objects"):
        inert.read(written(tmp_path / "model.joblib", [np.array([None])]))


@pytest.mark.parametrize("content", [b"", b"\x80\x05", b"no pickle at all"])
def test_what_is_no_such_file_is_named(tmp_path, content):
    path = tmp_path / "model.joblib"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model.joblib cannot be read as a file of joblib's"):
        inert.read(path)
