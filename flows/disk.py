"""Disk space, asked before long work."""

import shutil
from pathlib import Path

GB = 10**9


def require(workspace: Path, gigabytes: float) -> None:
    """Insist on `gigabytes` of free disk space at `workspace`.

    Raises:
        OSError: there is less.
    """
    free = shutil.disk_usage(workspace).free / GB
    if free < gigabytes:
        raise OSError(
            f"{workspace} has {free:.1f} GB of free disk space, compute.disk_gb asks for "
            f"{gigabytes}; 'kindling clean' shows what can go"
        )
