"""`kindling registry`: what is registered, and moving it by hand."""

import json
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="List, promote and roll back registered versions.")


@app.command("list")
def list_versions(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """List registered versions, their aliases, and releases."""
    from flows import shelves

    told = shelves.listing(context.obj)
    print(json.dumps(told, indent=1) if as_json else shelves.text(told))


@app.command()
def promote(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PIPELINE.ADAPTER", help="A registered adapter.")],
    version: Annotated[
        int, typer.Argument(metavar="VERSION", help="As 'kindling registry list' shows it.")
    ],
    reason: Annotated[str, typer.Option(help="Why; it is kept with the release.")],
) -> None:
    """Promote a version by hand, whatever its gate says, as a new release."""
    from flows import shelves

    print(shelves.promote(context.obj, name, version, reason))


@app.command()
def rollback(
    context: typer.Context,
    pipeline: Annotated[
        str, typer.Argument(metavar="PIPELINE", help="Its name in pipelines.yaml.")
    ],
    release: Annotated[
        int | None,
        typer.Argument(metavar="RELEASE", help="Its number. Default: the one before the current."),
    ] = None,
    reason: Annotated[
        str, typer.Option(help="Why; it is kept with the release that is left.")
    ] = "",
) -> None:
    """Serve an earlier release again: base, adapters and prompts as one."""
    from flows import shelves

    number, members = shelves.rollback(context.obj, pipeline, release, reason)
    print(f"release {number} is current: base {members.base}, adapters {dict(members.adapters)}")
