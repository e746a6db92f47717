"""Which engine serves a base."""

from collections.abc import Mapping
from pathlib import Path

from components.serving.engine import Engine


def engine_of(
    base: Path,
    adapters: Mapping[str, Path] | None = None,
    precision: str = "float32",
    device: str = "auto",
) -> Engine:
    """kindling's own where it knows the base's family, or transformers'; which one is told.

    Raises:
        ValueError: neither serves the base in that precision on this machine, or it lacks the
            device.
    """
    from components.inference.backend import device_named
    from components.inference.checkpoint import Unsupported
    from components.serving.batched_engine import BatchedEngine
    from components.serving.transformers_engine import TransformersEngine

    try:
        return BatchedEngine(base, adapters, precision=precision, device=device_named(device))
    except Unsupported as reason:
        if precision != "float32":
            raise ValueError(
                f"precision {precision}: transformers serves this base, in float32 alone; set "
                f"'precision: float32' in the catalogue's block 'serving' ({reason})"
            ) from None
        print(f"transformers serves this base, one request at a time: {reason}", flush=True)
        return TransformersEngine(base, adapters)
