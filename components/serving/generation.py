"""Completions and chat: from a request to tokens of the engine, and back to OpenAI's shapes."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from starlette.concurrency import iterate_in_threadpool

from components.prompts import render
from components.serving import answers, schemas
from components.serving.engine import Caller, RequestError, Sampling
from components.serving.fingerprints import answer_id
from components.serving.gateway import Gateway
from components.serving.templates import find


class Answer:
    """One completion or chat answer.

    Raises (when made, before any work):
        RequestError: an unknown model or template, or a prompt too long for it.
    """

    def __init__(self, gateway: Gateway, body: schemas.Generation, kind: str) -> None:
        self.gateway, self.body, self.kind = gateway, body, kind
        self.is_chat = kind == "chat.completion"
        described = gateway.known(body.model)
        self.caller = Caller(content=described["content"])
        call = body.template
        self.template = find(gateway.templates, call.id, call.version) if call else None
        self.ids = self._prompt()
        self.sampling = self._sampling()
        self.digest = gateway.fingerprint(body.model, described, self.template)
        self.head = {
            "id": answer_id("chatcmpl" if self.is_chat else "cmpl", self.digest),
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": f"fp_{self.digest}",
        }
        if self.template:
            self.head["template"] = {"id": self.template.id, "version": self.template.version}

    def _prompt(self) -> list[int]:
        engine, body = self.gateway.engine, self.body
        text = render(self.template.text, body.template.variables) if self.template else ""
        if self.is_chat:
            said = [message.model_dump() for message in body.messages]
            if not said and not self.template:
                raise RequestError("messages is empty, and no template is named", "messages")
            if self.template and not said:
                return engine.encode(text)
            return [*(engine.encode(text) if text else []), *engine.chat(said)]
        if body.prompt is None and not self.template:
            raise RequestError("prompt is missing, and no template is named", "prompt")
        if isinstance(body.prompt, list):
            return [*(engine.encode(text) if text else []), *self._tokens(body.prompt)]
        return engine.encode(text + (body.prompt or ""))

    def _tokens(self, numbers: list[int]) -> list[int]:
        """`numbers`, each of which is a token: the model would fail on another in mid-answer."""
        if not numbers:
            raise RequestError("prompt is an empty list; give it a token, or a text", "prompt")
        size = self.gateway.engine.vocabulary()
        for place, number in enumerate(numbers):
            if not 0 <= number < size:
                raise RequestError(
                    f"prompt[{place}] is {number}, which is no token: the vocabulary has {size} "
                    f"tokens, 0 to {size - 1}; POST /v1/tokenize gives those of a text",
                    "prompt",
                )
        return numbers

    def _sampling(self) -> Sampling:
        body = self.body
        room = self.gateway.engine.room(body.model)
        left = room - len(self.ids)
        wanted = body.max_tokens
        if self.is_chat:
            wanted = body.max_completion_tokens or wanted or left
        if left < max(wanted, 1):
            raise RequestError(
                f"the prompt has {len(self.ids)} tokens and max_tokens is {wanted}: together more "
                f"than the {room} that '{body.model}' has room for",
                "max_tokens",
                "context_length_exceeded",
            )
        top = (body.top_logprobs or 0) if self.is_chat else (body.logprobs or 0)
        return Sampling(wanted, body.temperature, body.top_p, body.seed, top)

    async def whole(self) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        choices = [answers.Choice() for _ in range(self.body.n)]
        async with self.gateway.turn():
            for number, choice in enumerate(choices):
                async for _ in self._pieces(number, choice):
                    pass
        usage = self._usage(sum(len(choice.tokens) for choice in choices))
        entries = [self._entry(number, choice) for number, choice in enumerate(choices)]
        return {**self.head, "object": self.kind, "choices": entries, "usage": usage}

    async def _pieces(self, number: int, choice: answers.Choice) -> AsyncIterator[str]:
        """The text of choice `number`, from a thread token by token: the caller may give up."""
        seed = self.body.seed
        sampling = self.sampling
        if seed is not None and number:
            sampling = replace(sampling, seed=seed + number)
        pieces = answers.generate(
            self.gateway.engine,
            self.body.model,
            self.ids,
            sampling,
            self.body.stop,
            choice,
            self.caller,
        )
        async for piece in iterate_in_threadpool(pieces):
            yield piece

    def _entry(self, number: int, choice: answers.Choice) -> dict[str, Any]:
        common = {
            "index": number,
            "finish_reason": choice.finish_reason,
            "logprobs": self._logprobs(choice),
        }
        if self.is_chat:
            message = {"role": "assistant", "content": choice.text, "refusal": None}
            return {**common, "message": message}
        return {**common, "text": choice.text}

    def _logprobs(self, choice: answers.Choice, first: int = 0) -> dict[str, Any] | None:
        """Of the tokens from number `first` on; None where the request wants none."""
        wanted = self.body.logprobs
        if wanted is None or wanted is False:  # 0 wants them, without alternatives
            return None
        told = answers.chat_logprobs if self.is_chat else answers.completion_logprobs
        return told(self.gateway.engine, choice, first)

    def _usage(self, written: int) -> dict[str, int]:
        read = len(self.ids)
        self.gateway.tokens.labels("in").inc(read)
        self.gateway.tokens.labels("out").inc(written)
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }

    async def stream(self) -> AsyncIterator[str]:
        """The lines of server-sent events.

        A token's log-probability comes with the piece that ends its text, or with the last one.
        """
        written = 0
        async with self.gateway.turn():
            for number in range(self.body.n):
                if self.is_chat:
                    yield self._event(number, {"role": "assistant", "content": ""}, None)
                choice, told = answers.Choice(), 0
                async for piece in self._pieces(number, choice):
                    logprobs = self._logprobs(choice, told)
                    told = len(choice.tokens)
                    yield self._event(number, {"content": piece}, None, logprobs)
                written += len(choice.tokens)
                yield self._event(number, {}, choice.finish_reason)
        usage = self._usage(written)
        if self.body.stream_options and self.body.stream_options.include_usage:
            yield self._line({"choices": [], "usage": usage})
        yield "data: [DONE]\n\n"

    def _event(
        self,
        number: int,
        delta: dict[str, str],
        finish: str | None,
        logprobs: dict[str, Any] | None = None,
    ) -> str:
        entry: dict[str, Any] = {"index": number, "finish_reason": finish, "logprobs": logprobs}
        entry |= {"delta": delta} if self.is_chat else {"text": delta.get("content", "")}
        return self._line({"choices": [entry]})

    def _line(self, rest: dict[str, Any]) -> str:
        kind = "chat.completion.chunk" if self.is_chat else self.kind
        body = {**self.head, "object": kind, **rest}
        return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
