"""Completions and chat: from tokens of the engine to answers in OpenAI's shapes."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing
from dataclasses import replace
from functools import partial
from typing import Any

from components.serving import answers
from components.serving.asked import SEEDS, opened, prompt_of, sampling_of, shared
from components.serving.deployment import Deployment
from components.serving.engine import Caller, Token
from components.serving.gateway import Gateway
from components.serving.generation_schemas import ChatRequest, Generation
from components.serving.gone import Gone
from components.serving.keys import Key
from components.serving.line import together
from components.serving.story import Story
from components.serving.templates import find

Piece = tuple[str | None, int]  # of a text, None at its end; how many tokens there are by then
Work = Callable[[int, answers.Choice, Gone], Iterator[Piece]]


class Answer:
    """One completion or chat answer.

    Raises (when made, before any work):
        RequestError: an unknown or unavailable model, an unknown template, or a prompt too long.
    """

    def __init__(
        self,
        gateway: Gateway,
        deployment: Deployment,
        body: Generation,
        story: Story,
        key: Key | None,
    ) -> None:
        self.gateway, self.deployment, self.body, self.story = gateway, deployment, body, story
        self.engine = deployment.engine
        self.is_chat = isinstance(body, ChatRequest)
        self.kind = "chat.completion" if self.is_chat else "text_completion"
        deployment.known(body.model, key)
        story.model, self.inner = body.model, deployment.inner(body.model)
        gateway.require("serving.choices", body.n, gateway.limits.choices, "n", "choices")
        call = body.template
        self.template = find(gateway.templates, call.id, call.version) if call else None
        self.ids = prompt_of(self.engine, body, self.template)
        length, most = len(self.ids), gateway.limits.prompt_tokens
        gateway.require("serving.prompt_tokens", length, most, "the prompt", "tokens")
        self.sampling = sampling_of(self.engine, self.inner, body, length, gateway.limits)
        fixed = shared(self.engine, self.ids, self.template)
        begun = opened(self.engine, body, self.ids)
        self.caller = Caller(key.sha256 if key else "", fixed, begun)
        self.head = self._head()

    def _head(self) -> dict[str, Any]:
        """What every piece of the answer says; its fingerprint is on disk when this returns."""
        digest = self.gateway.fingerprint(self.deployment, self.body.model, self.template)
        kind = "chatcmpl" if self.is_chat else "cmpl"
        identity = self.gateway.fingerprints.answer_id(kind, digest)
        self.story.answer, self.story.fingerprint = identity, digest
        self.story.asked = self.body.model_dump(
            include={"prompt", "messages", "template"}, exclude_none=True
        )
        head = {
            "id": identity,
            "created": int(time.time()),
            "model": self.body.model,
            "system_fingerprint": f"fp_{digest}",
        }
        if self.template:
            head["template"] = {"id": self.template.id, "version": self.template.version}
        return head

    async def whole(self, deadline: float) -> dict[str, Any]:
        """The body of an answer that is not streamed. deadline: in the event loop's time."""
        choices = [answers.Choice() for _ in range(self.body.n)]
        async with aclosing(self._told(self._to_its_end, choices, deadline)) as ends:
            async for _ in ends:
                pass
        entries = [self._entry(number, choice) for number, choice in enumerate(choices)]
        return {
            **self.head,
            "object": self.kind,
            "choices": entries,
            "usage": self._ended(choices),
        }

    async def _told(
        self,
        work: Work,
        choices: list[answers.Choice],
        deadline: float,
        ended: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[tuple[int, Piece]]:
        """What `work` gives for every choice, as it comes, with the choice's number."""
        line = self.gateway.line
        every = [
            line.run(partial(work, number, choice), deadline)
            for number, choice in enumerate(choices)
        ]
        try:
            async with aclosing(together(every, ended)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:  # also where the client has left, or the time is over
            self._count(choices)

    def _count(self, choices: list[answers.Choice]) -> None:
        """Tell the story what was read and written, whether or not somebody still waits for it."""
        written = sum(len(choice.tokens) for choice in choices)
        if written:  # before its first token, nobody knows whether the prompt was read
            self.story.prompt_tokens = len(self.ids)
        self.story.completion_tokens = written

    def _to_its_end(self, number: int, choice: answers.Choice, gone: Gone) -> Iterator[Piece]:
        """As `_generate`, its end alone: a piece that nobody reads need not wake the server."""
        with closing(self._generate(number, choice, gone)) as pieces:
            if all(not gone for _ in pieces):
                yield None, len(choice.tokens)

    def _generate(self, number: int, choice: answers.Choice, gone: Gone) -> Iterator[Piece]:
        """The texts of one choice, each with how many tokens there are by then; None at its end.

        Runs in a thread, ahead of who reads.
        """
        sampling = self.sampling
        if sampling.seed is not None and number:
            sampling = replace(sampling, seed=(sampling.seed + number) % SEEDS)
        caller = replace(self.caller, gone=gone)
        made = self._noted(self.engine.generate(self.inner, self.ids, sampling, caller))
        with closing(made) as tokens:
            before = self.ids[-1] if self.ids else None
            stops = self.body.stops
            for piece in answers.generate(self.engine, tokens, sampling, stops, choice, before):
                yield piece, len(choice.tokens)
        yield None, len(choice.tokens)

    def _noted(self, made: Iterator[Token]) -> Iterator[Token]:
        """`made`; the story is told of the first token, whose text may be held back."""
        with closing(made) as tokens:
            for token in tokens:
                self.story.first_token()
                yield token

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

    def _logprobs(
        self, choice: answers.Choice, first: int = 0, end: int | None = None
    ) -> dict[str, Any] | None:
        """Of the tokens from number `first` on; None where the request wants none."""
        wanted = self.body.logprobs
        if wanted is None or wanted is False:  # 0 wants them, without alternatives
            return None
        told = answers.chat_logprobs if self.is_chat else answers.completion_logprobs
        return told(self.engine, choice, first, end)

    def _ended(self, choices: list[answers.Choice]) -> dict[str, int]:
        """The usage of an answer that is whole; its story and what feedback may need are kept."""
        read, written = len(self.ids), sum(len(choice.tokens) for choice in choices)
        self.story.prompt_tokens, self.story.completion_tokens = read, written
        self.story.answered = [choice.text for choice in choices]
        self.gateway.memory.keep(self.head["id"], self.story.asked, self.story.answered)
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }

    async def stream(self, deadline: float, ended: Callable[[], None]) -> AsyncIterator[str]:
        """The lines of server-sent events.

        A token's log-probability comes with the piece that ends its text, or with the last one.
        deadline: in the event loop's time. ended: called when the engine has done its part, which a
        slow reader may be far behind.
        """
        choices = [answers.Choice() for _ in range(self.body.n)]
        told: dict[int, int] = {}  # tokens, by choice
        async with aclosing(self._told(self._generate, choices, deadline, ended)) as pieces:
            async for number, (piece, known) in pieces:
                if self.is_chat and number not in told:
                    yield self._event(number, {"role": "assistant", "content": ""}, None)
                if piece is None:
                    yield self._event(number, {}, choices[number].finish_reason)
                    continue
                logprobs = self._logprobs(choices[number], told.get(number, 0), known)
                told[number] = known
                yield self._event(number, {"content": piece}, None, logprobs)
        usage = self._ended(choices)
        if self._tells_usage():
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
        # as OpenAI's: whoever is told of the usage finds the field in every piece
        usage = {"usage": None} if self._tells_usage() else {}
        return self._line({"choices": [entry], **usage})

    def _tells_usage(self) -> bool:
        """Whether the last piece of a stream is to say what was read and written."""
        options = self.body.stream_options
        return options is not None and bool(options.include_usage)

    def _line(self, rest: dict[str, Any]) -> str:
        kind = "chat.completion.chunk" if self.is_chat else self.kind
        body = {**self.head, "object": kind, **rest}
        return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
