"""`turnsmith chat`: talk to one model, or to two side by side."""


def command() -> None:
    """Talk to one model, or to two side by side."""
