"""What `/metrics` tells, in Prometheus' form."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric

from components.serving.story import Story

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Figures:
    """Counters and histograms of one server. A model's name is a label only once it is known."""

    def __init__(
        self,
        waiting: Callable[[], int],
        running: Callable[[], int],
        of_engine: Callable[[], Mapping[str, float]],
    ) -> None:
        held = CollectorRegistry()
        self._held = held
        self._requests = Counter(
            "kindling_requests", "Answered.", ["endpoint", "model", "status"], registry=held
        )
        self._seconds = Histogram(
            "kindling_seconds", "Of an answer.", ["endpoint"], registry=held, buckets=SECONDS
        )
        self._first = Histogram(
            "kindling_first_token_seconds", "From a request to its first token.", ["model"],
            registry=held, buckets=SECONDS,
        )  # fmt: skip
        self._tokens = Counter(
            "kindling_tokens", "Read and written.", ["direction", "model"], registry=held
        )
        self._refused = Counter("kindling_refusals", "By reason.", ["reason"], registry=held)
        self.feedback = Counter("kindling_feedback", "Kept.", ["kind"], registry=held)
        queue = Gauge("kindling_queue", "Choices that wait for the engine.", registry=held)
        queue.set_function(waiting)
        at_work = Gauge("kindling_running", "Choices that the engine works at.", registry=held)
        at_work.set_function(running)
        held.register(_EngineFigures(of_engine))

    def __call__(self, story: Story) -> None:
        self._requests.labels(story.endpoint, story.model, story.status).inc()
        self._seconds.labels(story.endpoint).observe(story.seconds)
        if story.refused:
            self._refused.labels(story.refused).inc()
        if story.first_token_seconds is not None:
            self._first.labels(story.model).observe(story.first_token_seconds)
        if story.prompt_tokens:
            self._tokens.labels("in", story.model).inc(story.prompt_tokens)
        if story.completion_tokens:
            self._tokens.labels("out", story.model).inc(story.completion_tokens)

    def text(self) -> bytes:
        return generate_latest(self._held)


class _EngineFigures:
    """What the engine counts itself, asked when somebody looks."""

    def __init__(self, ask: Callable[[], Mapping[str, float]]) -> None:
        self._ask = ask

    def collect(self) -> Iterable[Metric]:
        for name, value in self._ask().items():
            told = CounterMetricFamily(f"kindling_engine_{name}", "As the engine counts it.")
            told.add_metric([], value)
            yield told
