"""Examples judged a second, beside a plain loop: `python bench/evaluation.py`.

Both score every label after every prompt with the same model: ours in batches by length with the
shared beginning read once, the loop as one writes it with transformers, a prompt and a label at a
time. Where it is installed, lm-evaluation-harness scores the same with its own code in batches of
64. All take turns; medians of the rounds. `--json FILE` writes the table.
"""

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from _world import prepare
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from components.adapters import answering
from components.evaluation.classification import Scores
from components.lineage import read_jsonl
from components.models import llama
from components.prompts import with_shots

SHAPES = {
    "quickstart": llama.Model(layers=2, width=192, heads=6, context=512),
    "books": llama.Model(layers=4, width=256, heads=8, context=512),
}
ASKED = " This film is"
LABELS = {"positive": " good", "negative": " bad"}
SHOTS = {"zero_shot": 0, "eight_shot": 8}
NOISE = 1e-4  # nats; float32, summed in another order
Contestant = Callable[[PreTrainedModel, PreTrainedTokenizerBase, Sequence[str]], list[Scores]]


def ours(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]):
    return answering.scores(model, tokenizer, prompts, LABELS)


def plain_loop(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]
) -> list[Scores]:
    found = []
    with torch.no_grad():
        for prompt in prompts:
            scores = {}
            for label, answer in LABELS.items():
                start = [tokenizer.bos_token_id, *tokenizer(prompt)["input_ids"]]
                target = tokenizer(answer)["input_ids"]
                logits = model(torch.tensor([start + target])).logits[0, len(start) - 1 : -1]
                each = logits.log_softmax(-1)[range(len(target)), target]
                scores[label] = float(each.mean())
            found.append(scores)
    return found


def harness(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]
) -> list[Scores]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=64, add_bos_token=True)
    asked = [
        Instance("loglikelihood", {}, (prompt, answer), n)
        for prompt in prompts
        for n, answer in enumerate(LABELS.values())
    ]
    sums = [value for value, _ in lm.loglikelihood(asked, disable_tqdm=True)]
    return [
        dict(zip(LABELS, sums[start : start + len(LABELS)], strict=True))
        for start in range(0, len(sums), len(LABELS))
    ]


def contestants() -> dict[str, Contestant]:
    found: dict[str, Contestant] = {"ours": ours, "plain_loop": plain_loop}
    return found | ({"harness": harness} if importlib.util.find_spec("lm_eval") else {})


def texts(folder: Path, examples: int) -> list[str]:
    """That many reviews of the world's, up to their verdict."""
    rows = (row["text"] for row in read_jsonl(folder / "corpus" / "train.jsonl"))
    found = [text.partition(ASKED)[0] + ASKED for text in rows if ASKED in text]
    return found[:examples]


def race(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], rounds: int
) -> dict[str, float]:
    """Examples a second of each contestant, and ours over each of the others."""
    taken: dict[str, list[float]] = {name: [] for name in contestants()}
    for turn in range(rounds + 1):  # the first warms up
        said = {}
        for name, run in contestants().items():
            started = time.perf_counter()
            said[name] = run(model, tokenizer, prompts)
            if turn:
                taken[name].append(time.perf_counter() - started)
        for scores, plain in zip(said["ours"], said["plain_loop"], strict=True):
            assert all(abs(scores[label] - plain[label]) < NOISE for label in LABELS)
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    rates = {f"{name}_per_s": round(len(prompts) / value, 1) for name, value in seconds.items()}
    others = [name for name in seconds if name != "ours"]
    ratios = {f"over_{name}": round(seconds[name] / seconds["ours"], 2) for name in others}
    return {"examples": len(prompts), **rates, **ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="as a stage of the quickstart has")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    table: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), 12_000, 2048)
        tokenizer = AutoTokenizer.from_pretrained(Path(name) / "tokenizer")
        asked = texts(Path(name), given.examples + max(SHOTS.values()))
        examples = [f"{text} good" for text in asked[given.examples :]]
        for shape, block in SHAPES.items():
            model = llama.build(block, tokenizer, seed=1).eval()
            for kind, shots in SHOTS.items():
                prompts = [with_shots(examples[:shots], text) for text in asked[: given.examples]]
                table[f"{shape}_{kind}"] = race(model, tokenizer, prompts, given.rounds)
    least = min(figures["over_plain_loop"] for figures in table.values())
    told = {**table, "threads": given.threads, "ratio_to_plain_loop": least}
    print(json.dumps(told, indent=1))
    if given.json:
        given.json.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
