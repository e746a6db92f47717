"""`kindling`: the commands. Each finds its workspace, asks another module, and prints."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from components.catalogue import CatalogueError
from flows import settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
registry_app = typer.Typer(no_args_is_help=True, help="Registered versions and releases.")
app.add_typer(registry_app, name="registry")

EXPECTED = (ValueError, OSError, RuntimeError)  # what a user can mend; anything else is a defect


@app.callback()
def workspace(
    context: typer.Context,
    directory: Annotated[Path, typer.Option("-C", help="The workspace.")] = Path("."),
) -> None:
    """From raw text to a served answer, and how it got there."""
    context.obj = directory.resolve()
    if not context.obj.is_dir():
        raise CatalogueError(f"-C {directory}: no such folder")
    if context.invoked_subcommand != "init":
        settings.apply(context.obj)


@app.command()
def run(
    context: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="As pipelines.yaml calls it.")],
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the catalogue first; it stays so."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Run every stage, up to date or not.")] = False,
) -> None:
    """Bring a pipeline up to date, register what is new, and judge it."""
    from components.catalogue import edit, load

    where = context.obj
    load(where)
    if change:
        print(edit(where, change) or "--set: the catalogue says so already", end="\n")
    from flows import summary
    from flows.pipeline import pipeline as flow

    summary.text(flow(pipeline, workspace=str(where), force=force))


def main() -> None:
    """The console script: expected errors are told in a line, without a traceback."""
    try:
        app()
    except EXPECTED as error:
        sys.exit(f"kindling: {error}")


if __name__ == "__main__":
    main()
