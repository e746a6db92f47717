"""A base that learned nothing, and adapters of it, made by the real components in seconds."""

from pathlib import Path

from components.adapters import train_adapter
from components.adapters.lora import Lora
from components.adapters.prompt import PromptDesign
from components.adapters.prompt_tuning import PromptTuning
from components.adapters.settings import Adapter
from components.lineage import LINEAGE, folder_hash, write_json, write_jsonl
from components.models import llama
from components.prompts import Prompt, Task, build_task
from components.reporter import Silent
from components.tokenizer import Tokenizer, train_tokenizer

TEXTS = [f"the {thing} was {word} ." for thing in ("film", "plot", "cast") for word in "abcdefgh"]
COMMON = {"pipeline": "tiny", "task": "taste", "seed": 1}
TRAINING = {"steps": 8, "batch_size": 8, "precision": "float32"}


def signed(folder: Path) -> Path:
    write_json(folder / LINEAGE, {"content": folder_hash(folder), "inputs": {}})
    return folder


def make_folders(top: Path) -> dict[str, Path]:
    """Artifact folders by name: `base`, `taste` (the task), `zero_shot`, `lora`, `soft_prompt`."""
    from transformers import AutoTokenizer

    made = {name: top / name for name in ("corpus", "tokenizer", "data", "taste", "base")}
    made |= {name: top / name for name in ("zero_shot", "lora", "soft_prompt")}
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
    blocks = {
        "zero_shot": PromptDesign(method="prompt", shots=2, **COMMON),
        "lora": Lora(method="lora", rank=2, learning_rate=0.05, **TRAINING, **COMMON),
        "soft_prompt": PromptTuning(
            method="prompt_tuning", virtual_tokens=4, learning_rate=0.5, **TRAINING, **COMMON
        ),
    }
    for name, adapter in blocks.items():
        train(adapter, made["taste"], made["base"], made[name])
    return made


def train(block: Adapter, task: Path, base: Path, folder: Path) -> Path:
    """Fill `folder`, whose name is the adapter's, from a task's and a base's."""
    train_adapter(
        block, folder.name, task, base, folder,
        checkpoints=folder.with_suffix(".checkpoints"), identity="x", report=Silent(),
    )  # fmt: skip
    return signed(folder)
