"""The `turnsmith` command: finds the verb, turns errors into messages and exit codes."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import typer

from turnsmith import ranks
from turnsmith.cli import (
    chat,
    check,
    claims,
    compare,
    data,
    doctor,
    evaluate,
    export,
    feedback,
    keys,
    methods,
    new,
    run,
    serve,
    show,
    tune,
)
from turnsmith.errors import TurnsmithError, UsageError

app = typer.Typer(
    name="turnsmith",
    help="Fine-tunes conversational language models; shows what was gained, forgotten and paid.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
TOGETHER = ("run", "tune", "compare", "claims")  # what several processes carry out
INTERRUPTED = 130  # what typer makes of Ctrl-C

for verb in (run, tune, compare, check, claims, chat, serve, evaluate, export, methods, show, new, doctor):
    app.command(verb.__name__.rsplit(".", 1)[-1])(verb.command)
app.add_typer(data.app, name="data")
app.add_typer(keys.app, name="keys")
app.add_typer(feedback.app, name="feedback")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong use."""
    with ranks.silent():
        code = call(sys.argv[1:] if arguments is None else arguments)
    sys.exit(code)


def call(arguments: Sequence[str]) -> int:
    """Run one command line; gives its exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # transformers uses its own old spelling while it saves and reads models.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    as_json = "--json" in arguments
    try:
        if ranks.world() > 1 and arguments and arguments[0] not in TOGETHER:
            verbs = ", ".join(f"`{verb}`" for verb in TOGETHER)
            raise UsageError(
                f"`{arguments[0]}` is for one process, and WORLD_SIZE says {ranks.world()}: unset it; "
                f"several carry out {verbs}"
            )
        code = app(list(arguments), standalone_mode=False)
        return _stopped(as_json) if code == INTERRUPTED else int(code or 0)
    except TurnsmithError as error:
        return _failed(str(error), error.exit_code, as_json)
    except typer.Exit as leaving:
        return _stopped(as_json) if leaving.exit_code == INTERRUPTED else leaving.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _stopped(as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        wrong: Any = error
        if not hasattr(wrong, "format_message"):  # what typer raises for wrong use
            raise
        usage = f"\n{wrong.ctx.get_usage()}" if getattr(wrong, "ctx", None) else ""
        return _failed(f"{wrong.format_message()}{usage}", 2, as_json)


def _stopped(as_json: bool) -> int:
    return _failed("stopped; the same command goes on where it was", 1, as_json)


def _failed(text: str, code: int, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": text, "exit_code": code}))
    ranks.complain(f"turnsmith: {text}")
    return code


if __name__ == "__main__":
    main()
