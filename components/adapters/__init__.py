"""Adapters: every way to fit a frozen base to a task, loaded through one door.

Adding a method is a file with its block and its `METHOD`, and a line in `METHODS`. Training has a
door of its own, `training.py`, so that what only asks an adapter does not depend on the loop.
"""

from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from components.adapters import (
    dpo,
    full,
    head,
    ia3,
    lora,
    p_tuning,
    prefix_tuning,
    prompt,
    prompt_tuning,
)
from components.adapters.method import Method
from components.lineage import content_of, read_json
from components.models import llama

if TYPE_CHECKING:
    from transformers import PreTrainedModel

METHODS: dict[str, Method] = {
    "prompt": prompt.METHOD,
    "lora": lora.METHOD,
    "prompt_tuning": prompt_tuning.METHOD,
    "p_tuning": p_tuning.METHOD,
    "prefix_tuning": prefix_tuning.METHOD,
    "ia3": ia3.METHOD,
    "head": head.METHOD,
    "full": full.METHOD,
    "dpo": dpo.METHOD,
}
AdapterBlock = Annotated[
    reduce(or_, (method.block for method in METHODS.values())), Field(discriminator="method")
]


def load_adapter(base: Path, folder: Path) -> "PreTrainedModel":
    """The model that the adapter of `folder` makes of the base in `base`, in evaluation mode.

    Raises:
        ValueError: the adapter was trained on another base.
    """
    description = read_json(folder / "adapter.json")
    found = content_of(base)
    if description["base"] != found:
        raise ValueError(
            f"adapter {description['name']} was trained on base {description['base'][:12]}, "
            f"{base} holds {found[:12]}; run 'dvc repro' or give its own base"
        )
    seed = description["random_base"]
    model = llama.load(base) if seed is None else llama.randomised(base, seed)
    return METHODS[description["method"]].load(model, folder).eval()


def method_of(folder: Path) -> Method:
    """The method of the adapter in `folder`, which knows how its model is asked."""
    return METHODS[read_json(folder / "adapter.json")["method"]]
