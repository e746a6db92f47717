"""What a stage tells while it works: figures to its MLflow run, progress to a bar.

Metrics are buffered and written in batches from a thread, because a synchronous `log_metric`
costs 4-5 ms and a batch of 1,000 costs 80 ms.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from flows.tracking import accepted, log

if TYPE_CHECKING:
    from mlflow import MlflowClient

FLUSH_SECONDS = 2.0


class Tracker:
    """The `Reporter` of one stage: writes to its MLflow run and shows a progress bar."""

    def __init__(
        self, mlflow: "MlflowClient", run_id: str, show, told: Mapping[str, int] | None = None
    ) -> None:
        """told: the last step of each figure that the run has, from before a kill."""
        self.mlflow = mlflow
        self.run_id = run_id
        self.last: dict[str, float] = {}
        self._show = show
        self._told = dict(told or {})  # a resumed worker tells some steps again
        self._buffer: list[tuple[str, float, int, int]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write_often, daemon=True)
        self._writer.start()

    def params(self, values: Mapping[str, object]) -> None:
        known = self.mlflow.get_run(self.run_id).data.params
        new = {key: value for key, value in values.items() if key not in known}
        log(self.mlflow, self.run_id, {}, new)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self.last.update(values)
        values = {accepted(key): value for key, value in values.items()}
        now = int(time.time() * 1000)
        new = [key for key in values if step > self._told.get(key, -1)]
        self._told.update(dict.fromkeys(new, step))
        with self._lock:
            self._buffer += [(key, float(values[key]), now, step) for key in new]

    def progress(self, done: float, total: float, note: str = "") -> None:
        self._show(done, total, note)

    def text(self, name: str, text: str) -> None:
        self.mlflow.log_text(self.run_id, text, name)

    def close(self) -> None:
        """Write what is buffered, before the run is ended.

        Raises:
            MlflowException: the store refused; what it did not take is kept.
        """
        self._ended.set()
        self._writer.join()
        self._flush()

    def _write_often(self) -> None:
        while not self._ended.wait(FLUSH_SECONDS):
            with suppress(Exception):  # such as a locked database: it is tried again, then told
                self._flush()

    def _flush(self) -> None:
        from mlflow.entities import Metric

        with self._lock:
            waiting, self._buffer = self._buffer, []
        try:
            self.mlflow.log_batch(self.run_id, metrics=[Metric(*entry) for entry in waiting])
        except BaseException:
            with self._lock:
                self._buffer = waiting + self._buffer
            raise
