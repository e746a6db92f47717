"""`kindling data`: data sets from elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Data sets from elsewhere.")


@app.callback()
def commands() -> None:
    """Data sets from elsewhere."""


@app.command("import")
def import_data(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="hub:ID", help="hub:OWNER/NAME")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, as data/NAME.")],
    configuration: Annotated[
        str | None, typer.Option("--config", help="Which part, where a set has several.")
    ] = None,
) -> None:
    """Bring a data set of the Hugging Face hub into a folder, for DVC to version."""
    from components.hub import import_dataset

    kind, _, identifier = source.partition(":")
    if kind != "hub" or not identifier:
        raise ValueError(f"'{source}' names no hub: write hub:OWNER/NAME")
    block = import_dataset(identifier, context.obj / directory, configuration)
    block = block.replace(str(context.obj / directory), str(directory))
    print(
        f"Next: dvc add {directory}\nand under 'datasets' in pipelines.yaml, looked over:\n{block}"
    )
