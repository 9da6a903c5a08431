"""The page of a run: everything in it, nothing loaded, nothing broken, nothing unsaid."""

import copy
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from turnsmith.errors import StorageError
from turnsmith.report import page, words

VOID = {"meta", "br", "link", "img", "input", "hr", "wbr"}
INLINE_SVG = {"line", "circle", "path", "polyline", "rect"}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=https://evil.example/x onerror=alert(1)>',
    "</style></title></svg><iframe src='http://evil.example'>",
    "{{ 7 * 7 }}{% for x in y %}",
    "x" * 3000,
    "\u202eRTL مرحبا بالعالم",
    "emoji 👩‍👩‍👧 \U0001f600",
    "NUL \x00 bell \x07 escape \x1b[31m",
    "half of a pair \ud83d",
    "",
]


class Reader(HTMLParser):
    """Checks that tags are balanced and collects what the tests look at."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text, self.ids = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in INLINE_SVG, tag
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style",):
            self.text.append(data)

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.tags if name in attributes]


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    return reader


def metric(**others):
    return {
        "name": "loss without the stop token", "unit": "nats per token", "better": "lower", "n": 130,
        "of": "conversations", "before": 3.51, "after": 3.24, "difference": -0.27, "low": -0.31,
        "high": -0.24, "level": 0.95, "verdict": "better", "chance": None, "groups": [], **others,
    }  # fmt: skip


def group(**others):
    return {
        "name": "capitals", "n": 21, "before": 0.71, "after": 0.66, "difference": -0.05, "low": -0.19,
        "high": 0.12, "verdict": "undecided", "chance": 0.26, "says_nothing": False, **others,
    }  # fmt: skip


DATA = {
    "verb": "data", "name": "train", "artefact": "a1b2c3", "path": "nowhere", "reused": False, "seconds": 3.1,
    "read": "chitchat", "format": "turns", "guessed": True, "licence": "MIT",
    "source": "https://example.org/chats", "sha256": "7d1a54127b22", "rows": 7168,
    "examples": 2240,
    "counts": {"left out: fewer than 4 turns": 775, "skipped: 1 senders instead of two": 3150},
}  # fmt: skip
TRAIN = {
    "verb": "train", "name": "tuned", "artefact": "d4e5f6", "path": "made", "reused": True,
    "objective": "sft",
    "objective_options": {"beta": 0.125}, "trainable": "lora", "trainable_options": {"rank": 16},
    "fit": {"lr": 0.0005, "batch": 13, "clip": 1.25, "epochs": None}, "dtype": "bfloat16",
    "dtype_seconds": {"float32": 0.0043, "bfloat16": 0.0021},
    "parameters": {"learning": 4884480, "all": 139399488}, "examples": 2239,
    "counts": {"cut after a whole turn": 803, "dropped: no turn fits": 2}, "steps": 142, "tokens": 55012,
    "supervised": 25107, "slots": 60000, "seconds": 300.2, "flops": 3.1e13, "peak_memory_gib": 2.1,
    "metrics": "metrics.jsonl",
    "shown": [{"id": "abc", "tokens": [
        {"text": "Hello\n", "weight": 0.0}, {"text": " you", "weight": 1.0}, {"text": "!", "weight": 0.5},
        {"text": "no", "weight": -0.5},
    ]}],
}  # fmt: skip
EVALUATE = {
    "verb": "evaluate", "model": "tuned", "against": "base", "seconds": 210.0,
    "tasks": [
        {"task": "heldout", "title": "Loss on held-out chats", "note": "Nobody of whom was trained on.",
         "seconds": {"tuned": 40.0, "base": 41.0}, "reused": {"base": True}, "metrics": [
             metric(worst={"better": 127, "worse": 3, "items": [
                 {"id": "lost", "before": 3.125, "after": 4.375, "prompt": [
                     {"role": "user", "text": "Seen any films?"},
                     {"role": "assistant", "text": "Quite some"}],
                  "said": {"before": None, "after": None}, "reference": None}]})]},
        {"task": "divergence", "title": "Drift", "note": "", "seconds": {"tuned": 33.0}, "metrics": [
            metric(name="KL", before=0.0, after=0.0517, difference=0.0517, low=0.044, high=0.058,
                   verdict="worse")]},
        {"task": "abilities", "title": "General abilities", "note": "", "seconds": {}, "metrics": [
            metric(name="right", unit="share", better="higher", before=0.55, after=0.5, difference=-0.05,
                   low=-0.12, high=0.02, verdict="undecided", chance=0.29,
                   worst={"better": 1, "worse": 2, "items": [
                       {"id": "capital-of-peru", "before": 1.0, "after": 0.0, "prompt": "Capital of Peru?",
                        "said": {"before": "Lima.", "after": "I like it there"}, "reference": "Lima"}]},
                   groups=[group(), group(name="arithmetic", says_nothing=True)])]},
        {"task": "replies", "title": "Replies", "note": "", "seconds": {}, "metrics": [], "shown": [
            {"id": "x1", "prompt": [{"role": "user", "text": "Any pets?"}], "before": "As an AI",
             "after": "two cats", "reference": "Yes, a dog", "ended": {"before": False, "after": True}},
            {"id": "x2", "prompt": "just text", "before": "", "after": None, "reference": None,
             "ended": None}]},
    ],
}  # fmt: skip
RUN = {
    "recipe": "quickstart", "title": "Learning to chat", "source": "arXiv:2401.01335", "arm": "", "seed": 17,
    "command": "turnsmith run quickstart --seed 17", "version": "0.1.0", "commit": None,
    "finished": "2026-11-22T10:00:00Z", "state": "done",
    "machine": {"cpu": "Some CPU", "cores": 2, "memory_gib": 23.4, "device": "cpu", "torch": "2.13.0",
                "transformers": "5.23.0", "peft": "0.21.2", "python": "3.11.7"},
    "base": {"reference": "smollm2", "parameters": 134515008, "licence": "Apache-2.0", "source": "the hub",
             "fingerprint": "9c1f2a"},
    "resolved": "base: smollm2\nsteps: []\n", "steps": [DATA, TRAIN, EVALUATE],
    "claim": [{"text": "heldout: loss without the stop token of tuned against base is lower",
               "difference": -0.27, "low": -0.31, "high": -0.24, "bound": 0.0, "verdict": "holds"}],
    "cost": {"seconds": 560.0, "train_seconds": 300.0, "evaluate_seconds": 210.0, "tokens": 55012,
             "supervised": 25107, "flops": 3.1e13, "peak_memory_gib": 3.2, "energy_wh": 2.4,
             "energy_note": "estimate: 12 W for two cores"},
    "next": ["turnsmith chat tuned base", "turnsmith export tuned"], "warnings": ["two cores only"],
}  # fmt: skip


def write_rows(directory, rows, clock=()):
    directory.mkdir(exist_ok=True)
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "clock.jsonl").write_text("".join(json.dumps(row) + "\n" for row in clock))


@pytest.fixture
def made(tmp_path):
    """The page of the whole run above, with curves, and its text."""
    rows = [
        {"step": s, "total": 30, "loss": 4 - s / 20, "lr": 1e-4, "gradient": 1.0, "tokens": 9,
         "supervised": 4, "slots": 10, "margin": s, **({"validation": 3.5} if s % 10 == 0 else {})}
        for s in range(1, 31)
    ]  # fmt: skip
    write_rows(
        tmp_path / "made", rows, [{"step": s, "seconds": 0.5, "memory_gib": 1.5} for s in range(1, 31)]
    )
    path = page.write(RUN, tmp_path)
    assert path == tmp_path / "report.html"
    return path.read_text("utf-8")


def rendered(tmp_path, **others):
    return page.render({**RUN, **others}, tmp_path)


def numbers(value):
    if isinstance(value, bool | str) or value is None:
        return []
    if isinstance(value, dict):
        return [n for key, item in value.items() if key != "level" for n in numbers(item)]
    return [n for item in value for n in numbers(item)] if isinstance(value, list) else [value]


def spelt(number):
    """How a number may stand on the page: seconds also for machines, short times also in ms."""
    size = abs(number)
    milli = f"{size * 1000:g}ms"
    return [
        f"{size:g}",
        f"{size:.2f}",
        f"{size:.3f}",
        str(number),
        words.figure(number),
        f"PT{size:g}S",
        milli,
    ]


def test_every_number_of_the_contract_is_on_the_page(made):
    reader = read(made)
    everything = " ".join([*reader.text, *reader.attributes("datetime"), *reader.attributes("title")])
    bare = re.sub(r"[\s\u202f\u00a0]", "", everything)
    tokens = {re.sub(r"[\s\u202f\u00a0]", "", text) for number in numbers(RUN) for text in spelt(number)}
    assert len(tokens) > 100  # the helper above really looks into the run
    missing = [
        n for n in numbers(RUN) if not any(re.sub(r"[\s\u202f\u00a0]", "", t) in bare for t in spelt(n))
    ]
    # Token positions are shown as the share of padding, seconds of training in the bar as minutes.
    assert [n for n in missing if n != 60000] == []
    assert "8.31%" in bare  # 1 - 55012 / 60000


def test_every_text_of_the_contract_is_on_the_page(made):
    text = " ".join(read(made).text)
    for said in (
        "Learning to chat", "arXiv:2401.01335", "Some CPU", "torch 2.13.0", "smollm2", "9c1f2a",
        "7d1a54127b22", "left out: fewer than 4 turns", "dropped: no turn fits",
        "Nobody of whom was trained on.", "Any pets?", "two cats", "Yes, a dog", "just text", "capitals",
        "estimate: 12 W for two cores", "two cores only", "turnsmith run quickstart --seed 17",
        "turnsmith export tuned", "base: smollm2", "MIT", "Apache-2.0", "measured earlier, reused",
        "Seen any films?", "Quite some", "lost: ", "capital-of-peru", "I like it there", "Lima.",
        "cut off", "(an empty reply)", "not measured", "(guessed)", "beta 0.125",
    ):  # fmt: skip
        assert said in text, said


def test_steps_that_were_left_out_and_the_memory_of_a_training_are_told(tmp_path):
    step = {**TRAIN, "skipped": 3, "room": {"row": 512, "recompute": False, "said": "", "peak": 2.75 * 2**30}}
    text = " ".join(read(rendered(tmp_path, steps=[step])).text)
    assert "142, of which 3 left out" in re.sub(r"\s+", " ", text)
    assert "2.75 estimated before the first step" in text
    assert "left out:" not in " ".join(read(rendered(tmp_path, steps=[TRAIN])).text)


def test_the_page_is_one_balanced_file_that_loads_nothing(made):
    reader = read(made)
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert reader.attributes("src") == []
    assert "url(" not in made
    assert "@import" not in made
    for tag, attributes in reader.tags:
        if "href" in attributes:
            assert tag == "a"
            assert attributes["href"].startswith(("#", "https://"))
    assert "https://arxiv.org/abs/2401.01335" in reader.attributes("href")


def test_the_page_can_be_read_without_seeing_it(made):
    reader = read(made)
    headings = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))
    images = [attributes for tag, attributes in reader.tags if tag == "svg"]
    assert len(images) > 10
    assert all(image.get("aria-label") or image.get("aria-hidden") == "true" for image in images)
    tables = [tag for tag, _ in reader.tags if tag == "table"]
    assert len(tables) == sum(tag == "caption" for tag, _ in reader.tags)
    assert all("scope" in attributes for tag, attributes in reader.tags if tag == "th")
    assert ("html", {"lang": "en"}) in reader.tags
    assert ("h1", {"dir": "auto"}) in reader.tags  # text keeps its own direction


def test_links_of_the_contents_lead_somewhere(made):
    reader = read(made)
    inner = [href[1:] for href in reader.attributes("href") if href.startswith("#")]
    assert len(inner) == 10
    assert set(inner) <= set(reader.ids)


@pytest.mark.parametrize(
    ("state", "said"), [("failed", "The run failed before"), ("stopped", "The run was stopped")]
)
def test_a_run_that_did_not_end_says_so_first(tmp_path, state, said):
    text = rendered(
        tmp_path, state=state, steps=[DATA, TRAIN], claim=[], warnings=["out of memory in step 12"]
    )
    assert said in text
    reader = read(text)
    assert f"state {state}" in reader.attributes("class")
    assert "out of memory in step 12" in " ".join(reader.text)
    assert "there are no curves" in " ".join(reader.text)


@pytest.mark.parametrize(
    "run", [{}, {"steps": None, "claim": None, "cost": None, "base": None, "machine": None}]
)
def test_a_run_of_nothing_still_has_a_page(tmp_path, run):
    text = " ".join(read(page.render(run, tmp_path)).text)
    assert "nothing was measured" in text
    assert "not measured" in text


def paths(value, path=()):
    """Where each value of the run is, at whatever depth."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield (*path, key)
        yield from paths(item, (*path, key))


