"""`kindling data`: data sets and models from elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Import data sets and models.")


@app.callback()
def commands() -> None:
    """Import data sets and models."""


@app.command("import")
def import_data(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="hub:OWNER/NAME (a data set) or model:OWNER/NAME."),
    ],
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new folder, such as data/NAME.")
    ],
    configuration: Annotated[
        str | None,
        typer.Option("--config", help="The configuration, where a data set has several."),
    ] = None,
) -> None:
    """Download a data set or model of the Hugging Face hub, and print its block."""
    from components.hub import import_dataset, import_model

    kind, _, identifier = source.partition(":")
    if kind not in ("hub", "model") or not identifier:
        meant = "" if ":" in source else f"; did you mean model:{source} or hub:{source}?"
        raise ValueError(
            f"'{source}' names no source: write hub:OWNER/NAME or model:OWNER/NAME{meant}"
        )
    if kind == "model" and configuration:
        raise ValueError(f"--config {configuration}: a model has no parts")
    out = context.obj / directory
    if kind == "model":
        block, place = import_model(identifier, out), "pipelines"
    else:
        block, place = import_dataset(identifier, out, configuration), "datasets"
    block = block.replace(str(out), str(directory))
    print(
        f"Next: dvc add {directory}\nand under '{place}' in pipelines.yaml, looked over:\n{block}"
    )
