"""Commands for this machine: run the service on it, try it out, say what works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from client import connection
from client.arguments import configuration
from client.options import STACK, Data, Json, Key, Url, print_json, say
from client.problems import not_installed

app = typer.Typer()

OpenPage = Annotated[bool, typer.Option("--open/--no-open", help="Open the API's page in the browser.")]


@app.command(rich_help_panel=STACK, epilog="Example: slaegan up --data slaegan-data --port 8000")
def up(
    data: Data = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    *,
    open_page: OpenPage = False,
) -> None:
    """Run the whole service on this machine, until Ctrl-C.

    PostgreSQL and Valkey come from wheels and live inside the data folder (by default in your user data folder),
    with sockets only; then API, a trainer for each CUDA device (or one for the CPU), workers for metrics, sweeps and
    chores, and beat.
    With DATABASE_URL, BROKER_URL or STORAGE_URL set, those servers are used instead.
    """
    try:
        from client.local.place import Place  # noqa: PLC0415  # not in a client-only install
        from client.local.up import up as run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise not_installed(error) from error
    run(data or connection.default_data_folder(), place=Place(host, port), say=say, open_page=open_page)


@app.command(rich_help_panel=STACK, epilog="Example: slaegan demo --output demo-output --images 800")
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-output"),
    pictures: Annotated[
        Path | None, typer.Option(help="Folder or archive; by default the bundled faces.")
    ] = None,
    images: Annotated[int | None, typer.Option(help="Train until this many pictures were seen.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any configuration value, as of `slaegan train`."),
    ] = None,
) -> None:
    """Run the whole loop once, on a stack of its own: upload, train at 64², evaluate, download.

    For programs it leaves summary.json in the folder of the results.
    """
    try:
        from client.demo import PRESET  # noqa: PLC0415  # not in a client-only install
        from client.demo import demo as run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise not_installed(error) from error
    given = {"total_images": images} if images is not None else {}
    config = configuration(settings or [], **(PRESET.model_dump(exclude_unset=True) | given))
    bundled = Path(__file__).parents[2] / "examples" / "emoji-faces.zip"
    summary = run(output, pictures=pictures or bundled, config=config, console=Console())
    say(f"Done. {summary} names the grid, the curve and the checkpoint.")


@app.command(rich_help_panel=STACK, epilog="Example: slaegan doctor")
def doctor(*, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Say what works here, what does not, and what to do about it; exit status 1 if something needed is broken."""
    from client.doctor import examine  # noqa: PLC0415  # it looks at parts that may not be installed

    findings = examine(url=url, key=key, data=data)
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "broken": "[bold red]BROKEN[/]"}
    if as_json:
        print_json(findings)
    else:
        console = Console()
        for finding in findings:
            console.print(f"{marks[finding.state]:>16} {finding.subject}: ", end="")
            say(finding.text)
    raise typer.Exit(1 if any(finding.state == "broken" for finding in findings) else 0)
