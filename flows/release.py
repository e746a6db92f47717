"""Registering, judging and promoting: side effects on a living registry, done by content hash.

A second call with the same artifacts registers nothing, decides nothing and moves nothing.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.catalogue import Catalogue, load
from components.lineage import content_of, read_json, value_hash
from components.registry import CONTENT, DECISION, Registry, Release
from flows import evidence, locks, settings, tracking

if TYPE_CHECKING:
    from components.gate import Decision

REASON_LENGTH = 4000  # MLflow keeps at most 5,000 characters of a tag


@dataclass(frozen=True)
class Candidate:
    """One registered adapter of the catalogue, with the folders that it was registered from."""

    name: str
    version: int
    folder: Path
    evaluation: Path
    prompt: tuple[str, int]


def workspace_name(workspace: Path) -> str:
    """What a workspace is called in the registry: its place in the repository."""
    home = settings.home(workspace.resolve())
    place = workspace.resolve().relative_to(home.resolve()).as_posix()
    return home.name if place == "." else place


def registry(workspace: Path) -> Registry:
    tracking.client(workspace)  # makes the store's tables under a lock
    return Registry(settings.tracking_uri(workspace), workspace_name(workspace))


def release(
    workspace: Path, pipeline: str, parent: str | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Register `pipeline`'s artifacts, judge its adapters, promote what the gates let through.

    parent: the MLflow run to do it under; None makes one if there is anything to register.

    Returns `{"registered": [...], "decisions": {adapter: {...}}, "release": number | None}`.

    Raises:
        ValueError: an artifact is missing, or a name belongs to another workspace.
    """
    catalogue = load(workspace, check_files=False)
    with locks.hold(settings.home(workspace) / ".kindling" / "registry.lock", wait=300):
        store = registry(workspace)
        with _Run(workspace, pipeline, parent) as run:
            base, candidates, new = _register_all(store, workspace, catalogue, pipeline, run)
            for name in new:
                say(f"registered {name}")
            decisions = _decide_all(store, workspace, catalogue, pipeline, candidates, run)
            number = _promote(store, pipeline, base, candidates, decisions)
    for name, decision in decisions.items():
        say(f"{name}: {decision['summary']}")
    return {"registered": new, "decisions": decisions, "release": number}


class _Run:
    """The MLflow run that registration writes to: the flow's, or one made when first needed."""

    def __init__(self, workspace: Path, pipeline: str, parent: str | None) -> None:
        self._workspace, self._pipeline, self._parent = workspace, pipeline, parent
        self._own = False

    def __enter__(self) -> "_Run":
        return self

    def enter(self) -> str:
        """The run's id; from here on it is MLflow's active run."""
        import mlflow

        if mlflow.active_run() is None:
            if self._parent is None:
                tags = {"kindling.pipeline": self._pipeline, "kindling.started_by": "register"}
                self._parent = tracking.start_parent(self._workspace, self._pipeline, tags)
                self._own = True
            mlflow.start_run(run_id=self._parent)
        return self._parent

    def __exit__(self, kind, error, trace) -> None:
        import mlflow

        if mlflow.active_run() is not None:
            mlflow.end_run("FAILED" if kind else "FINISHED")


def _register_all(
    store: Registry, workspace: Path, catalogue: Catalogue, pipeline: str, run: _Run
) -> tuple[int, list[Candidate], list[str]]:
    folder = workspace / "artifacts" / pipeline
    names = catalogue.adapters_of(pipeline)
    for path in ["base", *(f"{k}/{n}" for n in names for k in ("adapters", "evaluations"))]:
        content_of(folder / path)  # all must be there before anything is registered
    if store.with_content(f"{pipeline}.base", content_of(folder / "base")) is None:
        run.enter()
    base, fresh = store.register_base(pipeline, folder / "base")
    new = [f"{pipeline}.base version {base}"] if fresh else []
    candidates = []
    for name in names:
        task = catalogue.tasks[catalogue.adapters[name].task]
        prompt = catalogue.prompts[task.prompt].model_dump(mode="json")
        prompt_version, fresh = store.register_prompt(task.prompt, prompt)
        new += [f"prompt {task.prompt} version {prompt_version}"] if fresh else []
        adapter, evaluation = folder / "adapters" / name, folder / "evaluations" / name
        if store.with_content(f"{pipeline}.{name}", content_of(adapter)) is None:
            run.enter()
        tags = {
            "kindling.prompt": task.prompt,
            "kindling.prompt_version": str(prompt_version),
            "kindling.evaluation": content_of(evaluation),
            "kindling.commit": evidence.commit(workspace),
            "kindling.stage_run": evidence.result_of(workspace, f"adapter@{name}").get(
                "run_id", ""
            ),
        }
        version, fresh = store.register_adapter(pipeline, name, adapter, evaluation, base, tags)
        new += [f"{pipeline}.{name} version {version}"] if fresh else []
        candidates.append(
            Candidate(name, version, adapter, evaluation, (task.prompt, prompt_version))
        )
    return base, candidates, new


