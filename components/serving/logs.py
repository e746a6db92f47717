"""The server's log: a JSON object a line, without what was asked and answered unless told to."""

import json
import logging
import sys
import time
from typing import Any, TextIO

from components.serving.story import Story

log = logging.getLogger("kindling.server")
QUIET = ("/health", "/metrics")  # asked by machines every few seconds
TOLD = (
    "request", "method", "path", "status", "refused", "key", "model", "answer", "fingerprint",
    "prompt_tokens", "completion_tokens",
)  # fmt: skip


class JsonLines(logging.Formatter):
    """A record as one line; `extra={"told": {...}}` adds fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= getattr(record, "told", {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)


def install(stream: TextIO = sys.stderr) -> None:
    """Send this process's log there in that form: the server's lines, and others' warnings."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    log.setLevel(logging.INFO)


class RequestLog:
    """A line for each request. texts: with what was asked and answered."""

    def __init__(self, texts: bool) -> None:
        self._texts = texts

    def __call__(self, story: Story) -> None:
        if story.path in QUIET and story.status < 400:
            return
        told = {key: value for key in TOLD if (value := getattr(story, key)) not in (None, "", 0)}
        told["seconds"] = round(story.seconds, 4)
        if story.first_token_seconds is not None:
            told["first_token_seconds"] = round(story.first_token_seconds, 4)
        if self._texts:
            told |= {"asked": story.asked, "answered": story.answered}
        level = logging.ERROR if story.status == 500 else logging.INFO
        log.log(level, "request", extra={"told": told})
