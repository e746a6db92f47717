"""The bridge to lm-evaluation-harness: its tasks, asked of our models by our own scoring code.

Prompt and continuation are encoded apart and control tokens are letters, as everywhere here, so a
task of the harness and one of the catalogue that read the same rank labels the same. An empty
context is the end of a document: alone before a base's text, and behind a soft prompt's vectors.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from components.adapters.encoding import Pair, as_text, opening, pairs_of, room
from components.adapters.likelihood import score_pairs

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NEW_TOKENS = 256  # of a generation whose task names no limit, as in the harness
SEED = 1234  # of worked examples, the harness's own


class KindlingLM(LM):
    """A base or an adapter on it, as the harness wants to ask it."""

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

    def loglikelihood(self, requests: Sequence["Instance"]) -> list[tuple[float, bool]]:
        """Of each (context, continuation): the sum of log-probabilities, whether greedy gives it.

        Raises:
            ValueError: a continuation is empty, or longer than the model has room for.
        """
        asked = [request.args for request in requests]
        for context, answer in asked:
            if not answer:
                raise ValueError(f"nothing to score after the context {context[-60:]!r}")
        return self._scored(self._pairs(asked))

    def loglikelihood_rolling(self, requests: Sequence["Instance"]) -> list[float]:
        """Of each text the sum of log-probabilities of all its tokens, each predicted once.

        A text that is longer than the context is read in windows, see the harness's own
        `get_rolling_token_windows`.
        """
        pairs: list[Pair] = []
        sizes = []
        for request in requests:
            ids = as_text(self.tokenizer, request.args[0])
            size = room(self.model)
            windows = get_rolling_token_windows(ids, self.tokenizer.bos_token_id, size, 1)
            cut = [make_disjoint_window(window) for window in windows]
            pairs += [Pair(tuple(context), tuple(part)) for context, part in cut]
            sizes.append(len(cut))
        scored = iter(self._scored(pairs))
        return [sum(value for value, _ in islice(scored, size)) for size in sizes]

    def generate_until(self, requests: Sequence["Instance"]) -> list[str]:
        """Of each (context, settings) what the model writes, up to the first text of `until`."""
        return [self._write(*request.args) for request in requests]

    def _pairs(self, asked: Sequence[tuple[str, str]]) -> list[Pair]:
        """The tokens of contexts and continuations.

        Behind virtual tokens an empty context has no token to predict from, so it gets one.
        """
        end = () if opening(self.model, self.tokenizer) else (self.tokenizer.bos_token_id,)
        bare = [n for n, (context, _) in enumerate(asked) if end and not context]
        texts = [pair for pair in asked if pair[0] or not end]
        contexts, answers = [context for context, _ in texts], [answer for _, answer in texts]
        found = pairs_of(self.model, self.tokenizer, contexts, answers) if texts else []
        for number in bare:
            found.insert(number, Pair(end, tuple(as_text(self.tokenizer, asked[number][1]))))
        return found

    def _scored(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        scored = score_pairs(self.model, self.tokenizer, pairs)
        return [(sum(each.logprobs), each.greedy) for each in scored]

    def _write(self, context: str, settings: Mapping[str, Any]) -> str:
        import torch

        given = dict(normalize_gen_kwargs(dict(settings), NEW_TOKENS))
        stops, limit = given.pop("until", []), room(self.model)
        most = min(given.pop("max_gen_toks"), limit // 2)  # the prompt has the other half
        if not given["do_sample"]:
            given.pop("temperature", None)
        first = opening(self.model, self.tokenizer)
        ids = [*first, *as_text(self.tokenizer, context)[len(first) + most - limit :]]
        known = torch.tensor([ids or [self.tokenizer.bos_token_id]])  # (1, tokens)
        with torch.inference_mode():
            written = self.model.generate(
                input_ids=known.to(self.model.device),
                attention_mask=torch.ones_like(known).to(self.model.device),
                max_new_tokens=most,
                pad_token_id=self.tokenizer.pad_token_id,
                **({"stop_strings": stops, "tokenizer": self.tokenizer} if stops else {}),
                **given,
            )[0, known.shape[1] :]
        text = self.tokenizer.decode(written, skip_special_tokens=True)
        return postprocess_generated_text(text, stops, None)


def load_tasks(file: Path) -> dict[str, Any]:
    """The tasks of the harness that the YAML `file` describes.

    A relative path among `data_files` that is not there from here is looked for beside `file`.

    Raises:
        ValueError: there is no such file, it describes no task, or its data is not there.
    """
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    if not file.is_file():
        raise ValueError(f"{file}: no such file; name the YAML of a task of lm-evaluation-harness")
    described = load_yaml(file)
    if not {"task", "group"} & described.keys():
        raise ValueError(f"{file} has neither 'task' nor 'group', so it describes no task")
    kwargs = described.get("dataset_kwargs") or {}
    if "data_files" in kwargs:
        described["dataset_kwargs"] = {**kwargs, "data_files": _found(kwargs["data_files"], file)}
    beside = str(file.parent) if "group" in described else None  # it names tasks of other files
    tasks = TaskManager(include_path=beside, include_defaults=False).load([described])
    for task in tasks["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config("num_fewshot", 0)
        task.set_fewshot_seed(seed=SEED)
    return tasks


def _found(files: Any, file: Path) -> Any:
    """`data_files` as paths that exist from here; of the forms that `datasets` takes."""
    if isinstance(files, dict):
        return {split: _found(part, file) for split, part in files.items()}
    if isinstance(files, list):
        return [_found(part, file) for part in files]
    for place in (Path(files), file.parent / files):
        if place.is_file():
            return str(place.resolve())
    raise ValueError(f"{file}: data_files: there is no {files}, neither here nor beside the task")


def evaluate_tasks(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", file: Path
) -> dict[str, Any]:
    """What the harness says of `model` on the tasks of the YAML `file`.

    Returns "results" (by task, then "METRIC,FILTER" and "METRIC_stderr,FILTER"), "samples" (by
    task) and what else `lm_eval.evaluator.evaluate` tells.
    """
    from lm_eval.evaluator import evaluate

    told = evaluate(lm=KindlingLM(model, tokenizer), task_dict=load_tasks(file))
    assert told is not None  # in one process
    return told