def without(path, *, null):
    """The run with one value null, or not there."""
    run = copy.deepcopy(RUN)
    place = run
    for key in path[:-1]:
        place = place[key]
    if null:
        place[path[-1]] = None
    else:
        del place[path[-1]]
    return run


def test_no_value_that_is_null_breaks_the_page(tmp_path):
    for path in paths(RUN):
        text = page.render(without(path, null=True), tmp_path)
        assert "</html>" in text, path
        assert not re.search(r"\bnan\b|\bNone\b", text), path


def test_no_key_that_is_absent_breaks_the_page(tmp_path):
    for path in {path[-1]: path for path in paths(RUN)}.values():  # a place for each name of a key
        text = page.render(without(path, null=False), tmp_path)
        assert "</html>" in text, path
        assert not re.search(r"\bnan\b|\bNone\b|Undefined", text), path


def test_steps_may_be_there_several_times_and_verbs_unknown(tmp_path):
    other = {**EVALUATE, "model": "second"}
    text = rendered(
        tmp_path, steps=[DATA, DATA, TRAIN, TRAIN, EVALUATE, other, {"verb": "merge", "seconds": 1.0}]
    )
    said = " ".join(read(text).text)
    assert "second against base" in said
    assert "merge" in said
    assert "tiny form" in rendered(tmp_path, tiny=True)


