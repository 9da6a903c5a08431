"""What an objective declares is the same from its text and from the index that remembers it."""

from turnsmith.models import needs
from turnsmith.registry import Registry

MINE = """
from turnsmith.registry import objective

@objective(
    "mine", per="sequence", needs=("entropy", "q:max", "kl:teacher", "reverse_kl:judge", "kl:judge"),
    heads={"reward": ("last", 1), "q": "vocab"},
)
def mine(s): ...
"""


def test_heads_and_other_models_are_known_from_the_text_and_from_the_cache(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    for _ in range(2):
        registry = Registry(tmp_path / "components.json")
        registry.use(tmp_path / "mine.py")
        entry = registry.entry("objective", "mine")
        assert needs.heads(entry.traits) == {"reward": ("last", 1), "q": "vocab"}
        assert needs.others(entry.names("needs")) == ("teacher", "judge")


def test_an_objective_that_declares_neither_has_neither():
    entry = Registry().entry("objective", "sft")
    assert needs.heads(entry.traits) == {}
    assert needs.others(entry.names("needs")) == ()
