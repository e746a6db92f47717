"""The library versions that shape results: each a file that stages depend on."""

import sys
from importlib import metadata
from pathlib import Path

from components import lineage


def installed(libraries: tuple[str, ...]) -> dict[str, str]:
    """The installed versions of `libraries`, which must be those that DVC's key states.

    Raises:
        ValueError: a library is missing, or its version differs from its file in
            `components/versions/`, so that a result would be cached under a version that did not
            make it.
    """
    pins = pinned()
    found = {name: _version(name) for name in libraries}
    wrong = [f"{n} {v} (pinned: {pins[n]})" for n, v in found.items() if v != pins[n]]
    if wrong:
        raise ValueError(
            f"{sys.executable} has {', '.join(wrong)}; activate the project's environment, or run "
            "'pip install -c constraints.txt -e .', or change components/versions"
        )
    return found


def _version(name: str) -> str:
    try:
        return metadata.version(name).split("+")[0]
    except metadata.PackageNotFoundError:
        raise ValueError(
            f"{sys.executable} has no {name}; run 'pip install -c constraints.txt {name}'"
        ) from None


def pinned() -> dict[str, str]:
    """The versions of the libraries that shape results: one file each, a DVC dep of its stages."""
    folder = Path(lineage.__file__).with_name("versions")
    return {path.name: path.read_text(encoding="utf-8").strip() for path in folder.iterdir()}