def poisoned(value, text):
    """The run with `text` added to every string in it, keys of counts included."""
    if isinstance(value, dict):
        return {key: poisoned(item, text) for key, item in value.items()} | (
            {text: 1} if set(value) & {"left out: fewer than 4 turns", "lr"} else {}
        )
    if isinstance(value, list):
        return [poisoned(item, text) for item in value]
    keep = ("data", "train", "evaluate", "done", "made", "nowhere", "metrics.jsonl")
    return value + text if isinstance(value, str) and value not in keep else value


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_is_shown_and_never_acted_upon(tmp_path, hostile):
    text = page.write(poisoned(RUN, hostile), tmp_path).read_text("utf-8")
    reader = read(text)
    allowed = {tag for tag, _ in read(page.render(RUN, tmp_path)).tags} | {"i"}
    assert {tag for tag, _ in reader.tags} <= allowed
    names = {name for _, attributes in reader.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")} | (names & {"src", "srcdoc"})
    assert not set(text) & {"\x00", "\x1b"}


def test_control_characters_are_visible_and_broken_text_can_be_written(tmp_path):
    path = page.write({**RUN, "title": "a\x00b\x1bc\ud83d"}, tmp_path)
    assert "a\u2400b\u241bc?" in path.read_text("utf-8")


def test_text_cannot_turn_the_words_around_it(tmp_path):
    step = {**EVALUATE, "tasks": [{**EVALUATE["tasks"][0], "title": "a\u202eb"}]}
    assert not re.search("[\u202a-\u202e]", rendered(tmp_path, steps=[step], title="\u202d"))


def test_only_web_addresses_become_links():
    assert "href" not in page.linked("javascript:alert(1)")
    assert "href" not in page.linked("file:///etc/passwd")
    assert 'href="https://x.org/a&amp;b"' in page.linked("see https://x.org/a&b now")
    assert "<b>" not in page.linked("<b>https://x.org/<b>")


def test_weights_are_told_by_class_and_title_and_not_by_colour_alone(made):
    reader = read(made)
    tokens = [attributes for tag, attributes in reader.tags if tag == "span" and "title" in attributes]
    kinds = [token["class"] for token in tokens if token["class"].startswith("t ")]
    assert kinds == ["t none", "t full", "t part", "t minus"]
    style = made[made.index("<style>") : made.index("</style>")]
    for kind in ("part", "minus"):
        assert re.search(rf"\.t\.{kind}[^}}]*border-bottom", style)


def test_spaces_and_line_ends_of_tokens_are_visible_and_stay_copyable():
    assert page.visible(" a\n<") == '<i class="sp"> </i>a<i class="nl"></i>\n&lt;'


def test_long_examples_are_cut_and_say_so(tmp_path):
    tokens = [{"text": "a", "weight": 1.0}] * (page.TOKENS + 5)
    train = {**TRAIN, "shown": [{"id": "long", "tokens": tokens}]}
    text = " ".join(read(rendered(tmp_path, steps=[train])).text)
    assert "5 more are not shown" in text
    assert "705 tokens, 705 trained on" in text


def test_a_full_disk_is_a_storage_error(tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("turnsmith.shelf.os.fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        page.write(RUN, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_groups_that_say_nothing_are_grey_starred_and_explained(made):
    reader = read(made)
    assert ("tr", {"role": "row", "class": "faint"}) in reader.tags
    text = " ".join(reader.text)
    assert "could not be told from guessing" in text
    assert made.count('class="faint"') == 1


def judged(**group_says):
    """The run above, its abilities judged together, and its loss without items that only one model has."""
    run = copy.deepcopy(RUN)
    heldout, _, abilities, _ = next(s for s in run["steps"] if s.get("verb") == "evaluate")["tasks"]
    heldout["metrics"] = [metric(left_out=7, note="two runs hardly know how far runs differ")]
    abilities["metrics"][0]["groups"] = [group(**group_says), group(name="arithmetic", **group_says)]
    return run


def test_groups_that_were_judged_together_are_said_to_be_corrected(tmp_path):
    text = " ".join(read(page.render(judged(comparisons=2), tmp_path)).text)
    assert "Corrected for 2 comparisons" in text
    assert "Corrected" not in " ".join(read(page.render(judged(comparisons=1), tmp_path)).text)


def test_what_was_left_out_and_what_an_interval_does_not_know_stand_beside_n(tmp_path):
    text = " ".join(" ".join(read(page.render(judged(left_out=3), tmp_path)).text).split())
    assert "130 conversations, 7 left out that only one of the two has; two runs hardly know" in text
    assert "(3 left out)" in text
