"""`kindling trace`, `status`, `doctor`, `clean`: looking after a workspace and its results."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from components.catalogue import CatalogueError, load

MEGABYTE = 10**6


def doctor(context: typer.Context) -> None:
    """Check interpreter, pins, catalogue, disk, locks, ports, artifacts and registry."""
    from flows import care

    findings = list(care.doctor(context.obj))
    for fine, what, said in findings:
        print(f"{'ok  ' if fine else 'FAIL'} {what:12} {said}")
    raise typer.Exit(0 if all(fine for fine, _, _ in findings) else 1)


def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Show what is up to date, running, and released."""
    from flows import care

    told = care.status(context.obj)
    if as_json:
        print(json.dumps(told, indent=1))
        return
    for name, who in told["running"].items():
        print(f"at work: {name} ({who})")
    for ladder, entry in told["ladders"].items():
        _print_stages(ladder, entry["stages"])
    for pipeline, entry in told["pipelines"].items():
        _print_stages(pipeline, entry["stages"])
        release = entry["release"]
        members = [f"{n} {v}" for n, v in release["adapters"].items()] if release else []
        shown = (
            f"release {release['number']}: base {release['base']}, " if release else "no release"
        )
        print(f"  {shown}{', '.join(members)}")
        if entry["registered"]:
            newest = ", ".join(f"{name} {number}" for name, number in entry["registered"].items())
            print(f"  newest versions: {newest}")


def _print_stages(name: str, stages: Mapping[str, str]) -> None:
    others = {stage: state for stage, state in stages.items() if state != "up to date"}
    print(f"{name}: {len(stages) - len(others)} stages up to date, {len(others)} not")
    for stage, state in others.items():
        print(f"  {state}: {stage}")


def clean(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    checkpoints: Annotated[
        bool,
        typer.Option(
            "--checkpoints",
            help="Also those from which interrupted stages would go on; they begin anew then.",
        ),
    ] = False,
) -> None:
    """Free disk space: list what can be deleted, then ask.

    These are checkpoints that no stage goes on from, half-written folders, evaluations made for the
    gate, trials of comparisons and ladders, MLflow runs that failed, and results in DVC's cache
    that no workspace names any more. Data stays that a commit or an MLflow run names.
    """
    from flows import cleaning

    load(context.obj, check_files=False)  # refuses a folder that is no workspace, touching nothing
    paths, leftovers = [], cleaning.leftovers(context.obj)
    interrupted = cleaning.interrupted(context.obj)
    if checkpoints:
        leftovers["checkpoints from which interrupted stages would go on"] = interrupted
    elif interrupted:
        size = sum(map(cleaning.size, interrupted)) / MEGABYTE
        print(f"kept: {size:.1f} MB of interrupted stages, which go on from there (--checkpoints)")
    for what, found in leftovers.items():
        print(f"{what}: {sum(map(cleaning.size, found)) / MEGABYTE:.1f} MB")
        print(*(f"  {path.relative_to(context.obj)}" for path in found), sep="\n")
        paths += found
    runs = cleaning.lost_runs(context.obj)
    print(f"MLflow runs that failed or were killed and lead nowhere: {len(runs)}")
    print(*(f"  {run.info.run_id} {run.info.run_name} {run.info.status}" for run in runs), sep="\n")
    print(
        "DVC's cache: results that no workspace of this repository names any more, and data that "
        "neither a commit nor an MLflow run names"
    )
    print(cleaning.collect(context.obj, dry=True))
    if yes or typer.confirm("delete them?"):
        cleaning.clean(context.obj, paths, runs)
        print("done")


def trace(
    context: typer.Context,
    identity: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="An answer's id or fingerprint, a registered version, or an artifact folder.",
        ),
    ] = None,
    changed: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="List the stages that a change of FILE would run again."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Show what made an answer, a version or a folder: data, settings, commits, runs."""
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
