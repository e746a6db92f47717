"""Data sets of the Hugging Face hub, brought into a folder that a catalogue can name."""

import os
import shutil
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

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already; give a new folder")
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
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for split, rows in loaded.items():
            rows.to_parquet(str(temporary / f"{split}.parquet"))
        out.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return _block(out, loaded)


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
