"""Requests as MLflow traces, for those who ask for them (`serving.trace_requests`)."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from components.serving.story import Story

MOST_WAITING = 1000  # traces; a store that is slow must not grow the server
log = logging.getLogger("kindling.server")


class Tracer:
    """A trace with one span for each answer, written beside the work.

    Its tags are the answer's id, fingerprint and model. texts: with what was asked and answered.
    """

    def __init__(self, experiment: str, texts: bool) -> None:
        """experiment: MLflow's id of where traces go."""
        self._experiment, self._texts = experiment, texts
        self._writer = ThreadPoolExecutor(1, "traces")
        self._waiting = 0

    def __call__(self, story: Story) -> None:
        if story.answer is None:
            return
        if self._waiting >= MOST_WAITING:
            log.warning("a trace was dropped: %d wait for MLflow", self._waiting)
            return
        self._waiting += 1
        self._writer.submit(self._write, story, time.time_ns())

    def close(self) -> None:
        """Write what waits."""
        import mlflow

        self._writer.shutdown()
        mlflow.flush_trace_async_logging()

    def _write(self, story: Story, ended: int) -> None:
        import mlflow

        try:
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
        finally:
            self._waiting -= 1


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
