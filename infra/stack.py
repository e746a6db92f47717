"""The local stack: Prefect server, MLflow server, worker. `python -m infra.stack --help`.

It needs nothing but the installed packages: no container. All listen on the settings' host only.
"""

import os
import shlex
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer

from components import locks
from components.catalogue import load as load_catalogue
from flows import ports
from flows import settings as project
from infra import deployments
from infra.config import DEFAULT, Settings, load
from infra.processes import Service, StackError, wait_for

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
WORKER = "kindling-local"
FOREIGN = ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_PROFILE")  # another server's


@dataclass(frozen=True)
class Stack:
    """The services of one repository, as `settings` wants them, for one workspace's deployments."""

    settings: Settings
    workspace: Path

    @cached_property
    def home(self) -> Path:
        return project.home(self.workspace)

    @cached_property
    def folder(self) -> Path:
        return self.home / self.settings.folder

    @cached_property
    def exports(self) -> dict[str, str]:
        """What a shell needs so that `prefect`, `mlflow` and `kindling` meet this stack."""
        return {
            "PREFECT_API_URL": self.settings.api_url,
            "PREFECT_HOME": os.environ["PREFECT_HOME"],
            "MLFLOW_TRACKING_URI": project.tracking_uri(self.workspace),
        }

    @cached_property
    def environment(self) -> dict[str, str]:
        """The environment of the services, and of the runs that the worker starts."""
        wanted, prefect = self.settings, self.settings.prefect
        inherited = {k: v for k, v in os.environ.items() if k not in FOREIGN}
        return {
            **inherited,
            **self.exports,
            "PREFECT_SERVER_UI_API_URL": wanted.api_url,
            "PREFECT_WORKER_QUERY_SECONDS": str(prefect.poll_seconds),
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(prefect.heartbeat_seconds),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 2 GB of idle processes otherwise
        }

    @cached_property
    def prefect(self) -> Service:
        port = self.settings.prefect.port
        command = ["prefect", "server", "start", "--host", self.settings.host, "--port", str(port)]
        url = self.settings.api_url
        return self._service("prefect", command, url[:-4], port, f"{url}/health")

    @cached_property
    def mlflow(self) -> Service:
        wanted, store = self.settings, self.exports["MLFLOW_TRACKING_URI"]
        command = ["mlflow", "server", "--backend-store-uri", store, "--host", wanted.host]
        command += ["--port", str(wanted.mlflow.port), "--workers", str(wanted.mlflow.workers)]
        # experiments name their own locations; one that does not gets one beside the store
        command += ["--no-serve-artifacts", "--default-artifact-root"]
        command += [(self.home / "mlruns").as_uri()]
        url = wanted.mlflow_url
        return self._service("mlflow", command, url, wanted.mlflow.port, f"{url}/health")

    @cached_property
    def worker(self) -> Service:
        wanted = self.settings.prefect
        command = ["prefect", "worker", "start", "--pool", wanted.pool, "--type", "process"]
        command += ["--name", WORKER, "--limit", str(wanted.limit)]
        return self._service("worker", command, f"pool {wanted.pool}")

    @property
    def services(self) -> list[Service]:
        return [self.prefect, self.mlflow, self.worker]

    def _service(
        self, name: str, command: list[str], url: str, port: int | None = None, health: str = ""
    ) -> Service:
        return Service(
            name=name,
            command=[sys.executable, "-m", *command],
            environment=self.environment,
            folder=self.folder,
            url=url,
            port=port,
            key=f"{name}.port",
            health=health,
        )

    def healthy(self, service: Service) -> bool:
        """Whether it answers."""
        leader = service.leader()
        if leader is None:
            return False
        if service.health:
            return answers(service.health)
        if not self.healthy(self.prefect):
            return False
        pool = self.settings.prefect.pool
        with deployments.client(self.settings.api_url) as api:
            return deployments.online(api, pool, WORKER, leader.create_time())

    def start(self, say: Callable[[str], None]) -> None:
        """Start what does not run yet, wait until it answers, deploy.

        A stack that runs already is deployed to all the same: it serves all workspaces of the
        repository, and may not know this one's deployments yet.

        Raises:
            StackError: a port is taken, a service failed or a deployment was refused. Whatever
                this call started is stopped again.
        """
        with locks.hold(self.folder / "start.lock", wait=self.settings.start_seconds):
            missing = [service for service in self.services if service.leader() is None]
            if not missing:
                say("the stack is already up")
                self._deploy(say)
                return
            self._check(missing)
            try:
                self._start(missing, say)
            except BaseException:
                for service in reversed(missing):
                    service.stop(self.settings.stop_seconds)
                raise

    def _check(self, missing: list[Service]) -> None:
        store = self.exports["MLFLOW_TRACKING_URI"]
        if store.startswith("http"):
            raise StackError(
                f"MLFLOW_TRACKING_URI is {store}, a server already; unset it, or do without a stack"
            )
        for service in missing:
            if service.port and ports.refusal(self.settings.host, service.port):
                ours = "run 'python -m infra.stack stop' first"
                theirs = "end that, or set another port"
                raise StackError(
                    f"port {service.port} ({service.key} in the settings) is taken by "
                    f"{ports.holder(service.port)}; {ours if service.members() else theirs}"
                )

    def _start(self, missing: list[Service], say: Callable[[str], None]) -> None:
        servers = [service for service in missing if service is not self.worker]
        for service in servers:
            service.start(self.home)
        for service in servers:
            wait_for(service, lambda s=service: answers(s.health), self.settings.start_seconds)
            say(f"{service.name:8} {service.url}")
        with deployments.client(self.settings.api_url) as api:
            deployments.ensure_pool(api, self.settings.prefect.pool)
            deployments.ensure_automation(api, self.settings.prefect)
        self._deploy(say)
        if self.worker in missing:
            self.worker.start(self.home)
            wait_for(self.worker, lambda: self.healthy(self.worker), self.settings.start_seconds)
            say(f"{self.worker.name:8} {self.worker.url}")

    def _deploy(self, say: Callable[[str], None]) -> None:
        wanted = load_catalogue(self.workspace).deployments
        if not wanted:
            say(f"no deployments: {self.workspace}/pipelines.yaml has no block `deployments`")
            return
        deployments.deploy(self.workspace, self.environment)
        say("deployed " + ", ".join(f"'pipeline/{entry['name']}'" for entry in wanted))

    def stop(self, say: Callable[[str], None]) -> None:
        """End every process of the stack: the worker with its runs first, the servers last."""
        seconds = self.settings.stop_seconds
        ended = ["worker"] if self.worker.stop(seconds) else []
        if self.healthy(self.prefect):
            with deployments.client(self.settings.api_url) as api:
                lost = deployments.end_runs(api, self.settings.prefect.pool)
            if lost:
                say(f"ended runs that were at work: {lost}")
        ended += [s.name for s in (self.mlflow, self.prefect) if s.stop(seconds)]
        say(f"stopped {', '.join(ended)}" if ended else "the stack is not up")


