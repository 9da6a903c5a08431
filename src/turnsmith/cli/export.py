"""`turnsmith export`: a model as files that others can load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from turnsmith.cli.common import AsJson, print_json
from turnsmith.errors import UsageError

if TYPE_CHECKING:
    from turnsmith.models.export import Form, Quantisation
    from turnsmith.models.load import Dtype
    from turnsmith.models.writers import Exported

T = TypeVar("T")


def command(
    model: Annotated[str, typer.Argument(help="A tuned model, e.g. runs/quickstart/tuned.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORM",
            help="safetensors (one model), adapter (plain peft), gguf (llama.cpp), ollama (gguf and "
            "Modelfile) or vllm (a model, or base and adapter, with the command line).",
        ),
    ],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="An empty or new directory.")] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="bfloat16 or float32, of safetensors, adapter and vllm. [bfloat16; adapter: float32]"
        ),
    ] = None,
    quantise: Annotated[
        str | None,
        typer.Option(help="f32, f16, bf16, q8_0, q5_1, q5_0, q4_1 or q4_0, of gguf and ollama. [f16]"),
    ] = None,
    form: Annotated[str | None, typer.Option(hidden=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Write MODEL for other tools with a model card, read it back, and say how far it is from what it was."""
    from turnsmith.models.export import FORMS
    from turnsmith.recipes.start import export

    where = _out(model, to, out, form, FORMS)
    chosen, weights, coarse = _options(to, dtype, quantise)
    done = export(model, where, form=chosen, dtype=weights, quantise=coarse)
    if as_json:
        print_json(_plain(done, where))
    else:
        _tell(done, where)


def _options(
    to: str, dtype: str | None, quantise: str | None
) -> tuple[Form, Dtype | None, Quantisation | None]:
    """The options as words that are known."""
    from turnsmith.models.export import FORMS, QUANTISATIONS

    forms: dict[str, Form] = {each: each for each in FORMS}
    dtypes: dict[str, Dtype] = {"bfloat16": "bfloat16", "float32": "float32"}
    kinds: dict[str, Quantisation] = {each: each for each in QUANTISATIONS}
    return (
        _chosen("--to", to, forms),
        None if dtype is None else _chosen("--dtype", dtype, dtypes),
        None if quantise is None else _chosen("--quantise", quantise, kinds),
    )


def _out(model: str, to: str, out: Path | None, form: str | None, forms: Sequence[str]) -> Path:
    """The directory; the spelling of the first version is refused with the new one."""
    new = f"turnsmith export {model} --to safetensors --out DIR"
    if form is not None or (out is None and to not in forms):
        raise UsageError(
            f"--to now names the form ({', '.join(forms)}) and --out the directory; there is no --form. "
            f"Write: {new}"
        )
    if out is None:
        raise UsageError(f"say where to: turnsmith export {model} --to {to} --out DIR")
    return out


def _chosen(flag: str, word: str, known: Mapping[str, T]) -> T:
    if word not in known:
        raise UsageError(f"{flag} {word}: there is {', '.join(known)}")
    return known[word]


def _plain(done: Exported, out: Path) -> dict[str, Any]:
    """The result for programs."""
    return {
        "out": str(out),
        "form": done.form,
        "kind": done.kind,
        "files": list(done.files),
        "stop tokens": list(done.stops),
        "largest logit difference": done.deviation,
        "largest weight error": done.weights,
        "loss": None if done.loss is None else {"before": done.loss[0], "after": done.loss[1]},
        "loss by quantisation": done.loss_by_quantisation,
        "loss in llama.cpp": done.llama_cpp,
        "notes": list(done.notes),
    }


def _tell(done: Exported, out: Path) -> None:
    from turnsmith.models.writers import told

    print(f"written to {out} ({done.form}, {done.kind}); README.md there says how it is used")
    for sentence in told(done):
        print(f"  {sentence.replace('`', '')}")
