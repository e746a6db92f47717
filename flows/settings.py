"""Where kindling keeps things, and the environment that its processes run in.

The only module that reads or sets environment variables.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

PARENT_RUN = "KINDLING_PARENT_RUN"  # MLflow id of the pipeline's run, handed to its stages
FLOW_PID = "KINDLING_FLOW_PID"  # a stage ends when this process does
MASTERS = "KINDLING_MASTERS"  # a fork ends when one of these processes does
FORK_SERVER = "KINDLING_FORK_SERVER"  # where a stage finds one; see `flows.forkserver`
RAY_ADDRESS = "RAY_ADDRESS"  # of the cluster to join, as Ray itself reads it
CARRIED = ("MLFLOW_TRACKING_URI", "PREFECT_HOME")  # to stages on other machines of a cluster

# nothing here phones home; a user's own setting of the same variable wins
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "true",
    "PYTHONUNBUFFERED": "1",
    "PYTHONWARNINGS": "ignore::FutureWarning,ignore::DeprecationWarning",
}

# seconds for Prefect's own server to come up: 20 are too few on a machine that is busy
PATIENCE = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180"}

# where somebody waits: MLflow's own seven tries at a registry that is away take minutes
HASTE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    # its queue of traces is waited for at a process's end; a server has one of its own
    "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false",
}


@cache
def home(workspace: Path) -> Path:
    """The folder that all workspaces of one repository share: its top, else the workspace.

    The MLflow store and Prefect's database live there.
    """
    command = ["git", "-C", str(workspace), "rev-parse", "--show-toplevel"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()) if done.returncode == 0 else workspace.resolve()


def tracking_uri(workspace: Path) -> str:
    """The MLflow store: `MLFLOW_TRACKING_URI`, else sqlite in the repository's top folder."""
    default = f"sqlite:///{home(workspace) / 'mlflow.db'}"
    return os.environ.get("MLFLOW_TRACKING_URI", default)


def apply(workspace: Path, threads: int | None = None) -> None:
    """Set up this process and its children: no telemetry, own Prefect home, own interpreter first.

    threads: a bound for the numeric libraries, also for those that are loaded already.
    """
    for key, value in {**QUIET, **PATIENCE}.items():
        os.environ.setdefault(key, value)
    os.environ.setdefault("PREFECT_HOME", str(home(workspace) / ".prefect"))
    os.environ.setdefault("MLFLOW_TRACKING_URI", tracking_uri(workspace))
    compiled = home(workspace) / ".kindling" / "compiled"  # of torch.compile, kept between runs
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compiled))
    binaries = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", "")
    if path.split(os.pathsep)[0] != binaries:
        os.environ["PATH"] = os.pathsep.join([binaries, path])
    if threads is not None:
        _bound(threads)


def activation() -> str | None:
    """The command after which a shell finds `kindling`; None where it does, or there is no such."""
    script = Path(sys.prefix, "bin", "activate")
    if os.environ.get("VIRTUAL_ENV") == sys.prefix or not script.is_file():
        return None
    inside = script.is_relative_to(Path.cwd())
    return f"source {script.relative_to(Path.cwd()) if inside else script}"


def make_haste() -> None:
    """Let this process give a registry up soon that is away, where the user has not said when."""
    for key, value in HASTE.items():
        os.environ.setdefault(key, value)


def _bound(threads: int) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read when a library is loaded
        os.environ[name] = str(threads)
    if "torch" in sys.modules:
        import torch
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads)
        torch.set_num_threads(threads)


def parent_run() -> str | None:
    return os.environ.get(PARENT_RUN)


def flow_pid() -> int | None:
    value = os.environ.get(FLOW_PID)
    return int(value) if value else None


def dvc_started_us() -> bool:
    """Whether DVC runs this process as a stage's command."""
    return "DVC_STAGE" in os.environ


def fork_server() -> str | None:
    return os.environ.get(FORK_SERVER)


def masters() -> list[int]:
    """The processes whose end a fork was told to follow."""
    return [int(pid) for pid in os.environ.get(MASTERS, "").split()]


def ray_address() -> str | None:
    return os.environ.get(RAY_ADDRESS)


def carried() -> dict[str, str]:
    """The part of this process's environment that its stages need on other machines too."""
    return {name: os.environ[name] for name in CARRIED if name in os.environ}


def fork_environment(masters: list[int]) -> dict[str, str]:
    """This process's environment for a fork that does its work and ends with `masters`."""
    given = {**os.environ, MASTERS: " ".join(map(str, masters))}
    given.pop(FORK_SERVER)
    return given


def become(other: dict[str, str]) -> None:
    """Take over the environment of another process."""
    os.environ.clear()
    os.environ.update(other)


def told(parent: str | None, server: str | None = None, cluster: str | None = None) -> dict:
    """What a stage is told by its environment, where there is something to tell.

    parent: the MLflow run above. server: the fork server that it may ask. cluster: the address of
    the Ray cluster that it may use.
    """
    values = {PARENT_RUN: parent, FORK_SERVER: server, RAY_ADDRESS: cluster}
    return {name: value for name, value in values.items() if value}


def child_environment(above: dict[str, str]) -> dict[str, str]:
    """The environment of DVC calls that end with this process. above: what they are `told`."""
    return {**os.environ, **above, FLOW_PID: str(os.getpid())}
