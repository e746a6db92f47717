"""Lineage backwards: from an answer, a version or a folder to the data, blocks, commits and runs.

Content hashes lead the way. A folder that was rebuilt since is found in MLflow, where each stage's
run keeps its `lineage.json`, so an old answer stays explained.
"""

import json
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from components.catalogue import load, suggestion
from components.lineage import LINEAGE, read_json
from components.serving import fingerprints
from flows import graph, tracking

WIDTH = 100  # columns of what is told
INDENTED = {"initial_indent": " " * 2, "subsequent_indent": " " * 12, "break_on_hyphens": False}
VERSION = re.compile(r"^(?:models:/)?([\w-]+\.[\w-]+)(?:[/@]([\w-]+))?$")


class TraceError(ValueError):
    """Nothing is known of an id; the message says what kinds of id there are."""


@dataclass
class _Sources:
    """Where lineage is looked up."""

    workspace: Path
    mlflow: Any
    dvc: dict[str, str]
    experiments: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, workspace: Path, wait: bool) -> "_Sources":
        mlflow = tracking.client(workspace)
        experiments = [e.experiment_id for e in mlflow.search_experiments()]
        return cls(workspace, mlflow, graph.locked_hashes(workspace, wait), experiments)

    def runs(self, content: str) -> list[Any]:
        wanted = f"tags.`kindling.content` = '{content}'"
        return list(self.mlflow.search_runs(self.experiments, wanted))

    def lineage(self, path: str, content: str, runs: list[Any]) -> dict[str, Any] | None:
        """The lineage of `content`: from its folder if that still holds it, else from its run."""
        here = self.workspace / "artifacts" / path / LINEAGE
        if here.is_file() and read_json(here)["content"] == content:
            return read_json(here)
        for run in runs:
            kept = [entry.path for entry in self.mlflow.list_artifacts(run.info.run_id)]
            if LINEAGE in kept:
                with TemporaryDirectory() as folder:
                    file = self.mlflow.download_artifacts(run.info.run_id, LINEAGE, folder)
                    return read_json(Path(file))
        return None


def explain(workspace: Path, identity: str) -> dict[str, Any]:
    """Everything known of a response id, fingerprint, registered version or artifact folder.

    Returns `id`, `kind`, what the id itself says, and `chain`: one entry for each artifact behind
    it, the nearest first, with its content hash, DVC hash, stage, catalogue block, library
    versions, what it was made from (artifacts as `inputs`, files and folders with DVC's hashes as
    `data`), and the MLflow runs that made it, with their commit.

    Raises:
        TraceError: nothing is known of `identity`.
        graph.TornLock: `dvc.lock` is torn.
    """
    folder = Path(identity) if Path(identity).is_absolute() else workspace / identity
    if folder.is_dir():
        return _of_folder(workspace, folder, identity)
    digest = fingerprints.digest_of(identity)
    if digest and (workspace / fingerprints.FOLDER / f"{digest}.json").is_file():
        if fingerprints.Fingerprints(workspace / fingerprints.FOLDER).given(identity) is None:
            raise TraceError(
                f"no server of this workspace gave an answer with the id '{identity}'; what its "
                f"fingerprint stands for is known: 'kindling trace fp_{digest}'"
            )
        return of_answer(workspace, identity)
    if VERSION.match(identity):
        return _of_version(workspace, identity)
    load(workspace, check_files=False)  # in a folder that is no workspace nothing can be known
    known = [f"fp_{p.stem}" for p in (workspace / fingerprints.FOLDER).glob("*.json")]
    raise TraceError(
        f"nothing is known of '{identity}'{suggestion(identity, known)}; give the id or "
        "system_fingerprint of an answer, a registered version such as quickstart.lora/1 or "
        "quickstart.lora@champion, or a folder such as artifacts/quickstart/base"
    )


def _of_folder(workspace: Path, folder: Path, identity: str) -> dict[str, Any]:
    if not (folder / LINEAGE).is_file():
        raise TraceError(f"{identity} has no {LINEAGE}: no stage made it")
    artifacts = (workspace / "artifacts").resolve()
    resolved = folder.resolve()
    inside = resolved.is_relative_to(artifacts)
    path = resolved.relative_to(artifacts).as_posix() if inside else resolved.name
    content = read_json(folder / LINEAGE)["content"]
    chain = _chain(_Sources.of(workspace, wait=True), [(path, content)])
    return {"id": identity, "kind": "artifact", "chain": chain}


def of_answer(workspace: Path, identity: str, wait: bool = True) -> dict[str, Any]:
    """As `explain`, of an answer that was given. wait: see `graph.locked_hashes`.

    Raises:
        graph.Busy, graph.TornLock: see `graph.locked_hashes`.
    """
    digest = fingerprints.digest_of(identity)
    record = read_json(workspace / fingerprints.FOLDER / f"{digest}.json")
    starts = [
        (part["path"], part["content"])
        for part in (record.get("adapter"), record["base"])
        if part and part.get("content")
    ]
    chain = _chain(_Sources.of(workspace, wait), starts)
    return {"id": identity, "kind": "answer", "record": record, "chain": chain}


