"""The local stack on loopback: deployments that run, lost runs, clean ends, clear refusals."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
import pytest
from ruamel.yaml import YAML

from components.catalogue import load as load_catalogue
from flows import ports
from infra import deployments
from infra.config import DEFAULT, SettingsError, load
from infra.processes import Service, StackError
from infra.processes import wait_for as wait_for_service
from infra.stack import Stack
from tests.conftest import ROOT, isolate, keep_base_alone, make_workspace

slow = pytest.mark.slow
DEPLOYMENT = "pipeline/quickstart"


def free_ports() -> list[int]:
    """Two of them, held together so that they differ."""
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        return [one.getsockname()[1], other.getsockname()[1]]


def write_settings(path: Path, **changes: int) -> Path:
    """The settings that ship, with free ports. changes: `prefect_port=1` for `prefect.port`."""
    yaml = YAML()
    document = yaml.load(DEFAULT.read_text(encoding="utf-8"))
    free = dict(zip(("prefect_port", "mlflow_port"), free_ports(), strict=True))
    for name, value in {**free, **changes}.items():
        block, key = name.split("_", 1)
        document[block][key] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    return path


def command(
    stack: Stack, *words: str, workspace: Path | None = None
) -> subprocess.CompletedProcess:
    settings = str(stack.workspace.parent / "settings.yaml")
    where = str(workspace or stack.workspace)
    line = [sys.executable, "-m", "infra.stack", "-C", where, "--settings", settings]
    return subprocess.run([*line, *words], cwd=ROOT, capture_output=True, text=True, timeout=200)


def make_stack(folder: Path, patch: pytest.MonkeyPatch) -> Stack:
    workspace = make_workspace(folder / "workspace")
    isolate(patch, workspace)
    return Stack(load(write_settings(folder / "settings.yaml")), workspace)


@pytest.fixture
def down(tmp_path, monkeypatch) -> Stack:
    """A stack that nobody started."""
    return make_stack(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """A stack that runs."""
    with pytest.MonkeyPatch.context() as patch:
        stack = make_stack(tmp_path_factory.mktemp("stack"), patch)
        keep_base_alone(stack.workspace)
        try:
            started = command(stack, "start")
            assert started.returncode == 0, started.stdout + started.stderr
            assert f"deployed '{DEPLOYMENT}'" in started.stdout
            yield stack
        finally:
            command(stack, "stop")


def pids(stack: Stack) -> dict[str, int | None]:
    leaders = {service.name: service.leader() for service in stack.services}
    return {name: leader and leader.pid for name, leader in leaders.items()}


def wait_for(condition, seconds: float = 60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")


def run_deployment(stack: Stack) -> str:
    """As the README says: the exports in a shell, then Prefect's own command, anywhere."""
    exports = command(stack, "env").stdout
    script = f"{exports}\nprefect deployment run {DEPLOYMENT} --watch"
    done = subprocess.run(
        ["bash", "-c", script], cwd="/", capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr + stack.worker.said()
    return done.stdout


def add_workspace(home: Path, name: str) -> Path:
    """A second workspace in the repository `home`, whose deployment is called `name`."""
    folder = home / "recipes" / name
    folder.mkdir(parents=True)
    text = (home / "pipelines.yaml").read_text(encoding="utf-8")
    text = text.replace("name: quickstart", f"name: {name}")
    (folder / "pipelines.yaml").write_text(text, encoding="utf-8")
    for shared in ("data", "models", "dvc.yaml"):
        if (home / shared).exists():
            (folder / shared).symlink_to(home / shared)
    return folder


@slow
def test_a_running_stack_takes_the_deployments_of_another_workspace(up):
    """A second start leaves it alone, whichever workspace it is for."""
    before = pids(up)
    assert all(before.values())
    started = command(up, "start", workspace=add_workspace(up.workspace, "second"))
    assert started.returncode == 0, started.stdout + started.stderr
    assert "already up" in started.stdout and "deployed 'pipeline/second'" in started.stdout
    assert pids(up) == before
    assert command(up, "status").stdout.count(" up ") == 3
    with deployments.client(up.settings.api_url) as api:
        for name in ("second", "quickstart"):
            assert api.read_deployment_by_name(f"pipeline/{name}").work_pool_name == "kindling"


def tasks_known(api, *awaited: str, but: Collection[UUID] = ()) -> dict[UUID, str]:
    """The tasks that ran, by the ids of their runs, once the awaited are among them: the server
    notes them some time after they ended. but: runs that do not count.
    """

    def known() -> dict[UUID, str] | None:
        runs = (run for run in api.read_task_runs() if run.id not in but)
        found = {run.id: run.name.partition("-")[0] for run in runs}
        return found if set(awaited) <= set(found.values()) else None

    return wait_for(known)


@slow
def test_a_deployment_runs_and_the_next_run_finds_everything_done(up):
    assert "finished successfully" in run_deployment(up)
    assert (up.workspace / "artifacts/quickstart/base/model.safetensors").is_file()
    lock = (up.workspace / "dvc.lock").read_bytes()
    stages = load_catalogue(up.workspace).stages_of("quickstart")
    with deployments.client(up.settings.api_url) as api:
        before = tasks_known(api, "data", *stages, "register")
        assert "finished successfully" in run_deployment(up)
        added = tasks_known(api, "data", "register", but=before)
    assert sorted(added.values()) == ["data", "register"], "a stage ran again"
    assert (up.workspace / "dvc.lock").read_bytes() == lock


@slow
def test_deploying_again_changes_no_deployment_and_no_automation(up):
    """As the server itself tells them: the client leaves out when an automation was changed, and
    the id of its trigger, which is another after each update.
    """
    with deployments.client(up.settings.api_url) as api:

        def known() -> tuple[dict[str, UUID], dict[str, Any]]:
            (one,) = api.read_automations_by_name(deployments.AUTOMATION)
            told = httpx.get(f"{up.settings.api_url}/automations/{one.id}").raise_for_status()
            return {each.name: each.id for each in api.read_deployments()}, told.json()

        before = known()
        assert "quickstart" in before[0] and before[1]["trigger"]["id"] and before[1]["updated"]
        deployments.ensure_pool(api, up.settings.prefect.pool)
        deployments.ensure_automation(api, up.settings.prefect)
        deployments.deploy(up.workspace, up.environment)
        assert known() == before


@slow
def test_the_automation_asks_for_the_heartbeats_that_are_sent(up):
    """Seen: engine and worker killed, the automation made the run Crashed 90 s after its last beat.

    Waiting for that is left to patience; here: it is there, awake, and asks for what is sent.
    """
    with deployments.client(up.settings.api_url) as api:
        (automation,) = api.read_automations_by_name(deployments.AUTOMATION)
    assert automation.enabled
    assert automation.trigger.posture == "Proactive"
    assert automation.trigger.within.total_seconds() == up.settings.prefect.lost_after_seconds
    assert deployments.HEARTBEAT in automation.trigger.after & automation.trigger.expect
    assert automation.actions[0].state == "CRASHED"
    beat = int(up.environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    assert 2 * beat < automation.trigger.within.total_seconds()


@slow
def test_engine_and_worker_killed_then_start_and_stop(up):
    """The stack takes a new worker on the same servers; `stop` leaves no run and no process."""
    before = pids(up)
    with deployments.client(up.settings.api_url) as api:
        deployment = api.read_deployment_by_name(DEPLOYMENT)
        run = api.create_flow_run_from_deployment(deployment.id, parameters={"force": True})
        wait_for(lambda: api.read_flow_run(run.id).state.is_running())
        for process in up.worker.members():
            if "prefect" in " ".join(process.cmdline()):
                os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: up.worker.leader() is None)
        assert api.read_flow_run(run.id).state.is_running(), "nobody was there to tell"

        started = command(up, "start")
        assert started.returncode == 0, started.stdout + started.stderr
        after = pids(up)
        assert (after["prefect"], after["mlflow"]) == (before["prefect"], before["mlflow"])
        assert after["worker"] not in (None, before["worker"])

    stopped = command(up, "stop")
    assert "ended runs that were at work: 1" in stopped.stdout, stopped.stdout + stopped.stderr
    assert not [p for service in up.services for p in service.members()]
    assert not any(ports.refusal(up.settings.host, s.port) for s in up.services[:2])
    assert command(up, "stop").stdout.strip() == "the stack is not up"


def test_a_taken_port_is_named_with_its_setting_and_holder(down):
    with socket.socket() as other:
        other.bind(("127.0.0.1", down.settings.mlflow.port))
        other.listen()
        refused = command(down, "start")
    assert refused.returncode == 1
    assert f"port {down.settings.mlflow.port} (mlflow.port in the settings)" in refused.stderr
    assert f"process {os.getpid()}" in refused.stderr
    assert not any(pids(down).values()), "something was started all the same"


def test_a_stack_that_runs_is_deployed_to_all_the_same(down, monkeypatch):
    """`start` for a second workspace once said that the stack was up, and deployed nothing."""
    deployed, said = [], []
    monkeypatch.setattr(Service, "leader", lambda service: psutil.Process())
    monkeypatch.setattr(deployments, "deploy", lambda folder, _environment: deployed.append(folder))
    second = Stack(down.settings, add_workspace(down.workspace, "second"))
    second.start(said.append)
    assert deployed == [second.workspace]
    assert said == ["the stack is already up", "deployed 'pipeline/second'"]


def test_a_service_that_ends_while_starting_is_told_with_the_end_of_its_log(tmp_path):
    """It was once an AttributeError."""
    dies = [sys.executable, "-c", "print('no such table'); raise SystemExit(3)"]
    service = Service("mlflow", dies, dict(os.environ), tmp_path / "stack", "http://nowhere")
    service.start(tmp_path)
    with pytest.raises(StackError, match=r"(?s)mlflow ended while starting.*no such table") as told:
        wait_for_service(service, lambda: False, seconds=30)
    assert str(service.log) in str(told.value) and "infra.stack start" in str(told.value)


def test_env_gives_a_shell_what_it_needs(down):
    script = f'{command(down, "env").stdout}\nprintf "%s\\n" "$PREFECT_API_URL" "$PREFECT_HOME"'
    script += ' "$MLFLOW_TRACKING_URI" "$PATH"'
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout.split("\n")
    assert said[0] == down.settings.api_url
    assert said[1] == str(down.workspace / ".prefect")
    assert said[2] == f"sqlite:///{down.workspace / 'mlflow.db'}"
    assert said[3].startswith(str(Path(sys.executable).parent) + os.pathsep)
    assert shlex.split(command(down, "env").stdout)


def test_a_number_that_another_process_took_over_is_not_ours(down):
    """After a reboot a pid file may name anybody."""
    down.folder.mkdir(parents=True)
    me = psutil.Process()
    down.worker.pid_file.write_text(f"{me.pid} {me.create_time() - 1000}\n", encoding="utf-8")
    assert down.worker.leader() is None
    assert not down.worker.stop(seconds=1)
    assert me.is_running()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  limit: 1", "  limits: 1", "unknown key prefect.limits"),
        ("port: 4200", "port: 5000", "prefect.port and mlflow.port are both 5000"),
        ("port: 5000", "port: many", "mlflow.port: .*many"),
        ("lost_after_seconds: 90", "lost_after_seconds: 59", "lost_after_seconds: .*59"),
        ("heartbeat_seconds: 30", "heartbeat_seconds: 60", "less than two heartbeats of 60 s"),
    ],
)
def test_wrong_settings_are_named(tmp_path, old, new, words):
    path = tmp_path / "settings.yaml"
    text = DEFAULT.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(SettingsError, match=words):
        load(path)
