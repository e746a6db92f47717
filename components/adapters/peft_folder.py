"""Adapter folders in PEFT's form, the same bytes for the same weights."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.lineage import read_json, write_json

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

CONFIG = "adapter_config.json"
BASE = "../../base"  # where the base stands, seen from artifacts/PIPELINE/adapters/NAME


def save(model: "PeftModel", folder: Path) -> None:
    """Write what `PeftModel.from_pretrained` opens, without PEFT's card.

    Adapters beside the first get folders of their own below. PEFT writes sets in an order that
    differs from process to process, and the base's absolute path.
    """
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    for config in folder.rglob(CONFIG):
        settings = {key: _ordered(value) for key, value in read_json(config).items()}
        up = "../" * len(config.parent.relative_to(folder).parts)
        write_json(config, settings | {"base_model_name_or_path": up + BASE})


def _ordered(value: Any) -> Any:
    if isinstance(value, list):
        return sorted(value, key=json.dumps)
    return value


def load(base: "PreTrainedModel", folder: Path) -> "PeftModel":
    """`base` with the adapter of `folder` on it, and those of its folders beside."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(base, str(folder))
    for config in sorted(folder.glob(f"*/{CONFIG}")):
        model.load_adapter(str(config.parent), adapter_name=config.parent.name)
    return model
