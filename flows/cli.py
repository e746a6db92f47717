"""`kindling`: the commands. Each finds its workspace, asks another module, and prints."""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from components.catalogue import CatalogueError, load, suggestion
from flows import cli_data, cli_keys, cli_ladder, cli_registry, settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(cli_registry.app, name="registry")
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_keys.app, name="keys")
app.command()(cli_ladder.analogy)

EXPECTED = (ValueError, OSError, RuntimeError)  # what a user can mend; anything else is a defect
MEGABYTE = 10**6

Pipeline = Annotated[str, typer.Argument(help="As pipelines.yaml calls it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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
def run(
    context: typer.Context,
    pipeline: Pipeline,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the catalogue first; it stays so."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run every stage anew.")] = False,
) -> None:
    """Bring a pipeline or a ladder up to date; register a pipeline's new models and judge them."""
    from components.catalogue import edit
    from flows import locks

    _runnable(context.obj, pipeline)
    if change:
        with locks.hold(context.obj / ".kindling" / "run.lock"):  # not under a run at work
            print(edit(context.obj, change) or "--set: the catalogue says so already")
    from flows import summary
    from flows.pipeline import pipeline as flow

    summary.text(flow(pipeline, workspace=str(context.obj), force=force))


@app.command()
def join(
    context: typer.Context,
    stage: Annotated[str, typer.Argument(metavar="base@PIPELINE", help="What trains.")],
    node: Annotated[int, typer.Option(min=1, help="Which of compute.nodes this one is.")] = 1,
) -> None:
    """Train together with the machine that runs a pipeline, once it has come to that."""
    from flows.nodes import join as start

    start(context.obj, stage, node)


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="A new or empty folder.")],
) -> None:
    """Make a new workspace with a commented catalogue that runs as it is."""
    from flows.workspace import make

    name = make(directory)
    print(f"made {directory}. Next:\n  cd {directory}\n  kindling run {name}")


@app.command()
def serve(
    context: typer.Context,
    pipeline: Pipeline,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    alias: Annotated[str, typer.Option(help="Serve these registered versions.")] = "champion",
    base: Annotated[
        Path | None, typer.Option(help="A base folder, instead of the registry.")
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="An adapter folder on --base; may be repeated."),
    ] = None,
) -> None:
    """Serve a pipeline's base and adapters to OpenAI clients."""
    from flows.serving import serve as start

    start(context.obj, pipeline, host, port, alias, base, adapter or [])


@app.command()
def register(context: typer.Context, pipeline: Pipeline) -> None:
    """Register and judge a pipeline's artifacts, as after a bare 'dvc repro'."""
    from flows.release import release

    _known(context.obj, pipeline)
    told = release(context.obj, pipeline, None, print)
    if not told["registered"]:
        print("everything was registered already")


@app.command()
def compare(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A comparison, or a task: then of its adapters.")],
    file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write it there too; -: print it.")
    ] = None,
) -> None:
    """Show what a comparison found and which adaptation to ship, or compare a task's adapters."""
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
        typer.Option(metavar="TASK.yaml", help="Judge by this task of lm-evaluation-harness."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there too.")
    ] = None,
) -> None:
    """Bring a pipeline's evaluations up to date, without registering or promoting."""
    from components.lineage import write_json
    from flows import evaluation
    from flows import harness as bridge

    catalogue = _known(context.obj, pipeline)
    figures: dict[str, Any] = {}
    if harness is None:
        for name, one in evaluation.evaluate(context.obj, catalogue, pipeline, print):
            figures[name] = one
            low, high = one["interval"]
            print(f"{name}: {one['metric']} {one['score']:.3f} [{low:.3f}, {high:.3f}]")
    else:
        figures.update(bridge.evaluate(context.obj, catalogue, pipeline, harness, print))
        print(bridge.table(figures))
    if json_file:
        write_json(json_file, figures)


@app.command()
def trace(
    context: typer.Context,
    identity: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="A response id, fingerprint, registered version or artifact folder.",
        ),
    ] = None,
    changed: Annotated[
        str | None, typer.Option(metavar="FILE", help="Say what a change of FILE would rebuild.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what made an answer, a version or a folder: data, blocks, commits, runs."""
    from flows import graph
    from flows import trace as tracing

    if not identity and not changed:
        raise CatalogueError("give an ID, or --changed FILE; see 'kindling trace --help'")
    told: dict[str, Any] = tracing.explain(context.obj, identity) if identity else {}
    if changed:
        told["changed"] = changed
        told["rebuilt"] = graph.affected(context.obj, changed)
    if as_json:
        print(json.dumps(told, indent=1, ensure_ascii=False))
        return
    if identity:
        print(tracing.text(told))
    if changed:
        print(f"a change of {changed} rebuilds:", *told["rebuilt"], sep="\n  ")


@app.command()
def doctor(context: typer.Context) -> None:
    """Check interpreter, pins, catalogue, disk, locks, ports, artifacts and registry."""
    from flows import care

    findings = list(care.doctor(context.obj))
    for fine, what, said in findings:
        print(f"{'ok  ' if fine else 'FAIL'} {what:12} {said}")
    raise typer.Exit(0 if all(fine for fine, _, _ in findings) else 1)


@app.command()
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Say what is up to date, at work, and released."""
    from flows import care

    told = care.status(context.obj)
    if as_json:
        print(json.dumps(told, indent=1))
        return
    for name, who in told["running"].items():
        print(f"at work: {name} ({who})")
    for pipeline, entry in told["pipelines"].items():
        stale = [stage for stage, state in entry["stages"].items() if state == "stale"]
        print(
            f"{pipeline}: {len(entry['stages']) - len(stale)} stages up to date, {len(stale)} not"
        )
        print(*(f"  stale: {stage}" for stage in stale), sep="\n", end="\n" if stale else "")
        release = entry["release"]
        members = [f"{n} {v}" for n, v in release["adapters"].items()] if release else []
        shown = (
            f"release {release['number']}: base {release['base']}, " if release else "no release"
        )
        print(f"  {shown}{', '.join(members)}")
        if entry["registered"]:
            newest = ", ".join(f"{name} {number}" for name, number in entry["registered"].items())
            print(f"  newest versions: {newest}")


@app.command()
def clean(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Free disk space: shows what would go, then asks."""
    from flows import cleaning

    paths = []
    for what, found in cleaning.leftovers(context.obj).items():
        print(f"{what}: {sum(map(cleaning.size, found)) / MEGABYTE:.1f} MB")
        print(*(f"  {path.relative_to(context.obj)}" for path in found), sep="\n")
        paths += found
    runs = cleaning.lost_runs(context.obj)
    print(f"MLflow runs that failed or were killed and lead nowhere: {len(runs)}")
    print(*(f"  {run.info.run_id} {run.info.run_name} {run.info.status}" for run in runs), sep="\n")
    print("DVC's cache: results that no workspace of this repository names any more")
    print(cleaning.unused_cache(context.obj))
    if yes or typer.confirm("delete them?"):
        cleaning.clean(context.obj, paths, runs)
        print("done")


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


if __name__ == "__main__":
    main()
