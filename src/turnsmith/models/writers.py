"""The forms of export: each writes its files, reads them back, and says what was found and how to use it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from turnsmith.errors import ModelError
from turnsmith.models import gguf, gguf_tokens, llamacpp, modelfile, parity, preflight
from turnsmith.models.card import Card
from turnsmith.models.directory import base_of, base_reference, is_adapter, write
from turnsmith.models.load import load, name_base
from turnsmith.models.locate import read_gguf
from turnsmith.models.preflight import Form

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from turnsmith.data.render import Renderer


@dataclass(frozen=True, slots=True)
class Job:
    """A loaded model and what it made of the fixed texts before anything was written.

    kind: the type of the weights to write. stops: every token that ends a reply. tuned: whether it is known
    to differ from its base.
    """

    name: str
    source: Path
    model: "PreTrainedModel"
    words: "PreTrainedTokenizerBase"
    renderer: "Callable[[PreTrainedTokenizerBase], Renderer]"
    kind: str
    stops: tuple[int, ...]
    before: parity.Measured
    tuned: bool


@dataclass(frozen=True, slots=True)
class Exported:
    """What was found when the files were read back.

    deviation: of the logits, at most; None for a kind that is too coarse to compare them. weights: the
    largest error of a weight matrix as a share of its norm; None where logits say it all. loss: nats per
    token on the probe text, before and after. llama_cpp: the same in llama.cpp; None where it was not asked.
    """

    form: Form
    kind: str
    files: tuple[str, ...]
    stops: tuple[str, ...]
    deviation: float | None
    weights: float | None
    loss: tuple[float, float] | None
    llama_cpp: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def loss_by_quantisation(self) -> float | None:
        """Nats per token that the type of the weights costs on the probe text."""
        return None if self.loss is None else self.loss[1] - self.loss[0]


def safetensors(job: Job, target: Path) -> "tuple[Exported, Card]":
    """One full model with any adapter folded in."""
    done = _full(job, target, "safetensors")
    use = (
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained("THIS_FOLDER")\n'
        'tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")\n```\n'
    )
    return done, _card(job, done, "transformers", "finetune" if job.tuned else None, use)


def adapter(job: Job, target: Path) -> "tuple[Exported, Card]":
    """A plain peft adapter, which names its base."""
    done = _adapter(job, target, base_reference(job.source), "adapter")
    use = (
        "```python\nfrom peft import AutoPeftModelForCausalLM\n\n"
        'model = AutoPeftModelForCausalLM.from_pretrained("THIS_FOLDER")\n```\n\n'
        "peft looks for the base where adapter_config.json says (base_model_name_or_path): correct that if "
        "the base lies elsewhere on your machine.\n"
    )
    return done, _card(job, done, "peft", "adapter", use)


def gguf_file(job: Job, target: Path) -> "tuple[Exported, Card]":
    """One GGUF file."""
    done = _gguf(job, target, "gguf")
    use = f"    llama-server -m {done.files[0]} --jinja\n"
    return done, _card(job, done, "gguf", "quantized", use)


def ollama(job: Job, target: Path) -> "tuple[Exported, Card]":
    """A GGUF file and the Modelfile that makes a model of it."""
    if not job.words.chat_template:
        raise ModelError("this model has no chat template, so that there is nothing to tell Ollama: use gguf")
    turns = modelfile.derive(job.words)
    done = _gguf(job, target, "ollama")
    bos = str(job.words.bos_token) if gguf_tokens.adds_bos(job.words) else ""
    made = modelfile.modelfile(turns, gguf=done.files[0], stops=done.stops, bos=bos)
    (target / "Modelfile").write_text(made, encoding="utf-8")
    notes = ["Ollama itself was not run: the Modelfile was checked by writing prompts as it would"]
    if "system" not in turns.around:
        notes.append("The chat template refuses system messages; Ollama would leave them out in silence")
    if turns.strips:
        notes.append("The chat template takes spaces off the ends of messages; Ollama leaves them on")
    done = Exported(
        "ollama", done.kind, (*done.files, "Modelfile"), done.stops, done.deviation, done.weights,
        done.loss, done.llama_cpp, (*done.notes, *notes),
    )  # fmt: skip
    use = f"    ollama create {job.name} -f Modelfile\n    ollama run {job.name}\n"
    return done, _card(job, done, "gguf", "quantized", use)


def vllm(job: Job, target: Path) -> "tuple[Exported, Card]":
    """A full model for `vllm serve`, or base and adapter apart where there is an adapter."""
    template = "chat_template.jinja"
    chat = f" --chat-template {template}" if job.words.chat_template else ""
    if not is_adapter(job.source):
        done = _full(job, target, "vllm")
        use = f"In this folder:\n\n    vllm serve . --served-model-name {job.name}{chat}\n"
        return done, _card(job, done, "vllm", "finetune" if job.tuned else None, use)
    target.mkdir()
    done = _base_and_adapter(job, target)
    rank = preflight.lora_rank(job.source)
    use = (
        f"In this folder:\n\n    vllm serve base --enable-lora --max-lora-rank {rank} "
        f"--lora-modules {job.name}=adapter{chat.replace(template, f'base/{template}')}\n\n"
        f'Ask for the model `"{job.name}"`; `"base"` is the model before tuning.\n'
    )
    return done, _card(job, done, "vllm", "adapter", use)


def _full(job: Job, target: Path, form: Form) -> Exported:
    """The model with any adapter folded in, in the wanted type."""
    import torch

    model = _merged(job)
    model.to(getattr(torch, job.kind))
    write(model, job.words, target)
    del model
    if job.stops:
        parity.stops_written(target, job.stops)
    return _read_back(job, target, form)


def _adapter(job: Job, target: Path, base: str, form: Form) -> Exported:
    """The adapter alone. base: the reference of the model that it is proved on and names."""
    import torch

    job.model.to(getattr(torch, job.kind))
    write(job.model, job.words, target)
    name_base(target, base)
    return _read_back(job, target, form)


def _base_and_adapter(job: Job, target: Path) -> Exported:
    """`base` and `adapter` in the folder; the base has the adapter's tokenizer and every stop token."""
    import torch

    base, _ = load(base_of(job.source))
    assert base.generation_config is not None
    base.generation_config.eos_token_id = list(job.stops)
    base.to(getattr(torch, job.kind))
    write(base, job.words, target / "base")
    del base
    parity.stops_written(target / "base", job.stops)
    done = _adapter(job, target / "adapter", str(target / "base"), "vllm")
    (target / "adapter" / "README.md").unlink(missing_ok=True)  # peft's own, an empty form
    name_base(target / "adapter", base_reference(job.source))  # `target` is not where the folder will be
    return done


