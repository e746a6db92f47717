"""What a release is, and which of them a rollback left: nothing here knows of MLflow."""

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Release:
    """Versions that belong together. adapters, prompts: version by name in the catalogue.

    follows: the release that was current before this one; 0 for the first.
    """

    base: int
    adapters: Mapping[str, int] = field(default_factory=dict)
    prompts: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""
    time: str = ""
    follows: int = 0


@dataclass(frozen=True)
class Fit:
    """A registered adapter that may serve, and the prompt version that it was made with."""

    version: int
    prompt: str
    prompt_version: int


def following(
    current: tuple[int, Release] | None, base: int, fit: Mapping[str, Fit], known: Collection[str]
) -> tuple[Release | None, str]:
    """The release that follows (None: the current one stays), and why `fit` are held back, if so.

    Members of the current release on the same base stay. On another base they cannot: the release
    moves only when each of them has a promoted successor. known: the adapters of the catalogue; one
    that was dropped from it will never have a successor, and is left behind.
    """
    number, members = current if current else (0, Release(base))
    stay = members.base == base
    behind = sorted((set(members.adapters) & set(known)) - set(fit))
    if behind and not stay:
        return None, f"{', '.join(behind)} of release {number} lack a fit on base {base}"
    adapters = dict(members.adapters) if stay else {}
    prompts = dict(members.prompts) if stay else {}
    for name, found in fit.items():
        adapters[name] = found.version
        prompts[found.prompt] = found.prompt_version
    served = (members.base, members.adapters, members.prompts)
    if not fit or served == (base, adapters, prompts):
        return None, ""
    return Release(base, adapters, prompts, reason="gate"), ""


def line(releases: Mapping[int, Release], number: int) -> set[int]:
    """Release `number` and those that led to it.

    After releases 1 and 2, a rollback to 1 and a promotion, release 3 follows 1: its line is
    {1, 3}, and 2 stands outside.
    """
    found = set()
    while number in releases:
        found.add(number)
        number = releases[number].follows
    return found


def rolled_back(
    releases: Mapping[int, Release], current: int, left: Set[int], adapter: str, version: int
) -> int | None:
    """The newest release with this version of `adapter`, if a rollback left it; None otherwise.

    left: the releases that were ever rolled back from. What stands in the current one's line was
    superseded; what was never left was killed before it became current.
    """
    holders = [n for n, release in releases.items() if release.adapters.get(adapter) == version]
    newest = max(holders, default=0)
    return newest if newest in left - line(releases, current) else None
