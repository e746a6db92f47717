"""The base of every catalogue block: typed, immutable, and closed to unknown keys."""

from pydantic import BaseModel, ConfigDict


class Block(BaseModel):
    """One block of `pipelines.yaml`. The model of a block lives in the component that reads it."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
