"""`turnsmith export`: a model as files that others can load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from turnsmith.cli.common import AsJson, print_json


def command(
    model: Annotated[str, typer.Argument(help="A tuned model, e.g. runs/quickstart/tuned.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="An empty or new directory.")],
    form: Annotated[
        str, typer.Option(help="merged (one model in safetensors) or adapter (plain peft).")
    ] = "merged",
    dtype: Annotated[str, typer.Option(help="bfloat16 or float32, of merged weights.")] = "bfloat16",
    as_json: AsJson = False,
) -> None:
    """Write MODEL for other tools, read it back, and say how far its logits are from the original's."""
    from turnsmith.errors import UsageError
    from turnsmith.models.export import export
    from turnsmith.models.load import Dtype

    forms: dict[str, Literal["merged", "adapter"]] = {"merged": "merged", "adapter": "adapter"}
    if form not in forms:
        raise UsageError(f"--form {form}: there is merged and adapter")
    dtypes: dict[str, Dtype] = {"bfloat16": "bfloat16", "float32": "float32"}
    if dtype not in dtypes:
        raise UsageError(f"--dtype {dtype}: there is bfloat16 and float32")
    worst = export(model, to, form=forms[form], dtype=dtypes[dtype])
    found = {"to": str(to), "form": form, "dtype": dtype, "largest logit difference": worst}
    if as_json:
        print_json(found)
    else:
        print(f"written to {to} ({form}); read back, its logits differ by at most {worst:.2g}")
