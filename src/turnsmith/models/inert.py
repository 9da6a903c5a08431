"""Numbers out of files that joblib wrote, without running what they name.

A pickle is a program that calls what it names. Here it may name nothing but arrays and their types; classes
of scikit-learn and SciPy become plain bags of attributes, and anything else is refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from turnsmith.errors import ModelError

PLAIN: Mapping[tuple[str, str], Any] = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "float64"): np.float64,
    ("numpy._core.multiarray", "scalar"): np.float64(0).__reduce__()[0],
}
BAGS = ("sklearn.", "scipy.sparse")  # modules whose classes are taken for bags of attributes
ARRAY = ("joblib.numpy_pickle", "NumpyArrayWrapper")


class Bag:
    """An object of a class that was not loaded: its attributes, and no behaviour."""

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)


def read(path: Path) -> Any:
    """The object in a file that joblib wrote without compression: a `Bag` of attributes.

    Raises ModelError where the file names anything but arrays and classes of scikit-learn and SciPy, has
    arrays of objects, or is no such file.
    """
    with path.open("rb", buffering=0) as file:  # no buffer: arrays are read where the pickle stands
        try:
            return _Reader(file).load()
        except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} cannot be read as a file of joblib's ({error})") from None


class _Reader(pickle.Unpickler):
    def __init__(self, file: BinaryIO | Any) -> None:
        super().__init__(_Whole(file))
        self.file = file

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) in PLAIN:
            return PLAIN[module, name]
        if (module, name) == ARRAY:
            return _behind(self.file)
        if module.startswith(BAGS):
            return type(name, (Bag,), {})
        raise ModelError(f"the file names {module}.{name}, which is no array and is not run")


class _Whole:
    """A file whose reads are whole, and that cannot be looked ahead in."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def read(self, count: int) -> bytes:
        found = b""
        while len(found) < count and (more := self.file.read(count - len(found))):
            found += more
        return found

    def readline(self) -> bytes:
        return self.file.readline()


def _behind(file: Any) -> type[Bag]:
    """The class of arrays that stand in the file behind their description; `array` is their content."""

    class Array(Bag):
        def __setstate__(self, state: Mapping[str, Any]) -> None:
            dtype, shape = state["dtype"], state["shape"]
            if dtype.hasobject:
                raise ModelError("the file has an array of objects, which only running it would make")
            whole = _Whole(file)
            if state.get("numpy_array_alignment_bytes") is not None:
                whole.read(whole.read(1)[0])  # padding, behind a byte that says how much
            flat = np.frombuffer(whole.read(dtype.itemsize * int(np.prod(shape))), dtype)
            self.array = flat.reshape(shape, order=state["order"])

    return Array
