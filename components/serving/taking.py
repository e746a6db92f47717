"""What a request makes, taken from the batch token by token."""

from collections.abc import Iterator
from functools import partial

from components.inference.batcher import Batcher
from components.inference.request import Made, Request
from components.serving.engine import Token
from components.serving.gone import Gone, Left


def taken(batcher: Batcher, request: Request, gone: Gone) -> Iterator[Token]:
    """What a request makes, token by token.

    It is let go where nobody takes the next token, or nobody waits for the first one any more.
    """
    ended = False
    try:
        with gone.calls(partial(batcher.cancel, request)):
            while isinstance(made := request.answers.get(), Made):
                yield Token(made.token, made.logprob, made.alternatives)
        ended = True
    finally:
        if not ended:
            batcher.cancel(request)
            while isinstance(request.answers.get(), Made):
                pass  # its delta may go only when the batch has let it go
    if isinstance(made, Exception):
        raise made
    if gone:
        raise Left  # so that nobody takes what there is for the whole answer
