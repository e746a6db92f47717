"""Registering, judging and promoting: side effects on a living registry, done by content hash.

A second call with the same artifacts registers nothing, decides nothing and moves nothing.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.catalogue import Catalogue, load
from components.gate import Gate, decide
from components.lineage import LINEAGE, content_of, read_json, value_hash
from components.promotion import Releases
from components.registry import CHAMPION, CONTENT, DECISION, Registry
from components.releases import Fit, following
from flows import evidence, tracking
from flows.registry import alone, registry


@dataclass(frozen=True)
class Candidate:
    """One registered adapter of the catalogue, with the folders that it was registered from."""

    name: str
    version: int
    folder: Path
    evaluation: Path
    prompt: tuple[str, int]


def release(
    workspace: Path, pipeline: str, parent: str | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Register `pipeline`'s artifacts, judge its adapters, promote what the gates let through.

    parent: the MLflow run to do it under; None makes one if there is anything to register.

    Returns `{"registered": [...], "decisions": {adapter: {...}}, "release": number | None}`.

    Raises:
        ValueError: an artifact is missing or does not fit those beside it, or a name belongs to
            another workspace.
    """
    catalogue = load(workspace, check_files=False)
    with alone(workspace):
        store = registry(workspace)
        releases = Releases(store, pipeline)
        with _Run(workspace, pipeline, parent) as run:
            work = _Work(store, workspace, catalogue, pipeline, run)
            base, candidates, new = _register_all(work)
            for name in new:
                say(f"registered {name}")
            decisions = _decide_all(work, candidates)
            fit = [candidate for candidate in candidates if decisions[candidate.name]["passed"]]
            found = {c.name: Fit(c.version, *c.prompt) for c in fit}
            known = catalogue.adapters_of(pipeline)
            next_one, held = following(releases.current(), base, found, known)
            for candidate in fit:
                decisions[candidate.name] = _outcome(decisions[candidate.name], held)
            for candidate in candidates:  # first: once it is champion, nothing is decided on it
                _record(work, candidate, decisions[candidate.name])
            if next_one is not None:
                releases.promote(next_one)
            current = releases.current()
    for name, decision in decisions.items():
        say(f"{name}: {decision['summary']}")
    number = current[0] if current else None
    return {"registered": new, "decisions": decisions, "release": number}


class _Run:
    """The MLflow run that registration writes to: the flow's, or one made when first needed."""

    def __init__(self, workspace: Path, pipeline: str, parent: str | None) -> None:
        self._workspace, self._pipeline, self._parent = workspace, pipeline, parent
        self._entered = False

    def __enter__(self) -> "_Run":
        return self

    def enter(self) -> str:
        """The run's id; from here on this ends it."""
        if self._parent is None:
            tags = {"kindling.pipeline": self._pipeline, "kindling.started_by": "register"}
            self._parent = tracking.start_parent(self._workspace, self._pipeline, tags)
        elif not self._entered:  # the flow has ended it, and what is logged opens it again
            tracking.note_parent(self._workspace, self._parent)
        self._entered = True
        return self._parent

    def __exit__(self, kind, error, trace) -> None:
        if self._entered:
            mlflow, ended = tracking.client(self._workspace), "FAILED" if kind else "FINISHED"
            tracking.end_parent(self._workspace, mlflow, self._parent, ended)


@dataclass(frozen=True)
class _Work:
    """What one registration works with."""

    store: Registry
    workspace: Path
    catalogue: Catalogue
    pipeline: str
    run: _Run

    def name(self, candidate: Candidate) -> str:
        """What the registry calls it."""
        return f"{self.pipeline}.{candidate.name}"


