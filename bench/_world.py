"""What several benchmarks train on: the embedded world as token files."""

from pathlib import Path

from components.corpus import build_corpus
from components.dataset import Dataset
from components.ingest import ingest
from components.lineage import LINEAGE, folder_hash, write_json
from components.reporter import Silent
from components.tokenizer import Tokenizer, train_tokenizer
from components.tokens import encode_corpus

PATH = Path(__file__).parents[1] / "components" / "world.py"


def prepare(folder: Path, size: int, vocabulary: int) -> None:
    """Make `data`, `corpus`, `tokenizer` and `tokens` of `size` documents below `folder`."""
    made = {name: folder / name for name in ("data", "corpus", "tokenizer", "tokens")}
    for path in made.values():
        path.mkdir(parents=True)
    block = Dataset(path="components/world.py", format="world", size=size, seed=1)
    ingest(block, PATH, made["data"], Silent())
    write_json(made["data"] / LINEAGE, {"content": folder_hash(made["data"])})
    build_corpus(made["data"], made["corpus"], Silent())
    train_tokenizer(Tokenizer(vocab_size=vocabulary), made["corpus"], made["tokenizer"], Silent())
    encode_corpus(made["corpus"], made["tokenizer"], made["tokens"], Silent())
