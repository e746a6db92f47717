"""What a second thread is worth to a step: `python bench/crews.py`.

Tokens a second of the small decoder of `bench/serving.py` over requests at once, with one thread
for every step and with all, in turns, medians. `components/inference/decoder.py` gives a step a
thread for each `SHARE` of its work, which is told beside. `--json FILE` writes the table.
"""

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from _adapters import make_base
from _asking import rates, serve, workload
from _world import prepare
from serving import SMALL, config_of

sys.path.insert(0, str(Path(__file__).parents[1]))

from components.inference import decoder
from components.inference.backend import Limits
from components.serving.batched_engine import BatchedEngine
from components.serving.engine import BASE

ROWS = (1, 2, 4, 8, 16)
ANSWER = 64  # tokens
SHARES = {"one thread": 1 << 60, "all threads": 1}


def measure(base: Path, rows: int, rounds: int) -> dict[str, float]:
    """Tokens a second, by the threads of a step."""
    engine = BatchedEngine(base, limits=Limits(rows=rows))
    jobs = [(BASE, ids[:16], ANSWER) for _, ids, _ in workload(2 * rows, [BASE], 7)]

    def with_share(share: int) -> int:
        decoder.SHARE = share
        return serve(engine, jobs)

    turns = {name: partial(with_share, share) for name, share in SHARES.items()}
    found = rates(turns, rounds, engine.batcher.pool.forget)
    work = engine.batcher.decoder.work(rows)
    engine.close()
    return {"million operations a step": round(work / 1e6), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    told = {"threads": torch.get_num_threads(), "share": decoder.SHARE}
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        prepare(top / "world", 6000, 4096)
        make_base(top / "base", top / "world" / "tokenizer", config_of(SMALL, 4096))
        for rows in ROWS:
            told[f"{rows} at once"] = found = measure(top / "base", rows, given.rounds)
            print(f"{rows} at once: {found}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
