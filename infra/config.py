"""The settings of the local stack: one YAML file, closed to unknown keys."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

DEFAULT = Path(__file__).with_name("settings.yaml")


class SettingsError(ValueError):
    """The settings file is missing or wrong; the message names file, key and value."""


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Prefect(_Closed):
    """The Prefect server, its work pool and the worker on it."""

    port: int = Field(ge=1, le=65535)
    pool: str
    limit: int = Field(ge=1)
    poll_seconds: int = Field(ge=1)
    heartbeat_seconds: int = Field(ge=30)
    lost_after_seconds: int = Field(ge=60)

    @model_validator(mode="after")
    def _silence_is_longer_than_a_beat(self) -> Self:
        if self.lost_after_seconds < 2 * self.heartbeat_seconds:
            raise ValueError(
                f"lost_after_seconds {self.lost_after_seconds} is less than two heartbeats of "
                f"{self.heartbeat_seconds} s: a run that lives would be ended"
            )
        return self


class MLflow(_Closed):
    """The MLflow server."""

    port: int = Field(ge=1, le=65535)
    workers: int = Field(ge=1)


class Settings(_Closed):
    """What `settings.yaml` says. folder: relative to the repository's top."""

    host: str
    folder: Path
    start_seconds: float = Field(gt=0)
    stop_seconds: float = Field(gt=0)
    prefect: Prefect
    mlflow: MLflow

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.prefect.port == self.mlflow.port:
            raise ValueError(f"prefect.port and mlflow.port are both {self.mlflow.port}")
        return self

    @property
    def api_url(self) -> str:
        return f"http://{self.host}:{self.prefect.port}/api"

    @property
    def mlflow_url(self) -> str:
        return f"http://{self.host}:{self.mlflow.port}"


def load(path: Path = DEFAULT) -> Settings:
    """Read the settings file `path`.

    Raises:
        SettingsError: it is missing, no YAML, or holds an unknown key or a wrong value.
    """
    try:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        return Settings.model_validate(document)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except MarkedYAMLError as error:
        raise SettingsError(f"{path}: no YAML: {error}") from None
    except ValidationError as error:
        found = [_told(problem) for problem in error.errors()]
        raise SettingsError("\n".join(f"{path}: {line}" for line in found)) from None


def _told(problem: dict) -> str:
    place = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"unknown key {place}"
    if problem["type"] == "missing":
        return f"{place} is missing"
    where = f"{place}: " if place else ""
    value = "" if isinstance(problem["input"], dict) else f" (got {problem['input']!r})"
    return f"{where}{problem['msg']}{value}"
