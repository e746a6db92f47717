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

from components.adapters.encoding import Pair, as_answer, as_text, opened, opening, pairs_of, room
from components.adapters.likelihood import score_pairs
from components.evaluation.decoding import Decoding, generate

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
        self.truncated = 0  # continuations that lost their beginning

    def loglikelihood(self, requests: Sequence["Instance"]) -> list[tuple[float, bool]]:
        """Of each (context, continuation): the sum of log-probabilities, whether greedy gives it.

        A continuation longer than the model has room for loses its beginning, which `truncated`
        counts. The first token that is left is read and not scored, as the harness has it.

        Raises:
            ValueError: a continuation is empty.
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
        """Of each (context, settings) what the model writes, up to the first text of `until`.

        Greedy answers are written together; those that ask for more of transformers, one by one.
        """
        asked = [request.args for request in requests]
        together: dict[Decoding, list[int]] = {}
        written = {}
        for number, (context, settings) in enumerate(asked):
            given = dict(normalize_gen_kwargs(dict(settings), NEW_TOKENS))
            given["until"] = [stop for stop in given["until"] if stop]  # nothing ends no text
            # the prompt has the other half
            given["max_gen_toks"] = min(given["max_gen_toks"], room(self.model) // 2)
            if self._plain(context, given):
                decoding = Decoding(given["max_gen_toks"], stop=tuple(given["until"]))
                together.setdefault(decoding, []).append(number)
            else:
                written[number] = self._write(context, given)
        for decoding, numbers in together.items():
            contexts = [asked[number][0] for number in numbers]
            seeds = [SEED] * len(contexts)  # which greedy answers have no use for
            made = generate(self.model, self.tokenizer, contexts, seeds, decoding)
            written |= {n: answer.text for n, answer in zip(numbers, made, strict=True)}
        return [written[number] for number in range(len(asked))]

    def _plain(self, context: str, given: Mapping[str, Any]) -> bool:
        """Whether `decoding.generate` writes what transformers would: greedily, behind a token at
        least, and to the same ends, of which ours always has the tokenizer's.
        """
        stated = self.model.generation_config.eos_token_id
        listed = stated if isinstance(stated, list) else [stated]
        same_ends = stated is None or self.tokenizer.eos_token_id in listed
        settings = given.keys() - {"do_sample", "temperature", "until", "max_gen_toks"}
        read = context or opening(self.model, self.tokenizer)
        return bool(same_ends and read and not settings and not given["do_sample"])

    def _pairs(self, asked: Sequence[tuple[str, str]]) -> list[Pair]:
        """The tokens of contexts and continuations; of one that does not fit, its end.

        Behind virtual tokens an empty context has no token to predict from, so it gets one.
        """
        first = tuple(opening(self.model, self.tokenizer))
        own: dict[int, Pair] = {}  # of which `pairs_of` knows nothing
        for number, (context, answer) in enumerate(asked):
            begin = first if context or first else (self.tokenizer.bos_token_id,)
            left = room(self.model) - len(begin)
            if begin == first and len(answer.encode()) < left - 1:
                continue  # a token has a byte or more
            target = tuple(as_answer(self.tokenizer, context, answer))
            if len(target) > left - bool(context):
                self.truncated += 1
                known, *target = target[-left:]
                begin = (*begin, known)
            elif begin == first:
                continue
            own[number] = Pair(begin, tuple(target))
        rest = [number for number in range(len(asked)) if number not in own]
        contexts, answers = ([asked[number][side] for number in rest] for side in (0, 1))
        found = pairs_of(self.model, self.tokenizer, contexts, answers)
        pairs = own | dict(zip(rest, found, strict=True))
        return [pairs[number] for number in range(len(asked))]

    def _scored(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        scored = score_pairs(self.model, self.tokenizer, pairs)
        return [(sum(each.logprobs), each.greedy) for each in scored]

    def _write(self, context: str, given: dict[str, Any]) -> str:
        import torch

        settings = dict(given)
        stops, most = settings.pop("until"), settings.pop("max_gen_toks")
        if not settings["do_sample"]:
            settings.pop("temperature", None)
        ids = opened(self.model, self.tokenizer, context, beside=most)
        known = torch.tensor([ids or [self.tokenizer.bos_token_id]])  # (1, tokens)
        with torch.inference_mode():
            written = self.model.generate(
                input_ids=known.to(self.model.device),
                attention_mask=torch.ones_like(known).to(self.model.device),
                max_new_tokens=most,
                pad_token_id=self.tokenizer.pad_token_id,
                **({"stop_strings": stops, "tokenizer": self.tokenizer} if stops else {}),
                **settings,
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
    task) and what else `lm_eval.evaluator.evaluate` tells; "truncated" counts the continuations
    that lost their beginning.
    """
    from lm_eval.evaluator import evaluate

    asked = KindlingLM(model, tokenizer)
    told = evaluate(lm=asked, task_dict=load_tasks(file))
    assert told is not None  # in one process
    return told | {"truncated": asked.truncated}
