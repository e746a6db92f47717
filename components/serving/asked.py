"""What a request for text asks of the engine: its prompt as tokens, and how to choose more."""

from components.prompts import VARIABLE, render
from components.serving.engine import Engine, RequestError, Sampling
from components.serving.generation_schemas import ChatRequest, Generation
from components.serving.limits import Serving
from components.serving.templates import Template

COLDEST = 1e-4  # of a temperature: below it logits over it overflow, and sampling is greedy anyway
SEEDS = 2**63  # that an engine knows; any whole number is one of them
NARROWEST = 1e-6  # of top_p: below it only the likeliest token is left, or in float32 none


def prompt_of(engine: Engine, body: Generation, template: Template | None) -> list[int]:
    """The tokens of a request's prompt, behind those of the template that it names.

    Raises:
        RequestError: there is no prompt, it holds what is no token, or a variable is missing.
    """
    text = _rendered(body, template)
    if isinstance(body, ChatRequest):
        said = [message.told() for message in body.messages]
        if not said and not template:
            raise RequestError("messages is empty, and no template is named", "messages")
        if template and not said:
            return engine.encode(text)
        return [*(engine.encode(text) if text else []), *engine.chat(said)]
    if body.prompt is None and not template:
        raise RequestError("prompt is missing, and no template is named", "prompt")
    if isinstance(body.prompt, list):
        return [*(engine.encode(text) if text else []), *_tokens(engine, body.prompt)]
    return engine.encode(text + (body.prompt or ""))


def _rendered(body: Generation, template: Template | None) -> str:
    if not template:
        return ""
    try:
        return render(template.text, body.template.variables)
    except ValueError as error:
        raise RequestError(str(error), "template.variables") from None


def _tokens(engine: Engine, numbers: list[int]) -> list[int]:
    """`numbers`, each of which is a token: the model would fail on another in mid-answer."""
    if not numbers:
        raise RequestError("prompt is an empty list; give it a token, or a text", "prompt")
    size = engine.vocabulary()
    for place, number in enumerate(numbers):
        if not 0 <= number < size:
            raise RequestError(
                f"prompt[{place}] is {number}, which is no token: the vocabulary has {size} "
                f"tokens, 0 to {size - 1}; POST /v1/tokenize gives those of a text",
                "prompt",
            )
    return numbers


def opened(engine: Engine, body: Generation, ids: list[int]) -> bool:
    """Whether the prompt `ids` is a chat alone that begins as its template says."""
    is_chat = isinstance(body, ChatRequest) and body.messages and not body.template
    return bool(is_chat and ids and engine.chat_opens)


def shared(engine: Engine, ids: list[int], template: Template | None) -> int:
    """How many tokens the prompt `ids` begins with that are the template's fixed head alone."""
    if not template:
        return 0
    fixed = VARIABLE.split(template.text, maxsplit=1)[0]
    same = 0
    for ours, theirs in zip(ids, engine.encode_fixed(fixed), strict=False):
        if ours != theirs:
            break
        same += 1
    return same


def sampling_of(
    engine: Engine, inner: str, body: Generation, prompt: int, limits: Serving
) -> Sampling:
    """How to choose tokens behind a prompt of so many. inner: what the engine calls the model.

    Raises:
        RequestError: the model cannot write text, or has no room for an answer that long.
    """
    room = engine.room(inner)
    left = min(room - prompt, limits.output_tokens)
    is_chat = isinstance(body, ChatRequest)
    wanted = _longest_choice(body.choices, left) if body.choices else body.max_tokens
    if is_chat and not body.choices:
        wanted = body.max_completion_tokens or wanted or left
    if left < max(wanted, 1):
        over = f"more than the {limits.output_tokens} that this server gives in an answer"
        if prompt + max(wanted, 1) > room:
            over = f"together more than the {room} that '{body.model}' has room for"
        raise RequestError(
            f"the prompt has {prompt} tokens and max_tokens is {wanted}: {over}",
            "max_tokens",
            "context_length_exceeded",
        )
    top = (body.top_logprobs or 0) if is_chat else (body.logprobs or 0)
    temperature = body.temperature if body.temperature >= COLDEST else 0.0
    return Sampling(
        max_tokens=wanted,
        temperature=temperature,
        top_p=max(body.top_p, NARROWEST),
        seed=None if body.seed is None else body.seed % SEEDS,
        top=top,
        top_k=body.top_k,
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        choices=tuple(body.choices or ()),
        json_schema=body.response_format.text() if body.response_format else None,
    )


def _longest_choice(choices: list[str], left: int) -> int:
    """The tokens of an answer that is one of `choices`, whatever max_tokens is.

    A model may cut them finer than the tokenizer would, into bytes at most; one more token says
    that the answer ends. A choice that has no room for all of these could be cut short.
    """
    need = 1 + max(len(text.encode()) for text in choices)
    if need > left:
        raise RequestError(
            f"the longest of choices has {need - 1} bytes, each of which may be a token, and one "
            f"more ends the answer; there is room for {max(left, 0)} tokens behind the prompt",
            "choices",
            "context_length_exceeded",
        )
    return need