def _of_version(workspace: Path, identity: str) -> dict[str, Any]:
    from components.registry import CONTENT, DECISION
    from flows.registry import registry

    name, which = VERSION.match(identity).groups()
    store = registry(workspace)
    versions = {v.version: v for v in store.versions(name)}
    if which is None:
        found = list(versions.values())[-1] if versions else None
    else:
        found = versions.get(which) or versions.get(int(which) if which.isdigit() else -1)
        found = found or store.alias(name, which)
    if found is None:
        numbers = ", ".join(map(str, versions)) or "none"
        raise TraceError(f"no registered version '{identity}'; versions of {name}: {numbers}")
    pipeline, adapter = name.split(".", 1)
    path = f"{pipeline}/base" if adapter == "base" else f"{pipeline}/adapters/{adapter}"
    starts = [(path, found.tags[CONTENT])]
    if "kindling.base_content" in found.tags:
        starts.append((f"{pipeline}/base", found.tags["kindling.base_content"]))
    about = {key.removeprefix("kindling."): value for key, value in found.tags.items()}
    about["decision"] = found.tags.get(DECISION, "")
    record = {"name": name, "version": int(found.version), "tags": about}
    chain = _chain(_Sources.of(workspace, wait=True), starts)
    return {"id": identity, "kind": "registered version", "record": record, "chain": chain}


def _chain(sources: _Sources, starts: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """The artifacts behind `starts`, each once, the nearest first."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    waiting = list(starts)
    while waiting:
        path, content = waiting.pop(0)
        if (path, content) in found:
            continue
        runs = sources.runs(content)
        lineage = sources.lineage(path, content, runs) or {}
        found[path, content] = {
            "artifact": f"artifacts/{path}",
            "content": content,
            "dvc": _dvc_hash(sources, path, content),
            "stage": lineage.get("stage"),
            "block": lineage.get("block"),
            "versions": lineage.get("versions"),
            "inputs": lineage.get("inputs"),
            "data": lineage.get("data"),
            "runs": [_run(run) for run in runs],
        }
        waiting += (lineage.get("inputs") or {}).items()
    return list(found.values())


def _dvc_hash(sources: _Sources, path: str, content: str) -> str | None:
    """DVC's hash of the folder, if it holds that content now."""
    here = sources.workspace / "artifacts" / path / LINEAGE
    current = here.is_file() and read_json(here)["content"] == content
    return sources.dvc.get(f"artifacts/{path}") if current else None


def _run(run: Any) -> dict[str, str]:
    tags = run.data.tags
    return {
        "run_id": run.info.run_id,
        "parent": tags.get(tracking.PARENT, ""),
        "commit": tags.get("kindling.commit", ""),
    }


def text(told: dict[str, Any]) -> str:
    """`explain`'s answer for people."""
    lines = [f"{told['kind']} {told['id']}"]
    lines += [f"  {key}: {value}" for key, value in _flat(told.get("record", {}))]
    for entry in told["chain"]:
        lines += ["", entry["artifact"], f"  content   {entry['content'][:16]}"]
        lines += [f"  dvc       {entry['dvc']}"] if entry["dvc"] else []
        if entry["stage"] is None:
            lines.append("  its lineage is lost: neither the folder nor MLflow has it any more")
            continue
        lines.append(f"  stage     {entry['stage']}")
        lines += [f"  from      {path} {value[:16]}" for path, value in entry["inputs"].items()]
        for path, digest in (entry["data"] or {}).items():
            lines.append(f"  data      {path} {digest}")
        if entry["block"]:
            settings = (f"{key}={_plain(value)}" for key, value in _flat(entry["block"]))
            lines += textwrap.wrap("catalogue " + ", ".join(settings), WIDTH, **INDENTED)
        for run in entry["runs"]:
            lines.append(f"  run       {run['run_id']} at commit {_short(run['commit'])}")
    return "\n".join(lines)


def _short(commit: str) -> str:
    digest, dash, dirty = commit.partition("-")
    return f"{digest[:12]}{dash}{dirty}" if commit else "none"


def _plain(value: Any) -> str:
    """On one line; strings in quotes, so that their spaces are seen."""
    return json.dumps(value, ensure_ascii=False)


def _flat(record: dict[str, Any]) -> list[tuple[str, Any]]:
    """What is set, by its path: {a: {b: 1, c: None}} as (a.b, 1)."""
    flat: list[tuple[str, Any]] = []
    for key, value in record.items():
        if isinstance(value, dict):
            flat += [(f"{key}.{inner}", held) for inner, held in _flat(value)]
        elif value not in (None, ""):
            flat.append((key, value))
    return flat