def _register_all(work: _Work) -> tuple[int, list[Candidate], list[str]]:
    """The base's version, the catalogue's adapters as registered, and what is new, to say."""
    store, pipeline = work.store, work.pipeline
    folder = work.workspace / "artifacts" / pipeline
    names = work.catalogue.adapters_of(pipeline)
    _require_fit(work.workspace / "artifacts", pipeline, names)
    base, fresh = store.register_base(pipeline, folder / "base", work.run.enter)
    new = [f"{pipeline}.base version {base}"] if fresh else []
    candidates = []
    for name in names:
        candidate, said = _register_adapter(work, name, folder, base)
        candidates.append(candidate)
        new += said
    for name, prompt in work.catalogue.prompts.items():  # those that no adapter was made with, too
        version, fresh = store.register_prompt(name, prompt.model_dump(mode="json"))
        new += [f"prompt {name} version {version}"] if fresh else []
    return base, candidates, new


def _require_fit(artifacts: Path, pipeline: str, adapters: list[str]) -> None:
    """Refuse, before anything is registered, what is missing or was made from others than stand
    beside it: a `dvc repro` of one adapter may have made a new base, which the others do not fit.
    """
    for path in ["base", *(f"{k}/{n}" for n in adapters for k in ("adapters", "evaluations"))]:
        place = artifacts / pipeline / path
        content_of(place)
        for source, content in read_json(place / LINEAGE)["inputs"].items():
            own = source.startswith((f"{pipeline}/base", f"{pipeline}/adapters/"))
            if own and content_of(artifacts / source) != content:
                raise ValueError(
                    f"{place} was made from another {source} ({content[:12]}) than the present "
                    f"one; run 'dvc repro' or 'kindling run {pipeline}' first"
                )


def _register_adapter(
    work: _Work, name: str, folder: Path, base: int
) -> tuple[Candidate, list[str]]:
    """Register adapter `name` and its prompt; also say what is new."""
    store, pipeline = work.store, work.pipeline
    adapter, evaluation = folder / "adapters" / name, folder / "evaluations" / name
    wording = read_json(adapter / "adapter.json")["prompt"]  # the catalogue's may be newer
    prompt = wording["name"]
    prompt_version, fresh = store.register_prompt(prompt, wording)
    new = [f"prompt {prompt} version {prompt_version}"] if fresh else []
    result = evidence.result_of(work.workspace, f"adapter@{name}")
    tags = {
        "kindling.prompt": prompt,
        "kindling.prompt_version": str(prompt_version),
        "kindling.evaluation": content_of(evaluation),
        "kindling.commit": evidence.commit(work.workspace),
        "kindling.stage_run": result.get("run_id", ""),
    }
    version, fresh = store.register_adapter(
        pipeline, name, adapter, evaluation, base, tags, work.run.enter
    )
    new += [f"{pipeline}.{name} version {version}"] if fresh else []
    return Candidate(name, version, adapter, evaluation, (prompt, prompt_version)), new


def _decide_all(work: _Work, candidates: list[Candidate]) -> dict[str, dict[str, Any]]:
    """A decision for each adapter, by name: the one on record, or a new one."""
    by_name = {candidate.name: candidate for candidate in candidates}
    decisions = {}
    for candidate in candidates:
        gate_name = work.catalogue.gate_of(candidate.name)
        gate = work.catalogue.gates[gate_name] if gate_name else None
        if gate is None:
            decisions[candidate.name] = _unjudged("no gate judges it")
        elif gate.baseline == candidate.name:
            decisions[candidate.name] = _unjudged("the baseline")
        else:
            decisions[candidate.name] = _decide(work, candidate, by_name[gate.baseline], gate)
    return decisions


def _unjudged(why: str) -> dict[str, Any]:
    return {"passed": False, "promoted": False, "summary": why, "reasons": [why]}


