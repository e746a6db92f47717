"""`kindling`: the commands. Each finds its workspace, asks another module, and prints."""

import json
import signal
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from components.catalogue import CatalogueError, load, suggestion
from flows import cli_care, cli_data, cli_keys, cli_ladder, cli_registry, settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},  # sub-commands inherit it
)
app.add_typer(cli_registry.app, name="registry")
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_keys.app, name="keys")

EXPECTED = (ValueError, OSError, RuntimeError)  # what a user can mend; anything else is a defect

LONG = ("run", "evaluate", "join")  # they outlast an MLflow that is away for minutes

NAMED = "Its name under 'pipelines' in pipelines.yaml."
Pipeline = Annotated[str, typer.Argument(metavar="PIPELINE", help=NAMED)]


def _version(asked: bool) -> None:
    if asked:
        print(f"kindling {metadata.version('kindling')}")
        raise typer.Exit


@app.callback()
def workspace(
    context: typer.Context,
    directory: Annotated[Path, typer.Option("-C", help="The workspace to work in.")] = Path("."),
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print it and end."),
    ] = False,
) -> None:
    """Train a small language model, adapt it to tasks, judge, serve and trace the results.

    Commands work on a workspace: a folder with a pipelines.yaml. 'kindling init DIR' makes one.
    """
    context.obj = directory.resolve()
    if not context.obj.is_dir():
        raise CatalogueError(f"-C {directory}: no such folder")
    if context.invoked_subcommand != "init":
        settings.apply(context.obj)
    if context.invoked_subcommand not in LONG:
        settings.make_haste()


def _known(where: Path, pipeline: str) -> Any:
    """The catalogue, which has `pipeline`."""
    catalogue = load(where)
    if pipeline not in catalogue.pipelines:
        raise CatalogueError(f"no pipeline '{pipeline}'{suggestion(pipeline, catalogue.pipelines)}")
    return catalogue


def _runnable(where: Path, name: str) -> None:
    """Refuse what is neither a pipeline nor a ladder."""
    targets = load(where).targets
    if name not in targets:
        raise CatalogueError(f"no pipeline or ladder '{name}'{suggestion(name, targets)}")


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
) -> None:
    """Make a workspace whose commented pipelines.yaml runs as it is."""
    from flows.workspace import make

    name = make(directory)
    print(f"made {directory}. Next:\n  cd {directory}\n  kindling run {name}")


@app.command()
def run(
    context: typer.Context,
    pipeline: Annotated[
        str, typer.Argument(metavar="PIPELINE", help="A pipeline or a ladder of pipelines.yaml.")
    ],
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change this key of pipelines.yaml first, for good; repeatable.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run every stage again, even those that are up to date.")
    ] = False,
) -> None:
    """Run what is out of date; register, judge and promote what is new."""
    from components import locks
    from components.catalogue import edit

    _runnable(context.obj, pipeline)
    if change:
        with locks.hold(context.obj / ".kindling" / "run.lock"):  # not under a run at work
            print(edit(context.obj, change) or "--set: the catalogue says so already")
    from flows import leash, summary
    from flows.pipeline import pipeline as flow

    leash.start_server()
    summary.text(flow(pipeline, workspace=str(context.obj), force=force))


@app.command()
def join(
    context: typer.Context,
    stage: Annotated[str, typer.Argument(metavar="base@PIPELINE", help="The stage to help train.")],
    node: Annotated[
        int, typer.Option(min=1, help="The number of this machine, below compute.nodes.")
    ] = 1,
) -> None:
    """Pretrain together with another machine that runs the pipeline; waits until it begins."""
    from flows.nodes import join as start

    start(context.obj, stage, node)


@app.command()
def serve(
    context: typer.Context,
    pipeline: Pipeline,
    host: Annotated[
        str, typer.Option(help="Address to listen on; off loopback it needs API keys.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")
    ] = 8000,
    alias: Annotated[
        str, typer.Option(help="Serve the registered versions with this alias.")
    ] = "champion",
    base: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Serve this base folder instead of the registry's."),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="An adapter folder for --base; repeatable."),
    ] = None,
) -> None:
    """Serve a pipeline's base and adapters over OpenAI's API, with a playground."""
    from flows.serving import serve as start

    start(context.obj, pipeline, host, port, alias, base, adapter or [])


@app.command()
def register(context: typer.Context, pipeline: Pipeline) -> None:
    """Register and judge what is made already, such as by a bare 'dvc repro'."""
    from components import locks
    from flows.release import release

    _known(context.obj, pipeline)
    with locks.hold(context.obj / ".kindling" / "run.lock"):  # a run at work makes what it reads
        told = release(context.obj, pipeline, None, print)
    if not told["registered"]:
        print("everything was registered already")


@app.command()
def compare(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A comparison, or a task whose adapters to compare."),
    ],
    file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Write it to FILE as JSON too; -: print only JSON."
        ),
    ] = None,
) -> None:
    """Show which adaptation a comparison would ship, or compare a task's adapters."""
    from components.lineage import write_json
    from flows import comparing

    told = comparing.compare(context.obj, load(context.obj), name)
    if file == Path("-"):
        print(json.dumps(told, indent=1, ensure_ascii=False))
        return
    comparing.show(told)
    if file:
        write_json(file, told)


@app.command()
def evaluate(
    context: typer.Context,
    pipeline: Pipeline,
    harness: Annotated[
        Path | None,
        typer.Option(
            metavar="TASK.yaml", help="Score on this task of lm-evaluation-harness instead."
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Write the figures to FILE as JSON too; -: print only."
        ),
    ] = None,
) -> None:
    """Bring a pipeline's scores up to date; register and promote nothing."""
    from components.lineage import write_json
    from flows import evaluation
    from flows import harness as bridge

    catalogue = _known(context.obj, pipeline)
    figures: dict[str, Any] = {}
    only = json_file == Path("-")
    say = partial(print, file=sys.stderr) if only else print
    if harness is None:
        for name, one in evaluation.evaluate(context.obj, catalogue, pipeline, say):
            figures[name] = one
            low, high = one["interval"]
            say(f"{name}: {one['metric']} {one['score']:.3f} [{low:.3f}, {high:.3f}]")
    else:
        figures.update(bridge.evaluate(context.obj, catalogue, pipeline, harness, say))
        say(bridge.table(figures))
    if only:
        print(json.dumps(figures, indent=1, ensure_ascii=False))
    elif json_file:
        write_json(json_file, figures)


for _command in (cli_care.trace, cli_care.status, cli_care.doctor, cli_care.clean):
    app.command()(_command)
app.command()(cli_ladder.analogy)


def _ended(number: int, _frame: Any) -> None:
    """As Ctrl-C: what runs at exit runs, and stops Prefect's own server; the default would not."""
    sys.exit(128 + number)


def main() -> None:
    """The console script: expected errors are told in a line, without a traceback."""
    signal.signal(signal.SIGTERM, _ended)
    try:
        app()
    except EXPECTED as error:
        sys.exit(f"kindling: {error}")
    except Exception as error:
        from components.asking import away
        from flows import tracking

        if not tracking.is_stores(error):
            raise
        uri = settings.tracking_uri(Path.cwd())  # which `apply` has set
        sys.exit(f"kindling: {away(uri, error)}")


if __name__ == "__main__":
    main()