def _gguf(job: Job, target: Path, form: Form) -> Exported:
    """One GGUF file, read back with transformers, and with llama.cpp where that is installed."""
    assert job.kind in gguf.QUANTISATIONS
    target.mkdir()
    model = _merged(job)
    file = target / f"{job.name}-{job.kind}.gguf"
    gguf.write(model, job.words, file, name=job.name, stops=job.stops, quantise=job.kind)
    try:
        again, words = read_gguf(file, dtype="float32")
    except Exception as error:
        raise ModelError(f"transformers cannot read back the GGUF file that was written: {error}") from error
    weights = parity.same_weights(again.state_dict(), model.state_dict(), job.kind)
    after = parity.measure(again, words, job.renderer(words) if job.words.chat_template else None)
    del again, model
    parity.same_ids(after, job.before, "writing and reading back")
    deviation = None
    if job.kind in gguf.PLAIN:
        deviation = parity.same_logits(after.logits, job.before.logits, job.kind, "writing and reading back")
    gguf_tokens.stops_written(file, job.stops)
    loss, notes = None, ()
    if llamacpp.installed():
        loss = llamacpp.prove(file, expected=after, chat=_chat(words))
    else:
        notes = ("To have llama.cpp itself prove the file: pip install 'turnsmith[llamacpp]'",)
    return Exported(
        form, job.kind, (file.name,), _texts(job), deviation, weights, _losses(job, after), loss, notes
    )


def _merged(job: Job) -> "PreTrainedModel":
    """The model with its adapter folded into the weights; a full model as it is."""
    if not hasattr(job.model, "peft_config"):
        return job.model
    try:
        model = job.model.merge_and_unload()  # pyright: ignore[reportCallIssue]
    except (AttributeError, NotImplementedError, ValueError) as error:
        raise ModelError(
            f"the adapter {job.source} cannot be folded into weights ({error}): export it with --to adapter"
        ) from error
    found = parity.measure(model, job.words, None)
    parity.same_logits(found.logits, job.before.logits, "float32", "merging the adapter")
    return model


def _read_back(job: Job, target: Path, form: Form) -> Exported:
    """What a directory holds once it is loaded again; ModelError if it is another model."""
    again, words = load(str(target))
    after = parity.measure(again, words, job.renderer(words) if job.words.chat_template else None)
    parity.same_ids(after, job.before, "writing and reading back")
    deviation = parity.same_logits(after.logits, job.before.logits, job.kind, "writing and reading back")
    files = sorted(str(file.relative_to(target)) for file in target.rglob("*") if file.is_file())
    return Exported(form, job.kind, tuple(files), _texts(job), deviation, None, _losses(job, after))


def _losses(job: Job, after: parity.Measured) -> tuple[float, float] | None:
    if job.before.loss is None or after.loss is None:
        return None
    return job.before.loss, after.loss


def _texts(job: Job) -> tuple[str, ...]:
    """The stop tokens as texts."""
    return tuple(str(job.words.convert_ids_to_tokens(stop)) for stop in job.stops)


def _chat(words: "PreTrainedTokenizerBase") -> str | None:
    """The probe conversation as the template writes it."""
    if not words.chat_template:
        return None
    rows = [{"role": message.role, "content": message.content} for message in parity.CHAT.messages]
    return str(words.apply_chat_template(rows, tokenize=False, add_generation_prompt=True))


def _card(job: Job, done: Exported, library: str, relation: str | None, use: str) -> Card:
    return Card(job.name, library, relation, told(done), use)


def told(done: Exported) -> list[str]:
    """What was found, in sentences."""
    said = ["Read back: the same token ids on a fixed text and, where there is a template, a conversation."]
    if done.deviation is not None:
        share = parity.TOLERANCE[done.kind]
        said.append(
            f"Logits differ by at most {done.deviation:.2g} ({done.kind}; allowed: {share:g} of the largest)."
        )
    if done.weights is not None:
        said.append(f"Weights ({done.kind}) differ by at most {done.weights:.2g} of a matrix's norm.")
    if done.loss is not None:
        before, after = done.loss
        said.append(
            f"Loss by quantisation ({done.kind}): {after - before:+.4f} nats per token on a fixed text "
            f"({before:.4f} before, {after:.4f} after)."
        )
    if done.llama_cpp is not None:
        said.append(f"In llama.cpp: the same token ids, {done.llama_cpp:.4f} nats per token.")
    if done.stops:
        said.append(f"Stop tokens written: {', '.join(f'`{stop}`' for stop in done.stops)}.")
    return [*said, *(f"{note}." for note in done.notes)]


WRITERS: dict[Form, Callable[[Job, Path], tuple[Exported, Card]]] = {
    "safetensors": safetensors,
    "adapter": adapter,
    "gguf": gguf_file,
    "ollama": ollama,
    "vllm": vllm,
}
