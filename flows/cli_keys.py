"""`kindling keys`: who may ask the server."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="API keys of the server.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, as logs call it.")]


@app.command()
def add(
    context: typer.Context,
    name: Name,
    model: Annotated[
        list[str] | None,
        typer.Option(help="It may ask this model, and others so named; else all."),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(min=1, help="Requests a minute, else serving.requests_per_minute."),
    ] = None,
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    print(_keys(context).add(name, model or None, rate))


@app.command("list")
def list_keys(context: typer.Context) -> None:
    """List the keys: name, models, rate, since when."""
    for key in _keys(context).all():
        models = "all models" if key.models is None else ", ".join(key.models)
        rate = f"{key.requests_per_minute or 'default'} a minute"
        print(f"{key.name}: {models}; {rate}; since {key.created}")


@app.command()
def revoke(context: typer.Context, name: Name) -> None:
    """End a key; a running server refuses it at once."""
    _keys(context).revoke(name)
    print(f"revoked {name}")


def _keys(context: typer.Context):
    from components.serving.keys import FILE, Keys

    return Keys(context.obj / FILE)
