"""What can go wrong, said so that the reader knows where and what to do next."""


class TurnsmithError(Exception):
    """Base of all errors that Turnsmith raises on purpose. `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(TurnsmithError):
    """What was asked for cannot be meant: a misspelt key, an unknown component, a missing file."""

    exit_code = 2


class DataError(TurnsmithError):
    """A row or conversation cannot be used. The message names the file and row, or the example's id."""

    exit_code = 2


class RenderError(DataError):
    """A conversation cannot be turned into tokens that are right for this model's chat template."""


class ModelError(TurnsmithError):
    """A model, tokenizer or adapter cannot be loaded, or cannot do what is asked of it."""

    exit_code = 2


class FetchError(TurnsmithError):
    """A package could not be fetched, or what came is not what was promised."""


class StorageError(TurnsmithError):
    """The disk is full, read-only or holds something broken."""


class TrainingError(TurnsmithError):
    """A run cannot go on: the loss is no number, or no example has anything to learn from."""


class SandboxError(TurnsmithError):
    """A program that a model wrote cannot be run apart from everything else here."""