def answers(url: str) -> bool:
    """Whether a GET of `url` succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@app.callback()
def main(
    context: typer.Context,
    directory: Annotated[Path, typer.Option("-C", help="The workspace to deploy.")] = Path("."),
    settings: Annotated[Path, typer.Option(metavar="FILE", help="Ports and times.")] = DEFAULT,
) -> None:
    """Prefect server, MLflow server and a worker, in the background of this machine."""
    workspace = directory.resolve()
    project.apply(workspace)
    context.obj = Stack(load(settings), workspace)


@app.command()
def start(context: typer.Context) -> None:
    """Start what does not run yet, and deploy the workspace's catalogue."""
    context.obj.start(print)
    print('for a shell that uses it: eval "$(python -m infra.stack env)"')


@app.command()
def stop(context: typer.Context) -> None:
    """End the stack."""
    context.obj.stop(print)


@app.command()
def status(context: typer.Context) -> None:
    """Say what runs."""
    for service in context.obj.services:
        leader = service.leader()
        state = "down" if leader is None else "up" if context.obj.healthy(service) else "no answer"
        pid = leader.pid if leader else "-"
        print(f"{service.name:8} {state:10} {pid:>8}  {service.url:28} {service.log}")


@app.command()
def env(context: typer.Context) -> None:
    """Print what a shell must export to use the stack."""
    for name, value in context.obj.exports.items():
        print(f"export {name}={shlex.quote(value)}")
    print(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')


if __name__ == "__main__":
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"stack: {error}")
