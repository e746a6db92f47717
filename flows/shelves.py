"""`kindling registry`: what is registered, and moving it by hand."""

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.catalogue import load, suggestion
from components.promotion import Releases
from components.registry import DECISION, Registry, RegistryError
from components.releases import Fit, Release, following
from flows.registry import alone, registry

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def listing(workspace: Path) -> dict[str, Any]:
    """Models with versions and aliases, prompts with versions, releases: as JSON values."""
    catalogue = load(workspace, check_files=False)
    store = registry(workspace)
    told: dict[str, Any] = {"models": {}, "prompts": {}, "releases": {}}
    for pipeline in catalogue.pipelines:
        for name in ("base", *catalogue.adapters_of(pipeline)):
            versions = [
                {
                    "version": int(version.version),
                    "content": version.tags.get("kindling.content", ""),
                    "aliases": sorted(store.aliases_of(version)),
                    "decision": _summary(version.tags.get(DECISION)),
                }
                for version in store.versions(f"{pipeline}.{name}")
            ]
            if versions:
                told["models"][f"{pipeline}.{name}"] = versions
        releases = Releases(store, pipeline)
        current = releases.current()
        told["releases"][pipeline] = {
            "current": current[0] if current else None,
            "all": {
                number: {
                    "base": release.base,
                    "adapters": dict(release.adapters),
                    "prompts": dict(release.prompts),
                    "reason": release.reason,
                    "time": release.time,
                    "left": releases.left(number),
                }
                for number, release in releases.all().items()
            },
        }
    for name in catalogue.prompts:
        found = store.prompt_versions(name)
        if found:
            told["prompts"][name] = [
                {"version": int(p.version), "aliases": sorted(p.aliases)} for p in found
            ]
    return told


def _summary(decision: str | None) -> str:
    return json.loads(decision)["summary"] if decision else ""


def text(told: dict[str, Any]) -> str:
    """`listing` for people."""
    lines = []
    for name, versions in told["models"].items():
        for entry in versions:
            said = f"  {entry['decision']}" if entry["decision"] else ""
            lines.append(f"{_head(name, entry):44} {entry['content'][:12]}{said}")
    for name, versions in told["prompts"].items():
        lines += [_head(f"prompt {name}", entry) for entry in versions]
    for pipeline, releases in told["releases"].items():
        for number, release in releases["all"].items():
            mark = "*" if number == releases["current"] else " "
            members = ", ".join(f"{n} {v}" for n, v in release["adapters"].items())
            lines.append(
                f"{mark} {pipeline} release {number}: base {release['base']}, {members} "
                f"({release['reason']}, {release['time']})"
                + "".join(f"; rolled back: {reason}" for reason in release["left"])
            )
    return "\n".join(lines) or "nothing is registered; run 'kindling run PIPELINE'"


def _head(name: str, entry: dict[str, Any]) -> str:
    marks = f" [{', '.join(entry['aliases'])}]" if entry["aliases"] else ""
    return f"{name}/{entry['version']}{marks}"


def rollback(
    workspace: Path, pipeline: str, number: int | None, reason: str = ""
) -> tuple[int, Release]:
    """Serve release `number` again, or the one before the current; return it.

    Raises:
        RegistryError: there is no such release, or no such pipeline.
    """
    store = registry(workspace)
    releases = Releases(store, pipeline)
    pipelines = load(workspace, check_files=False).pipelines
    if pipeline not in pipelines and not releases.all():
        raise RegistryError(f"no pipeline '{pipeline}'{suggestion(pipeline, pipelines)}")
    store.require_own([f"{pipeline}.base"], [])
    with alone(workspace):
        return releases.rollback(number, reason)


def _unregistered(workspace: Path, name: str) -> str:
    """What to do about a name without versions: it is misspelt, or nothing was registered yet."""
    catalogue = load(workspace, check_files=False)
    known = [f"{p}.{a}" for p in catalogue.pipelines for a in catalogue.adapters_of(p)]
    if name in known:
        return f"nothing is registered yet; run 'kindling run {name.partition('.')[0]}'"
    return f"there is no such adapter{suggestion(name, known)}"


def promote(workspace: Path, name: str, version: int, reason: str) -> str:
    """Make a release with this version of adapter `name`; return what to print.

    Raises:
        RegistryError: no such version, or it was made on a base that others which are served lack
            a fit on.
    """
    store = registry(workspace)
    found = {int(v.version): v for v in store.versions(name)}
    if version not in found:
        known = ", ".join(map(str, found))
        said = f"it has {known}" if found else _unregistered(workspace, name)
        raise RegistryError(f"{name} has no version {version}; {said}")
    store.require_own([name], [])
    if "kindling.base" not in found[version].tags:
        raise RegistryError(f"{name} is a base; promote an adapter, which brings its base along")
    with alone(workspace):
        known = load(workspace, check_files=False).adapters_of(name.partition(".")[0])
        return _promoted(store, found[version], reason, known)


def _promoted(store: Registry, found: "ModelVersion", reason: str, known: Collection[str]) -> str:
    """As `promote` says it. known: the catalogue's adapters."""
    tags, version = found.tags, int(found.version)
    pipeline, _, adapter = found.name.partition(".")
    base = int(tags["kindling.base"])
    releases = Releases(store, pipeline)
    current = releases.current()
    fit = Fit(version, tags["kindling.prompt"], int(tags["kindling.prompt_version"]))
    next_one, held = following(current, base, {adapter: fit}, known)
    if held:
        raise RegistryError(
            f"{found.name}/{version} was made on base {base}, and {held}; "
            f"'kindling run {pipeline}' adapts the new base"
        )
    made = next_one or current[1]  # it serves already, and is now promoted for another reason
    why = f"by hand: {reason}"
    decision = json.loads(tags.get(DECISION, "{}"))  # the gate's figures stay with it
    decision |= {"key": why, "passed": True, "promoted": True, "summary": f"promoted {why}"}
    store.client.set_model_version_tag(found.name, str(version), DECISION, json.dumps(decision))
    number = releases.promote(replace(made, reason=why))
    return f"release {number} is current: base {base}, adapters {dict(made.adapters)}"
