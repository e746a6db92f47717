"""Adapter folders in PEFT's form, the same bytes for the same weights."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.lineage import read_json, write_json

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

BASE = "../../base"  # where the base stands, seen from artifacts/PIPELINE/adapters/NAME


def save(model: "PeftModel", folder: Path) -> None:
    """Write what `PeftModel.from_pretrained` opens, without PEFT's card.

    PEFT writes sets in an order that differs from process to process, and the base's absolute path.
    """
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = folder / "adapter_config.json"
    settings = {key: _ordered(value) for key, value in read_json(config).items()}
    write_json(config, settings | {"base_model_name_or_path": BASE})


def _ordered(value: Any) -> Any:
    if isinstance(value, list):
        return sorted(value, key=json.dumps)
    return value


def load(base: "PreTrainedModel", folder: Path) -> "PeftModel":
    """`base` with the adapter of `folder` on it."""
    from peft import PeftModel

    return PeftModel.from_pretrained(base, str(folder))
