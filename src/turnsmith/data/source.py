"""Where the text of a chat template comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnsmith.errors import RenderError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of encoders, which read two texts with marks around them: what was said before, and a reply to it.
PAIR = (
    "{{ cls_token }}{% for message in messages %}"
    "{% if loop.last and message['role'] == 'assistant' and not add_generation_prompt %}{{ sep_token }}"
    "{% elif not loop.first %} {% endif %}{{ message['content'] }}{% endfor %}{{ sep_token }}"
)


def source(tokenizer: PreTrainedTokenizerBase) -> str:
    """The template of a tokenizer, the one for tools where it has several; of an encoder our own. Raises
    RenderError where there is none."""
    found: Any = tokenizer.chat_template
    if isinstance(found, dict):
        found = found.get("tool_use") or found.get("default")
    if not found and tokenizer.cls_token and tokenizer.sep_token:
        return PAIR
    if not found:
        raise RenderError(
            "this tokenizer has no chat template: a base model cannot be tuned on chats before one is "
            "chosen. Put a chat_template.jinja beside its tokenizer files"
        )
    return str(found)
