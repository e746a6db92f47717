"""What a server grants: the block `serving` of the catalogue."""

from typing import Literal

from pydantic import Field

from components.block import Block


class Serving(Block):
    """Limits of every request, whoever sends it, and of the engine's memory.

    What is over them is refused, never cut.
    """

    prompt_tokens: int = Field(default=8192, ge=1, description="of a prompt, at most")
    output_tokens: int = Field(default=4096, ge=1, description="of each choice, at most")
    choices: int = Field(default=16, ge=1, description="n of a request, at most")
    texts: int = Field(default=256, ge=1, description="of a classification, at most")
    # a process may have 1,024 files open on most machines, and needs some of them for itself
    connections: int = Field(default=900, ge=1, description="open at once, at most")
    body_bytes: int = Field(default=1 << 20, ge=1024, description="of a request, at most")
    batch: int = Field(default=32, ge=1, description="choices that the engine writes at once")
    queue: int = Field(default=64, ge=0, description="requests that may wait for the engine")
    seconds: float = Field(default=120, gt=0, description="from a request to its answer's end")
    grace_seconds: float = Field(default=20, ge=0, description="for answers at work at SIGTERM")
    requests_per_minute: int = Field(default=600, ge=1, description="of a key without its own")
    poll_seconds: float = Field(default=5, gt=0, description="between looks at the registry")
    log_texts: bool = Field(default=False, description="prompts and answers in logs and traces")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the base's products; bfloat16 is faster and less exact"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="that computes; auto is a GPU where there is one"
    )
    pool_bytes: int = Field(default=1 << 28, ge=1 << 20, description="of keys and values in memory")
    adapter_bytes: int = Field(default=1 << 30, ge=1, description="of adapters in memory")
    inspect_bytes: int = Field(
        default=1 << 31, ge=0, description="of models opened for a look inside; 0 opens none"
    )
    trace_requests: bool = Field(default=False, description="each request as a trace in MLflow")