def _decide(work: _Work, candidate: Candidate, baseline: Candidate, gate: Gate) -> dict[str, Any]:
    """The decision on `candidate`; only one with a `key` is a new one, or stands on record."""
    store, name = work.store, work.name(candidate)
    recorded = _recorded(store, name, candidate.version)
    champion = store.alias(name, CHAMPION)
    if champion is not None and int(champion.version) == candidate.version:
        told = {"passed": True, "promoted": True, "summary": "champion"}
        if recorded.get("promoted", True):
            return told | {"reasons": ["it is the champion"]}
        return recorded | told | {"key": "champion"}  # it came back by another rollback
    releases = Releases(store, work.pipeline)
    left = releases.rolled_back(candidate.name, candidate.version)
    if left is not None:
        return recorded | _rolled_back(releases, candidate, left)
    key = value_hash(
        {
            "gate": gate.model_dump(mode="json"),
            "candidate": content_of(candidate.evaluation),
            "baseline": content_of(baseline.evaluation),
            "champion": champion.tags[CONTENT] if champion else None,
        }
    )
    if recorded.get("key") == key:
        return recorded
    rival = _champion_records(work, candidate, champion) if champion else None
    return decide(gate, candidate.evaluation, baseline.evaluation, rival).record(key)


def _recorded(store: Registry, name: str, version: int) -> dict[str, Any]:
    text = store.client.get_model_version(name, str(version)).tags.get(DECISION)
    return json.loads(text) if text else {}


def _rolled_back(releases: Releases, candidate: Candidate, left: int) -> dict[str, Any]:
    """Somebody decided against it, and knew more than the gate: only somebody brings it back."""
    pipeline, current = releases.pipeline, releases.current()
    if current and releases.all()[left].base == current[1].base:
        back = f"promote {pipeline}.{candidate.name} {candidate.version} --reason ..."
    else:
        back = f"rollback {pipeline} {left}"
    return {
        "key": f"release {left} was rolled back",
        "passed": False,
        "promoted": False,
        "summary": f"rolled back with release {left}; it serves again after 'kindling registry "
        f"{back}'",
    }


def _record(work: _Work, candidate: Candidate, decision: dict[str, Any]) -> None:
    """Write a decision to the run and to the version's tag, unless it stands there."""
    name = work.name(candidate)
    if "key" not in decision or decision == _recorded(work.store, name, candidate.version):
        return
    run_id = work.run.enter()
    work.store.client.log_dict(run_id, decision, f"decisions/{candidate.name}.json")
    text = json.dumps(decision)
    work.store.client.set_model_version_tag(name, str(candidate.version), DECISION, text)


def _champion_records(work: _Work, candidate: Candidate, champion) -> Path:
    """The champion's evaluation; made anew where the examples, the metric or the task's rules for
    generated answers have changed.
    """
    from components.evaluation import evaluate_adapter
    from components.reporter import Silent

    store, name, version = work.store, work.name(candidate), int(champion.version)
    records = store.records(name, version)
    terms = _terms(candidate.evaluation)
    if _terms(records) == terms:
        return records
    base = store.folder(f"{work.pipeline}.base", int(champion.tags["kindling.base"]))
    task = work.catalogue.adapters[candidate.name].task
    rows = work.workspace / "artifacts" / "tasks" / task
    judged = f"{name}-{version}-{value_hash(terms)[:12]}"
    out = work.workspace / ".kindling" / "rejudged" / judged
    if not (out / "metrics.json").is_file():
        out.mkdir(parents=True, exist_ok=True)
        evaluate_adapter(store.folder(name, version), rows, base, out, Silent())
    return out


def _terms(evaluation: Path) -> list[Any]:
    """What must be equal for a candidate to be held against a champion: what is compared, and how
    long their answers may be.
    """
    figures = read_json(evaluation / "metrics.json")
    return [figures["comparison_key"], figures.get("decoding", {}).get("max_new_tokens")]


def _outcome(decision: dict[str, Any], held: str) -> dict[str, Any]:
    """What comes of a decision that the gate passed."""
    if held:
        return decision | {"promoted": False, "summary": f"held back: {held}"}
    if decision["promoted"]:
        return decision
    return decision | {"promoted": True, "summary": f"promoted: {'; '.join(decision['reasons'])}"}
