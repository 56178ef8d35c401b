"""The command line, `slaegan`. It imports neither torch nor the service: a client-only install runs it."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.text import Text

from client.commands import (
    account,
    artifacts,
    checkpoints,
    control,
    datasets,
    estimate,
    evaluations,
    generations,
    jobs,
    keys,
    lint,
    models,
    operations,
    rendered,
    stack,
    tenants,
    train,
    uploading,
    uploads,
    webhooks,
    weights,
)
from client.options import ACCOUNT, DATASETS, LOOK, OPERATORS, STACK, print_json
from core.errors import SlaeganError

app = typer.Typer(
    name="slaegan", no_args_is_help=True, pretty_exceptions_enable=False, help=(
        "Train a GAN on a hundred pictures: start a stack with `slaegan up`, then `slaegan train FOLDER --watch`."
    ),
)  # fmt: skip
for part in (
    train, estimate, control, jobs, artifacts, evaluations, generations, uploading, datasets, lint, stack, account,
    models, operations,
):  # fmt: skip
    app.add_typer(part.app)
app.add_typer(checkpoints.app, name="checkpoints", rich_help_panel=LOOK)
app.add_typer(rendered.generations, name="generations", rich_help_panel=LOOK)
app.add_typer(rendered.exports, name="exports", rich_help_panel=LOOK)
app.add_typer(webhooks.app, name="webhooks", rich_help_panel=LOOK)
app.add_typer(uploads.app, name="uploads", rich_help_panel=DATASETS)
app.add_typer(weights.app, name="weights", rich_help_panel=STACK)
app.add_typer(keys.app, name="keys", rich_help_panel=ACCOUNT)
app.add_typer(tenants.app, name="tenants", rich_help_panel=OPERATORS)


def main() -> None:
    """Run the command line; an error is a sentence on stderr, or with --json a document, and exit status 1."""
    try:
        app()
    except SlaeganError as error:
        if "--json" in sys.argv:
            print_json(error.as_record(), aside=True)
        else:
            Console(stderr=True).print(f"[bold red]{error.title}.[/] ", end="")
            Console(stderr=True).print(Text(error.message), soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
