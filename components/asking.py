"""Questions to MLflow's registry: what it answers, and that it does not answer at all."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

ABSENT = "RESOURCE_DOES_NOT_EXIST"  # MLflow's code of an answer; other errors are none
NO_ALIAS = "INVALID_PARAMETER_VALUE"  # of a model that has no such alias
ANSWERS = (ABSENT, NO_ALIAS, "RESOURCE_ALREADY_EXISTS")


class RegistryAway(OSError):
    """The registry does not answer, which says nothing of what it holds."""


class Asked:
    """MLflow's client of the store at `uri`; where that does not answer it says so.

    Raises:
        RegistryAway: at a call, whatever went wrong on the way there. What the store answers, such
            as that there is no such model, is raised as MLflow raises it.
    """

    def __init__(self, client: "MlflowClient", uri: str) -> None:
        self._client, self._uri = client, uri

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def ask(*args: Any, **named: Any) -> Any:
            with asking(self._uri):
                return method(*args, **named)

        return ask


@contextmanager
def asking(uri: str) -> Iterator[None]:
    """A question to the registry at `uri`.

    Raises:
        RegistryAway: it says nothing.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code in ANSWERS:
            raise
        raise RegistryAway(away(uri, error)) from error


def away(uri: str, error: Exception) -> str:
    """What to say where MLflow's store at `uri` does not answer."""
    return (
        f"MLflow at {public(uri)} does not answer: {error}; see that it runs and that "
        "MLFLOW_TRACKING_URI is right, and run the same command again"
    )


def answer(ask: Callable[[], Any], *absent: str) -> Any:
    """What the registry says to `ask`; None where that is one of the codes `absent`."""
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        if error.error_code in absent:
            return None
        raise


def public(uri: str) -> str:
    """`uri` without the name and the password that it may hold."""
    return re.sub(r"//[^/]*@", "//", uri)
