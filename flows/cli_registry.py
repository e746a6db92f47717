"""`kindling registry`: what is registered, and moving it by hand."""

import json
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Registered versions and releases.")


@app.command("list")
def list_versions(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List registered versions, their aliases, and releases."""
    from flows import shelves

    told = shelves.listing(context.obj)
    print(json.dumps(told, indent=1) if as_json else shelves.text(told))


@app.command()
def promote(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PIPELINE.ADAPTER")],
    version: Annotated[int, typer.Argument()],
    reason: Annotated[str, typer.Option(help="Why, against or without a gate.")],
) -> None:
    """Put a version into a new release by hand; the reason is kept."""
    from flows import shelves

    print(shelves.promote(context.obj, name, version, reason))


@app.command()
def rollback(
    context: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="As pipelines.yaml calls it.")],
    release: Annotated[int | None, typer.Argument(help="Default: the one before.")] = None,
) -> None:
    """Serve an earlier release again: base, adapters and prompts as one."""
    from flows.release import registry

    number, members = registry(context.obj).rollback(pipeline, release)
    print(f"release {number} is current: base {members.base}, adapters {dict(members.adapters)}")