def _decide_all(
    store: Registry,
    workspace: Path,
    catalogue: Catalogue,
    pipeline: str,
    candidates: list[Candidate],
    run: _Run,
) -> dict[str, dict[str, Any]]:
    """A decision for each adapter, by name: the one on record, or a new one."""
    by_name = {candidate.name: candidate for candidate in candidates}
    decisions = {}
    for candidate in candidates:
        gate_name = catalogue.gate_of(candidate.name)
        if gate_name is None:
            decisions[candidate.name] = _unjudged("no gate judges it")
            continue
        gate = catalogue.gates[gate_name]
        if gate.baseline == candidate.name:
            decisions[candidate.name] = _unjudged("the baseline")
            continue
        baseline = by_name[gate.baseline]
        decisions[candidate.name] = _decide(
            store, workspace, pipeline, candidate, baseline, gate, run
        )
    return decisions


def _unjudged(why: str) -> dict[str, Any]:
    return {"promoted": False, "summary": why, "reasons": [why]}


def _decide(
    store: Registry,
    workspace: Path,
    pipeline: str,
    candidate: Candidate,
    baseline: Candidate,
    gate,
    run: _Run,
) -> dict[str, Any]:
    import mlflow

    from components.gate import decide

    name = f"{pipeline}.{candidate.name}"
    champion = store.alias(name, "champion")
    if champion is not None and int(champion.version) == candidate.version:
        return {"promoted": True, "summary": "champion", "reasons": ["it is the champion"]}
    key = value_hash(
        [
            gate.model_dump(mode="json"),
            content_of(candidate.evaluation),
            content_of(baseline.evaluation),
            champion.tags[CONTENT] if champion else None,
        ]
    )
    recorded = store.client.get_model_version(name, str(candidate.version)).tags.get(DECISION)
    if recorded and json.loads(recorded)["key"] == key:
        return json.loads(recorded)
    rival = _champion_records(store, workspace, name, candidate, champion) if champion else None
    decision = _plain(decide(gate, candidate.evaluation, baseline.evaluation, rival), key)
    run_id = run.enter()
    mlflow.log_dict(decision, f"decisions/{candidate.name}.json", run_id=run_id)
    text = json.dumps(decision)
    if len(text) > REASON_LENGTH:
        text = json.dumps(decision | {"reasons": ["see the run's artifact"]})
    store.client.set_model_version_tag(name, str(candidate.version), DECISION, text)
    return decision


def _plain(decision: "Decision", key: str) -> dict[str, Any]:
    word = "promoted" if decision.promoted else "refused"
    summary = f"{word}: {'; '.join(decision.reasons)}"
    return {
        "key": key,
        "promoted": decision.promoted,
        "reasons": list(decision.reasons),
        "summary": summary,
    }


def _champion_records(
    store: Registry, workspace: Path, name: str, candidate: Candidate, champion
) -> Path:
    """The champion's evaluation; made anew where the examples or the metric have changed."""
    from components.evaluation import evaluate_adapter
    from components.reporter import Silent

    version = int(champion.version)
    records = store.records(name, version)
    new = read_json(candidate.evaluation / "metrics.json")
    if read_json(records / "metrics.json")["comparison_key"] == new["comparison_key"]:
        return records
    pipeline = name.split(".")[0]
    base = store.folder(f"{pipeline}.base", int(champion.tags["kindling.base"]))
    catalogue = load(workspace, check_files=False)
    task = workspace / "artifacts" / "tasks" / catalogue.adapters[candidate.name].task
    out = workspace / ".kindling" / "rejudged" / f"{name}-{version}-{new['comparison_key'][:12]}"
    if not (out / "metrics.json").is_file():
        out.mkdir(parents=True, exist_ok=True)
        evaluate_adapter(store.folder(name, version), task, base, out, Silent())
    return out


def _promote(
    store: Registry,
    pipeline: str,
    base: int,
    candidates: list[Candidate],
    decisions: dict[str, dict[str, Any]],
) -> int | None:
    """Make a release of what was promoted; return the number of the current one.

    Members of the current release on the same base stay. On another base they cannot: the release
    moves only when each of them has a promoted successor, and their decisions say so otherwise.
    """
    current = store.current(pipeline)
    number, members = current if current else (None, None)
    fit = [c for c in candidates if decisions[c.name]["promoted"]]
    kept: dict[str, int] = {}
    prompts: dict[str, int] = {}
    if members is not None and members.base == base:
        kept, prompts = dict(members.adapters), dict(members.prompts)
    elif members is not None:
        behind = sorted(set(members.adapters) - {c.name for c in fit})
        if behind:
            for candidate in fit:
                held = (
                    f"held back: {', '.join(behind)} of release {number} lack a fit on base {base}"
                )
                decisions[candidate.name] |= {"promoted": False, "summary": held}
            return number
    for candidate in fit:
        kept[candidate.name] = candidate.version
        prompts[candidate.prompt[0]] = candidate.prompt[1]
    proposed = Release(base, kept, prompts, reason="gate")
    if not fit or (
        members and (members.base, members.adapters, members.prompts) == (base, kept, prompts)
    ):
        return number
    return store.promote(pipeline, proposed)
