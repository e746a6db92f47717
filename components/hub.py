"""Data sets and models of the Hugging Face hub, brought into folders that a catalogue can name."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.mistakes import suggestion

SPLITS = ("train", "validation", "test")


def import_dataset(identifier: str, out: Path, configuration: str | None = None) -> str:
    """Write the splits of a hub's data set as `out/SPLIT.parquet`; return a block that reads them.

    identifier: `OWNER/NAME`, or a local folder of the form that `datasets` loads. configuration:
    which of the set's parts, where it has several. The folder appears whole or not at all.

    Raises:
        ValueError: `out` is taken, there is no such set, or it has no train split.
    """
    from datasets import load_dataset

    _require_free(out)
    try:
        loaded = load_dataset(identifier, configuration)
    except Exception as error:  # the library raises what its transports do
        raise ValueError(
            f"hub:{identifier} could not be loaded: {error}; is the name right, and is there a way "
            "to the hub from here? A local copy of the set may be named instead: hub:./FOLDER"
        ) from error
    if "train" not in loaded:
        raise ValueError(
            f"hub:{identifier} has no split 'train', only {', '.join(loaded)}"
            f"{suggestion('train', loaded)}"
        )
    with _appearing(out) as temporary:
        for split, rows in loaded.items():
            rows.to_parquet(str(temporary / f"{split}.parquet"))
    return _block(out, loaded)


def import_model(identifier: str, out: Path) -> str:
    """Write a hub's decoder and its tokenizer into `out`; return a pipeline's block with that base.

    identifier: `OWNER/NAME`, or a local folder. The folder appears whole or not at all.

    Raises:
        ValueError: `out` is taken, or there is no such decoder with weights in safetensors.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _require_free(out)
    try:
        tokenizer = AutoTokenizer.from_pretrained(identifier)
        model = AutoModelForCausalLM.from_pretrained(identifier, use_safetensors=True)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"model:{identifier} could not be loaded: {error}; is the name right, does it hold "
            "weights in safetensors, and is there a way to the hub from here? A local copy may be "
            "named instead: model:./FOLDER"
        ) from error
    with _appearing(out) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    return f"{out.name}: {{base: {out}}}"


def _require_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already; give a new folder")


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `out` when nothing went wrong."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        out.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _block(out: Path, loaded: Any) -> str:
    """A block for `datasets`, its columns guessed from their types; for a person to look over."""
    found = [split for split in SPLITS if split in loaded]
    features = loaded["train"].features
    texts = [name for name, kind in features.items() if getattr(kind, "dtype", "") == "string"]
    classes = [name for name, kind in features.items() if hasattr(kind, "names")]
    lines = [f"{out.name}:", f"  path: {out}", "  format: parquet"]
    lines.append(f"  splits: {{{', '.join(f'{s}: {s}.parquet' for s in found)}}}")
    lines.append(f"  text: {texts[0] if texts else 'COLUMN'}  # of {', '.join(features)}")
    if classes:
        names = features[classes[0]].names
        labels = ", ".join(f'"{number}": {name}' for number, name in enumerate(names))
        lines += [f"  label: {classes[0]}", f"  labels: {{{labels}}}"]
    return "\n".join(lines)
