"""How probable a model finds whole documents, whatever their length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.reporter import Reporter

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

BATCH_LOGITS = 1 << 25  # numbers at once: 128 MB
ROWS = 64


@dataclass(frozen=True)
class Reader:
    """What reads documents. logits: of (rows, tokens), shape (rows, tokens, vocabulary), each of
    which depends on no later token. context: the longest sequence; None where there is no limit.
    """

    logits: "Callable[[Tensor], Tensor]"
    context: int | None
    vocabulary: int


def reader_of(model: "PreTrainedModel") -> Reader:
    """A decoder as a reader."""
    config = model.config
    return Reader(
        lambda ids: model(input_ids=ids.to(model.device), use_cache=False).logits,
        config.max_position_embeddings,
        config.vocab_size,
    )


def document_nats(
    reader: Reader, documents: Sequence[Sequence[int]], report: Reporter
) -> list[float]:
    """-log p of each document's tokens after the first, in nats.

    A document longer than the context is read in pieces that overlap by half, each token judged
    once, with half a context before it or more.
    """
    context = reader.context or max(map(len, documents))
    most = BATCH_LOGITS // reader.vocabulary  # tokens
    pieces = [(n, *piece) for n, ids in enumerate(documents) for piece in _pieces(ids, context)]
    pieces.sort(key=lambda piece: len(piece[1]))
    found = [0.0] * len(documents)
    done = 0
    while done < len(pieces):
        longest = len(pieces[min(done + ROWS - 1, len(pieces) - 1)][1])
        size = max(1, min(ROWS, most // longest))
        part = pieces[done : done + size]
        for (number, _, _), value in zip(part, _piece_nats(reader, part), strict=True):
            found[number] += value
        done += size
        report.progress(min(done, len(pieces)), len(pieces))
    return found


def _pieces(ids: Sequence[int], context: int) -> list[tuple[Sequence[int], int]]:
    """(tokens, how many of the predictions were made by the piece before).

    A piece begins half a context behind the one before, which made `context` predictions: the
    first `context - half` are made already. Of an odd context that is one more than half.
    """
    if len(ids) <= context + 1:
        return [(ids, 0)]
    half = context // 2
    known = context - half
    starts = range(0, len(ids) - 1 - known, half)
    return [(ids[s : s + context + 1], known if s else 0) for s in starts]


def _piece_nats(reader: Reader, pieces: list[tuple]) -> list[float]:
    import torch
    from torch.nn.functional import cross_entropy

    longest = max(len(ids) for _, ids, _ in pieces)
    tokens = torch.zeros((len(pieces), longest), dtype=torch.long)
    targets = torch.full((len(pieces), longest), -100)
    for row, (_, ids, known) in enumerate(pieces):
        tokens[row, : len(ids)] = torch.tensor(ids)
        targets[row, known + 1 : len(ids)] = torch.tensor(ids[known + 1 :])
    with torch.no_grad():  # padding stands behind, where no token that counts sees it
        logits = reader.logits(tokens[:, :-1])
    wanted = targets[:, 1:].flatten().to(logits.device)
    losses = cross_entropy(
        logits.flatten(0, 1).float(), wanted, ignore_index=-100, reduction="none"
    )
    return losses.view(len(pieces), -1).double().sum(1).tolist()
