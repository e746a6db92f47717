"""Looks at the registry beside the work, and serves what an alias points to now."""

import logging
import threading
from collections.abc import Callable

from components.serving.deployment import Current, Deployment

log = logging.getLogger("kindling.server")
Look = Callable[[Deployment], Deployment | None]


class Watcher:
    """A thread that asks `look` every `seconds`; what it gives takes over.

    look: is given the deployment of now; the one to serve instead, loaded and ready, or None. Where
    it fails, what is served stays, and it is asked again.
    """

    def __init__(self, current: Current, look: Look, seconds: float) -> None:
        self._current, self._look, self._seconds = current, look, seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="registry", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._seconds):
            self.look()

    def look(self) -> bool:
        """Look once; say whether something new is served."""
        try:
            with self._current.followed() as now:
                found = self._look(now)
                if found is None:
                    return False
                self._current.replace(found)
        except Exception:  # a registry that is away, or holds what cannot be loaded
            log.warning("the registry could not be read; what is served stays", exc_info=True)
            return False
        told = {"versions": dict(found.versions), "unavailable": found.unavailable()}
        log.info("deployment", extra={"told": told})
        return True
