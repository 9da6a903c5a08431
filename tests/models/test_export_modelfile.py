"""Modelfiles: the Go template writes the same prompts as the chat template, or is refused.

What Ollama does with a template is done here by a few lines of its own (`ollama`), which know nothing of how
the template was made: ranges over messages, `if eq .Role`, `.Content` and quoted text are all it may hold.
"""

import re

import pytest

from turnsmith.errors import ModelError
from turnsmith.models import modelfile
from turnsmith.testing import tokenizer
from turnsmith.testing.builders import CHATML

TURN = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
OPENING = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
SMOLLM = (
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are kind<|im_end|>\n' }}{% endif %}" + TURN + "{% endfor %}" + OPENING
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start|>' + m['role'] + '<|end|>\n\n' + m['content'] | trim "
    "+ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}{{ '<turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' "
    "+ m['content'] | trim + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
FAMILIES = {"chatml": CHATML, "smollm": SMOLLM, "llama3": LLAMA3, "gemma": GEMMA, "zephyr": ZEPHYR}
ROUNDS = [("user", "Hi."), ("assistant", "Hello {{ .you }}!"), ("user", "Bye.")]


def words_of(template, bos="<|endoftext|>"):
    words = tokenizer(template)
    words.bos_token = bos
    return words


def made(words, bos=""):
    turns = modelfile.derive(words)
    return modelfile.modelfile(turns, gguf="m.gguf", stops=["<|im_end|>"], bos=bos)


def ollama(text, messages):
    """The prompt that Ollama makes with this Modelfile."""
    template = re.search(r'TEMPLATE """(.*?)"""', text, re.DOTALL)[1]
    system = re.search(r'SYSTEM """(.*?)"""', text, re.DOTALL)
    if system and messages[0][0] != "system":
        messages = [("system", system[1]), *messages]
    head, loop, tail = re.fullmatch(
        r"(.*?)\{\{ range \.Messages \}\}(.*)\{\{ end \}\}(.*?)", template, re.DOTALL
    ).groups()
    branches = dict(
        re.findall(r'if eq \.Role "(\w+)" \}\}(.*?)(?=\{\{ else if eq|\{\{ end \}\}$)', loop, re.DOTALL)
    )
    turns = [branches.get(role, "").replace("{{ .Content }}", content) for role, content in messages]
    return (head + "".join(turns) + tail).replace('{{ "{{" }}', "{{")


def jinja(words, messages):
    rows = [{"role": role, "content": content} for role, content in messages]
    return words.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_ollama_writes_the_prompts_of_the_chat_template(family):
    words = words_of(FAMILIES[family])
    text = made(words)
    conversations = [ROUNDS[:1], ROUNDS]
    if family != "gemma":
        conversations.append([("system", "Be brief."), *ROUNDS])
    for messages in conversations:
        assert ollama(text, messages) == jinja(words, messages)


def test_a_default_system_message_becomes_system_and_gives_way_to_ones_own():
    text = made(words_of(SMOLLM))
    assert 'SYSTEM """You are kind"""' in text
    assert "kind" not in ollama(text, [("system", "Be brief."), *ROUNDS])


def test_a_first_token_that_is_also_the_mark_of_a_turn_stays_with_the_turns():
    """SmolLM2 names <|im_start|> as its first token."""
    assert modelfile.derive(words_of(SMOLLM, bos="<|im_start|>")).head == ""


def test_what_llama_cpp_puts_before_a_prompt_is_not_written_twice():
    assert made(words_of(LLAMA3)).count("<|endoftext|>") == 1
    assert made(words_of(LLAMA3), bos="<|endoftext|>").count("<|endoftext|>") == 0


def test_every_stop_text_is_a_parameter():
    turns = modelfile.derive(words_of(CHATML))
    text = modelfile.modelfile(turns, gguf="m.gguf", stops=["<|im_end|>", "<|endoftext|>"], bos="")
    assert text.startswith("FROM ./m.gguf\n")
    assert text.endswith('PARAMETER stop "<|im_end|>"\nPARAMETER stop "<|endoftext|>"\n')


def test_braces_of_the_template_are_no_actions_of_gos():
    odd = ZEPHYR.replace("'<|' +", "'{{<|' +")
    words = words_of(odd)
    assert ollama(made(words), ROUNDS) == jinja(words, ROUNDS)


def test_spaces_that_the_template_strips_are_known():
    assert modelfile.derive(words_of(LLAMA3)).strips
    assert not modelfile.derive(words_of(CHATML)).strips


LAST_ONLY = "{% for m in messages %}{% if loop.last %}" + TURN + "{% endif %}{% endfor %}" + OPENING
NUMBERED = "{% for m in messages %}{{ loop.index }}" + TURN + "{% endfor %}" + OPENING
FOLDED = (
    "{% set s = messages[0]['content'] + '\n\n' if messages[0]['role'] == 'system' else '' %}"
    "{% for m in messages if m['role'] != 'system' %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + (s if loop.first else '') "
    "+ m['content'] + '<|im_end|>\n' }}{% endfor %}" + OPENING
)
EMPTY = SMOLLM.replace("You are kind", "")
QUOTES = ZEPHYR.replace("'<|' +", '\'"""<|\' +')


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (LAST_ONLY, "drops, repeats or reorders"),
        (NUMBERED, "depends on"),
        (FOLDED, "depends on|comes out otherwise"),
        (EMPTY, "an empty system message"),
        (QUOTES, "cannot quote"),
    ],
    ids=["last only", "numbered", "system folded into the first user", "empty default", "quotes"],
)
def test_a_template_of_another_form_is_refused_with_what_would_be_lost(template, why):
    with pytest.raises(ModelError, match=f"cannot be said in Ollama's language: .*({why}).*--to gguf"):
        made(words_of(template))
