"""Continuous batching: requests are taken in and let go at every step.

    waiting --(a row and blocks are free)--> reading its prompt, in chunks --> writing, a token a
    step --(end, limit, cancelled)--> its blocks are left, kept beginnings stay for others

A step reads one token of each row that writes, and at most `chunk` tokens of prompts, so that a
long prompt never stalls others for longer. A request takes all the blocks that it may ever need
when it is let in: a full pool makes requests wait, and none that runs can fail for room.
"""

import threading
from collections import deque
from functools import partial

import numpy as np
import torch

from components.inference.backend import Limits, decoder_of
from components.inference.decoder import Step
from components.inference.request import Choosing, Made, Reading, Request, TooLarge
from components.inference.rows import Chooser, Row, begin, failure, finish, keep, next_key, places
from components.inference.turns import Turns
from components.inference.weights import Weights


class Batcher:
    """One decoder with its pool and its rows."""

    def __init__(self, weights: Weights, limits: Limits, turns: Turns) -> None:
        """turns: whose thread takes the steps and does all that begins with an underscore."""
        self.limits, self.turns = limits, turns
        self.decoder = decoder_of(weights, limits)
        self.pool, self.slots = self.decoder.pool, self.decoder.slots
        self.chooser = Chooser(self.decoder.paper(limits.rows))
        self.rows: dict[int, Row] = {}
        self.waiting: deque[Request] = deque()
        self.steps = self.written = 0
        self._free = list(range(limits.rows - 1, -1, -1))
        self._reading: list[Row] = []
        self._writing = np.zeros(0, np.int32)
        self._next, self._read, self._slot = (np.zeros(limits.rows, np.int32) for _ in range(3))
        self._open, self._door = True, threading.Lock()
        turns.join(self)

    def submit(self, request: Request) -> Request:
        """Put a request in line; what it makes comes through its `answers`.

        Raises:
            ValueError: it needs more room than there is in all, or names a token that is none.
            RuntimeError: the batcher was closed.
        """
        size = self.decoder.weights.shape.vocabulary
        wrong = request.tokens[(request.tokens < 0) | (request.tokens >= size)]
        if len(wrong):  # the step that reads it would fail for all of its rows
            raise ValueError(f"{wrong[0]} is no token: the vocabulary has {size}")
        if request.blocks > self.pool.blocks:
            raise TooLarge(
                f"{request.length} tokens and {request.limit} to write need {request.blocks} "
                f"blocks; the pool has {self.pool.blocks}"
            )
        with self._door:  # what is put in while it is open is heard before the end
            if not self._open:
                raise RuntimeError("the engine was closed")
            self.turns.tell(partial(self._let_in, request))
        return request

    def cancel(self, request: Request) -> None:
        """Let a request go, waiting or running; nothing where it has ended."""
        self.turns.tell(partial(self._cancel, request))

    def close(self) -> None:
        """No more steps; requests that have not ended fail."""
        with self._door:
            self._open = False
        self.turns.tell(partial(self._fail, RuntimeError("the engine was closed")))
        self.turns.leave(self)

    @property
    def busy(self) -> bool:
        """Whether a request runs or waits."""
        return bool(self.rows or self.waiting)

    def turn(self) -> None:
        """Take a step; see `Turns`."""
        try:
            self._admit()
            if self.rows:
                self._step()
        except Exception as error:  # of one step: the next requests are served
            self._fail(error)

    def _let_in(self, request: Request) -> None:
        self.waiting.append(request)

    def _cancel(self, request: Request) -> None:
        if request in self.waiting:
            self.waiting.remove(request)
            request.answers.put(None)
        for row in [row for row in self.rows.values() if row.request is request]:
            self._end(row, None)

    def _fail(self, error: Exception) -> None:
        for row in list(self.rows.values()):
            self._end(row, error)
        while self.waiting:
            self.waiting.popleft().answers.put(error)

    def _admit(self) -> None:
        """Let in who has waited longest, as far as rows and blocks go.

        Where another row is just reading the same beginning, it is waited for: it is read once.
        """
        read = {next_key(self.pool, row.request) for row in self._reading} - {None}
        held: list[Request] = []
        try:
            while self.waiting and self._free:
                request = self.waiting.popleft()
                key = next_key(self.pool, request)
                if key in read:
                    held.append(request)
                    continue
                try:
                    row = self._enter(request)
                except Exception as error:  # of this request: the others never hear of it
                    request.answers.put(error)
                    continue
                if row is None:
                    self.waiting.appendleft(request)
                    break
                if key is not None:
                    read.add(key)
        finally:
            self.waiting.extendleft(reversed(held))
        assert self.rows or not self.waiting, "an empty batch has room for any request"

    def _enter(self, request: Request) -> Row | None:
        """Give a request its row; None while there is no room. A failure takes nothing."""
        number = self._free[-1]
        row = begin(self.pool, request, number)
        if row is None:
            return None
        if isinstance(request.wanted, Choosing):
            try:
                self.chooser.admit(number, request.tokens, request.wanted)
            except BaseException:
                self.pool.leave(row.blocks)
                raise
        self.rows[self._free.pop()] = row
        self._reading.append(row)
        self._slot[number] = request.slot
        return row

    def _step(self) -> None:
        writing = self._writing
        chunks = self._chunks()
        tokens, rows, positions = [self._next[writing]], [writing], [self._read[writing]]
        finished, read, vectors = list(range(len(writing))), [], []
        place = len(writing)
        for row, start, stop in chunks:
            part, soft = self._tokens(row, start, stop)
            tokens.append(part)
            rows.append(np.full(stop - start, row.number, np.int32))
            positions.append(np.arange(start, stop, dtype=np.int32))
            if soft is not None:
                vectors.append((place, soft))
            if isinstance(row.request.wanted, Reading):
                read += [place + n - start for n in places(row, start, stop)]
            elif stop == row.request.length:
                finished.append(place + stop - start - 1)
            place += stop - start
        flat_rows = np.concatenate(rows)
        step = Step(
            np.concatenate(tokens),
            flat_rows,
            np.concatenate(positions),
            self._slot[flat_rows],
            np.array(finished + read, np.int32),
            vectors,
        )
        hidden = self.decoder.hidden(step)
        self.steps += 1
        self._advance(chunks, hidden[len(finished) :])
        if finished:
            self._write(flat_rows[finished], hidden[: len(finished)])

    def _chunks(self) -> list[tuple[Row, int, int]]:
        """What of which prompts this step reads: (row, first position, position behind)."""
        left, chunks = self.limits.chunk, []
        for row in self._reading:
            if not left:
                break
            stop = min(row.request.length, row.read + left)
            chunks.append((row, row.read, stop))
            left -= stop - row.read
        return chunks

    def _tokens(self, row: Row, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The ids at those positions, 0 for virtual tokens, and the vectors of those."""
        virtual = row.request.virtual
        ahead = max(0, min(stop, virtual.count) - start)
        ids = row.request.tokens[max(0, start - virtual.count) : max(0, stop - virtual.count)]
        if not ahead:
            return ids, None
        whole = np.concatenate([np.zeros(ahead, np.int32), ids])
        vectors = None if virtual.vectors is None else virtual.vectors[start : start + ahead]
        return whole, vectors

    def _advance(self, chunks: list[tuple[Row, int, int]], features: torch.Tensor) -> None:
        """Prompts are read as far as the step went; readings take their features."""
        first = 0
        for row, start, stop in chunks:
            keep(self.pool, row, start, stop)
            row.read = stop
            self._read[row.number] = stop
            if isinstance(row.request.wanted, Reading):
                count = len(places(row, start, stop))
                of_row = features[first : first + count]
                row.features.append(of_row.to("cpu", torch.float32, copy=True))
                first += count
        for row in [row for row, _, stop in chunks if stop == row.request.length]:
            self._reading.remove(row)
            if isinstance(row.request.wanted, Reading):
                self._end(row, finish(row))
            else:
                writing = np.append(self._writing, np.int32(row.number))
                # rows with one delta side by side: it is read once for all of them
                self._writing = writing[self._slot[writing].argsort(kind="stable")]
                self._read[row.number] -= 1  # `_write` adds one for the token it makes

    def _write(self, numbers: np.ndarray, hidden: torch.Tensor) -> None:
        """Choose a token for each of those rows and hand it over."""
        numbers, hidden = self._masked(numbers, hidden)
        chooser, count = self.chooser, len(numbers)
        if not count:
            return
        logits = chooser.logits(count)
        self.decoder.say(hidden, logits)
        chooser.choose(numbers)
        tokens, logprobs = chooser.tokens[:count], chooser.logprobs[:count].tolist()
        self._next[numbers] = tokens
        self._read[numbers] += 1
        self.written += count
        chosen = zip(numbers.tolist(), tokens.tolist(), logprobs, strict=True)
        for place, (number, token, logprob) in enumerate(chosen):
            row = self.rows[number]
            top = row.request.wanted.top
            others = _alternatives(logits[place], top) if top else {}
            self._tell(row, Made(token, logprob, others))

    def _masked(self, numbers: np.ndarray, hidden: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
        """Those rows, each with the tokens that may come; without those whose constraint fails."""
        for number in numbers.tolist():
            row = self.rows[number]
            held = row.request.wanted.constraint
            if held is not None and (error := failure(held.mask, self.chooser.masks[number])):
                self._end(row, error)
        left = [place for place, number in enumerate(numbers.tolist()) if number in self.rows]
        return (numbers, hidden) if len(left) == len(numbers) else (numbers[left], hidden[left])

    def _tell(self, row: Row, made: Made) -> None:
        """Hand a row its token; it ends with the last one."""
        wanted = row.request.wanted
        if made.token in wanted.ends:
            self._end(row, None)
            return
        held = wanted.constraint
        if held is not None and (error := failure(held.take, made.token)):
            self._end(row, error)
            return
        row.request.answers.put(made)
        row.made += 1
        if row.made == wanted.limit:
            self._end(row, None)

    def _end(self, row: Row, last: object) -> None:
        """A row is free again. last: what its request is told at the end."""
        del self.rows[row.number]
        if row in self._reading:
            self._reading.remove(row)
        self._writing = self._writing[self._writing != row.number]
        self.pool.leave(row.blocks)
        self._free.append(row.number)
        row.request.answers.put(last)


def _alternatives(logits: torch.Tensor, top: int) -> dict[int, float]:
    found = logits.log_softmax(0).topk(top)
    return dict(zip(found.indices.tolist(), found.values.tolist(), strict=True))
