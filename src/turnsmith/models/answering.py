"""References to models that answer and have no weights here: endpoints, and files that llama.cpp runs."""

from __future__ import annotations

from pathlib import Path

from turnsmith.errors import UsageError
from turnsmith.models.endpoint import is_endpoint

LLAMACPP = "llamacpp:"


def is_llamacpp(reference: str) -> bool:
    """Whether a reference to a model names a file that llama.cpp runs in this process.

    >>> is_llamacpp("llamacpp:models/small.gguf"), is_llamacpp("models/small.gguf")
    (True, False)
    """
    return reference.startswith(LLAMACPP)


def only_answers(reference: str) -> bool:
    """Whether the model gives replies, and neither weights nor likelihoods."""
    return is_endpoint(reference) or is_llamacpp(reference)


def called(reference: str) -> str:
    """What kind of model it is, in words, and the reference."""
    return f"the endpoint {reference}" if is_endpoint(reference) else f"{reference}, which llama.cpp runs,"


def file_of(reference: str) -> Path:
    """The file that `llamacpp:FILE.gguf` names. Raises UsageError where there is none, or no llama.cpp."""
    from turnsmith.models.llamacpp import installed

    file = Path(reference.removeprefix(LLAMACPP)).expanduser()
    if file.suffix != ".gguf" or not file.is_file():
        raise UsageError(
            f"{reference}: there is no file {str(file)!r} that ends in .gguf: name one, {LLAMACPP}FILE.gguf, "
            "or have one written: turnsmith export MODEL --to gguf"
        )
    if not installed():
        raise UsageError(f"{reference}: llama.cpp is not installed: pip install 'turnsmith[llamacpp]'")
    return file
