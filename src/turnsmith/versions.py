"""What the tests were run with. What else pyproject.toml allows is untested, not known to fail."""

TESTED: dict[str, tuple[str, ...]] = {
    "python": ("3.11", "3.12", "3.13"),
    "torch": ("2.13.0",),
    "transformers": ("5.17.0", "5.23.0"),
    "peft": ("0.21.2",),
    "accelerate": ("1.15.0",),
}
