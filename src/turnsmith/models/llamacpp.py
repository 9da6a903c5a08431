"""A GGUF file proved in llama.cpp itself, where its Python binding is installed (the extra `llamacpp`)."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from turnsmith.errors import ModelError
from turnsmith.models.parity import Measured, text

if TYPE_CHECKING:
    import numpy as np

# Nats per token: llama.cpp rounds activations and its cache to 16 or 8 bits, where transformers keeps 32.
TOLERANCE = 0.05


def installed() -> bool:
    """Whether llama.cpp can be asked."""
    return find_spec("llama_cpp") is not None


def parameters(file: Path) -> int:
    """How many numbers the weights in the file stand for."""
    from gguf import GGUFReader

    return sum(int(tensor.n_elements) for tensor in GGUFReader(file).tensors)


def prove(file: Path, *, expected: Measured, chat: str | None) -> float:
    """The loss on the probe text in llama.cpp, in nats per token.

    expected: what transformers made of the same file. chat: the probe conversation as the template writes it.
    Raises ModelError where the tokens are others, or the loss differs by more than TOLERANCE.
    """
    from llama_cpp import Llama  # pyright: ignore[reportMissingImports]

    try:
        model = Llama(str(file), n_ctx=512, n_batch=512, logits_all=True, verbose=False)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"llama.cpp cannot load what was written: {error}") from error
    ids = model.tokenize(text().encode(), add_bos=True, special=False)
    if tuple(ids[: len(expected.ids)]) != expected.ids:
        raise ModelError("llama.cpp cuts the probe text into other tokens")
    if (
        chat is not None
        and tuple(model.tokenize(chat.encode(), add_bos=False, special=True)) != expected.chat
    ):
        raise ModelError("llama.cpp cuts the probe conversation into other tokens")
    model.eval(expected.ids)
    loss = _loss(model.scores[: len(expected.ids)], expected.ids)
    assert expected.loss is not None
    if not abs(loss - expected.loss) <= TOLERANCE:
        there, here = f"{loss:.3f}", f"{expected.loss:.3f}"
        raise ModelError(f"the probe text costs {there} nats per token in llama.cpp, {here} in transformers")
    return loss


def _loss(logits: "np.ndarray", ids: tuple[int, ...]) -> float:
    """Nats per token. logits: (T, V)."""
    import numpy as np

    rows = logits[:-1].astype(np.float64)
    top = rows.max(axis=1)
    total = top + np.log(np.exp(rows - top[:, None]).sum(axis=1))
    return float((total - rows[np.arange(len(rows)), list(ids[1:])]).mean())
