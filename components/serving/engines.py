"""Which engine serves a base."""

from collections.abc import Mapping
from pathlib import Path

from components.serving.engine import Engine


def engine_of(base: Path, adapters: Mapping[str, Path] | None = None) -> Engine:
    """kindling's own where it knows the base's family, or transformers'; which one is told."""
    from components.inference.checkpoint import Unsupported
    from components.serving.batched_engine import BatchedEngine
    from components.serving.transformers_engine import TransformersEngine

    try:
        return BatchedEngine(base, adapters)
    except Unsupported as reason:
        print(f"transformers serves this base, one request at a time: {reason}", flush=True)
        return TransformersEngine(base, adapters)
