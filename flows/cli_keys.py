"""`kindling keys`: who may ask the server."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Manage API keys of the server.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; shown in logs.")]


@app.command()
def add(
    context: typer.Context,
    name: Name,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Allow this model alone; repeatable. Default: all."),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(min=1, help="Requests a minute. Default: serving.requests_per_minute."),
    ] = None,
) -> None:
    """Make a key and print it. It is shown only now: just its hash is kept."""
    _require_models(context.obj, model or [])
    print(_keys(context).add(name, model or None, rate))


@app.command("list")
def list_keys(context: typer.Context) -> None:
    """List keys: name, models, rate, and when they were made."""
    keys = _keys(context).all()
    if not keys:
        typer.echo("no keys; make one with 'kindling keys add NAME'", err=True)
    for key in keys:
        models = "all models" if key.models is None else ", ".join(key.models)
        rate = f"{key.requests_per_minute or 'default'} a minute"
        print(f"{key.name}: {models}; {rate}; since {key.created}")


@app.command()
def revoke(context: typer.Context, name: Name) -> None:
    """End a key; a running server refuses it at once."""
    _keys(context).revoke(name)
    print(f"revoked {name}")


def _require_models(workspace: Path, models: list[str]) -> None:
    """Refuse a model that this workspace never serves: a key for it would open nothing."""
    from components.catalogue import FILE, load
    from components.mistakes import suggestion
    from components.serving.engine import BASE
    from components.serving.keys import KeyFileError

    if models and not (workspace / FILE).is_file():
        said = f"{workspace} has no {FILE}, so whether there are such models is not known"
        typer.echo(f"{said}: {', '.join(models)}", err=True)
        return
    known = [BASE, *load(workspace, check_files=False).adapters] if models else []
    for model in models:
        if model not in known:
            raise KeyFileError(f"no model '{model}'{suggestion(model, known)}")


def _keys(context: typer.Context):
    from components.serving.keys import FILE, Keys

    return Keys(context.obj / FILE)
