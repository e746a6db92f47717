"""Which engine serves a base."""

from collections.abc import Mapping
from pathlib import Path

from components.serving.engine import Engine
from components.serving.limits import Serving

DEFAULT = Serving()


def engine_of(
    base: Path,
    adapters: Mapping[str, Path] | None = None,
    serving: Serving = DEFAULT,
) -> Engine:
    """kindling's own where it knows the base's family, or transformers'; which one is told.

    serving: of its limits those of the engine; transformers' knows no batch and no budgets.

    Raises:
        ValueError: neither serves the base in that precision on this machine, or it lacks the
            device.
    """
    from components.inference.backend import Limits, device_named
    from components.inference.checkpoint import Unsupported
    from components.serving.batched_engine import BatchedEngine
    from components.serving.transformers_engine import TransformersEngine
    from components.training.machine import settle_products

    try:
        return BatchedEngine(
            base,
            adapters,
            limits=Limits(rows=serving.batch, pool_bytes=serving.pool_bytes),
            adapter_bytes=serving.adapter_bytes,
            precision=serving.precision,
            device=device_named(serving.device),
        )
    except Unsupported as reason:
        if serving.precision != "float32":
            raise ValueError(
                f"precision {serving.precision}: transformers serves this base, in float32 alone; "
                f"set 'precision: float32' in the catalogue's block 'serving' ({reason})"
            ) from None
        print(f"transformers serves this base, one request at a time: {reason}", flush=True)
        settle_products()  # not above: kindling's own chooses between libraries by itself
        return TransformersEngine(base, adapters)
