"""A base that learned nothing, and adapters of it, made by the real components in seconds."""

from pathlib import Path

from pydantic import TypeAdapter

from components.adapters import AdapterBlock
from components.adapters.settings import Adapter
from components.adapters.training import train_adapter
from components.lineage import LINEAGE, folder_hash, write_json, write_jsonl
from components.models import llama
from components.prompts import Prompt
from components.reporter import Silent
from components.tasks import Task, build_task
from components.tokenizer import Tokenizer, train_tokenizer

TEXTS = [f"the {thing} was {word} ." for thing in ("film", "plot", "cast") for word in "abcdefgh"]
COMMON = {"pipeline": "tiny", "task": "taste", "seed": 1}
TRAINING = {"steps": 8, "batch_size": 8, "precision": "float32"}
SOFT = {"virtual_tokens": 4, **TRAINING}
ADAPTERS = {  # at least one of each method
    "zero_shot": {"method": "prompt", "shots": 2},
    "lora": {"method": "lora", "rank": 2, "learning_rate": 0.05, **TRAINING},
    "soft_prompt": {"method": "prompt_tuning", "learning_rate": 0.5, **SOFT},
    "p_tuning": {"method": "p_tuning", "learning_rate": 0.05, **SOFT},
    "prefix": {"method": "prefix_tuning", "learning_rate": 0.5, **SOFT},
    "ia3": {"method": "ia3", "learning_rate": 0.5, **TRAINING},
    "head": {"method": "head", "learning_rate": 0.1, **TRAINING},
    "full": {"method": "full", "learning_rate": 0.01, **TRAINING},
    "dpo": {"method": "dpo", "rank": 2, "learning_rate": 0.05, **TRAINING},
}


def block_of(settings: dict) -> Adapter:
    """The catalogue's block of an adapter of the tiny base."""
    return TypeAdapter(AdapterBlock).validate_python(settings | COMMON)


def signed(folder: Path) -> Path:
    write_json(folder / LINEAGE, {"content": folder_hash(folder), "inputs": {}})
    return folder


def make_folders(top: Path) -> dict[str, Path]:
    """Artifact folders by name: `base`, `taste` (the task), and those of `ADAPTERS`."""
    from transformers import AutoTokenizer

    made = {name: top / name for name in ("corpus", "tokenizer", "data", "taste", "base")}
    made |= {name: top / name for name in ADAPTERS}
    for folder in made.values():
        folder.mkdir()
    for split in ("train", "validation", "test"):
        write_jsonl(made["corpus"] / f"{split}.jsonl", ({"text": text} for text in TEXTS))
        rows = [{"text": t, "label": "good" if n % 2 else "bad"} for n, t in enumerate(TEXTS)]
        write_jsonl(made["data"] / f"{split}.jsonl", rows)
    train_tokenizer(Tokenizer(vocab_size=300), made["corpus"], made["tokenizer"], Silent())
    tokenizer = AutoTokenizer.from_pretrained(made["tokenizer"])
    block = llama.Model(layers=2, width=32, heads=2, context=96)
    llama.build(block, tokenizer, seed=3).save_pretrained(made["base"])
    tokenizer.save_pretrained(made["base"])
    signed(made["base"])
    prompt = Prompt(template="{{text}} it was", answer={"good": " good", "bad": " bad"})
    task = Task(dataset="data", kind="classification", prompt="ask")
    build_task(task, "taste", prompt, "ask", made["data"], made["taste"], Silent())
    for name, settings in ADAPTERS.items():
        train(block_of(settings), made["taste"], made["base"], made[name])
    return made


def train(block: Adapter, task: Path, base: Path, folder: Path) -> Path:
    """Fill `folder`, whose name is the adapter's, from a task's and a base's."""
    train_adapter(
        block, folder.name, task, base, folder,
        checkpoints=folder.with_suffix(".checkpoints"), identity="x", report=Silent(),
    )  # fmt: skip
    return signed(folder)
