"""Requests as MLflow traces, for those who ask for them (`serving.trace_requests`)."""

import logging
import queue
import threading
import time
from typing import Any

from components.serving.story import Story

MOST_WAITING = 1000  # traces; a store that is slow must not grow the server
WRITERS = 4  # at a time, for a store that is slow to take each
CLOSE_SECONDS = 5.0  # for what waits at the server's end
log = logging.getLogger("kindling.server")


class Tracer:
    """A trace with one span for each answer, written beside the work.

    Its tags are the answer's id, fingerprint and model. texts: with what was asked and answered.

    Its threads are daemons, and MLflow's own, for which the end of a process waits however long a
    store is away, are not used: `flows.settings` turns them off.
    """

    def __init__(self, experiment: str, texts: bool) -> None:
        """experiment: MLflow's id of where traces go."""
        self._experiment, self._texts = experiment, texts
        self._waiting: queue.Queue[tuple[Story, int]] = queue.Queue(MOST_WAITING)
        for _ in range(WRITERS):
            threading.Thread(target=self._write_all, name="traces", daemon=True).start()

    def __call__(self, story: Story) -> None:
        if story.answer is None:
            return
        try:
            self._waiting.put_nowait((story, time.time_ns()))
        except queue.Full:
            log.warning("a trace was dropped: %d wait for MLflow", MOST_WAITING)

    def close(self) -> None:
        """Write what waits; what MLflow does not take in time is dropped."""
        ended, waiting = self._waiting.all_tasks_done, self._waiting
        with ended:
            ended.wait_for(lambda: not waiting.unfinished_tasks, CLOSE_SECONDS)
            left = waiting.unfinished_tasks
        if left:
            log.warning("%d traces were dropped: MLflow was given %g s", left, CLOSE_SECONDS)

    def _write_all(self) -> None:
        while True:
            self._write(*self._waiting.get())
            self._waiting.task_done()

    def _write(self, story: Story, ended: int) -> None:
        try:
            import mlflow

            span = mlflow.start_span_no_context(
                story.endpoint,
                inputs=story.asked if self._texts else None,
                tags=_tags(story),
                experiment_id=self._experiment,
                start_time_ns=ended - int(story.seconds * 1e9),
            )
            span.set_attributes(_attributes(story))
            span.end(outputs=story.answered if self._texts else None, end_time_ns=ended)
        except Exception:  # an answer does not depend on who watches
            log.warning("a trace was not written", exc_info=True)


def _tags(story: Story) -> dict[str, str]:
    return {
        "kindling.answer": story.answer or "",
        "kindling.fingerprint": story.fingerprint or "",
        "kindling.model": story.model,
        "kindling.request": story.request,
    }


def _attributes(story: Story) -> dict[str, Any]:
    names = ("status", "prompt_tokens", "completion_tokens", "first_token_seconds", "key")
    return {name: value for name in names if (value := getattr(story, name)) is not None}
