"""Encoder and decoder, both LSTMs: without attention, or with one of two kinds.

Shapes: batch sentences, source and target tokens, width of a state. Source and target share one
vocabulary, and so one table of embeddings, which is the output matrix too (Press & Wolf 2017).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from components.models.attention import AdditiveAttention, MultiplicativeAttention, read

SCORES = {"additive": AdditiveAttention, "multiplicative": MultiplicativeAttention}
State = tuple[Tensor, ...]  # each with the batch first, so that a search can reorder sentences


class Encoder(nn.Module):
    """A bidirectional LSTM (Bahdanau et al. 2015, section 3.2): a state has read both ways."""

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(
            width, width // 2, layers, batch_first=True, dropout=between, bidirectional=True
        )

    def forward(self, embedded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, source, width), (batch, source) -> the states and both ways' last ones.

        states: (batch, source, width). hidden, cell: (layers, batch, width), where a sentence was
        read to its end from the left and to its beginning from the right.
        """
        lengths = mask.sum(dim=1).cpu()
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        found, (hidden, cell) = self.lstm(packed)
        states, _ = pad_packed_sequence(found, batch_first=True, total_length=mask.shape[1])
        return states, _both_ways(hidden), _both_ways(cell)


def _both_ways(last: Tensor) -> Tensor:
    """(layers x 2, batch, width / 2) -> (layers, batch, width)."""
    left, right = last[0::2], last[1::2]
    return torch.cat([left, right], dim=-1)


class Seq2Seq(nn.Module):
    """Sutskever et al. 2014 without attention: the decoder starts from the encoder's last state,
    one context vector, and sees nothing else of the source. With attention, Luong et al. 2015,
    section 3: state h -> weights over the source -> context c -> tanh(W [c; h]) -> word. The score
    is Luong's or Bahdanau's; where attention enters is the same for both, and the context is not
    fed into the next state, so a whole target trains without a loop over its tokens.
    """

    def __init__(
        self, vocabulary: int, pad: int, width: int, layers: int, dropout: float, attention: str
    ) -> None:
        super().__init__()
        self.pad = pad
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=pad)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.encoder = Encoder(width, layers, dropout)
        between = dropout if layers > 1 else 0.0
        self.decoder = nn.LSTM(width, width, layers, batch_first=True, dropout=between)
        self.score = SCORES[attention](width) if attention in SCORES else None
        self.combine = nn.Linear(2 * width, width, bias=False) if self.score else None
        self.dropout = nn.Dropout(dropout)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def _embed(self, tokens: Tensor) -> Tensor:
        """(batch, tokens) -> (batch, tokens, width), each number about 1 in size: the table's own
        are smaller, for logits (Vaswani et al. 2017, section 3.4).
        """
        return self.dropout(self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim))

    def start(self, source: Tensor) -> State:
        """What decoding begins with. source: (batch, source), padded on the right.

        Returns the encoder's states (batch, source, width), their mask (batch, source), and the
        decoder's hidden and cell state (batch, layers, width).
        """
        mask = source != self.pad
        states, hidden, cell = self.encoder(self._embed(source), mask)
        return states, mask, hidden.transpose(0, 1), cell.transpose(0, 1)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """(batch, source), (batch, target) -> what predicts each next token, (…, target, width)."""
        return self._decode(target, self.start(source))[0]

    def _decode(self, tokens: Tensor, state: State) -> tuple[Tensor, State, Tensor | None]:
        """tokens: (batch, target), the next ones after `state`."""
        states, mask, hidden, cell = state
        began = hidden.transpose(0, 1).contiguous(), cell.transpose(0, 1).contiguous()
        made, (hidden, cell) = self.decoder(self._embed(tokens), began)  # (batch, target, width)
        weights = None
        if self.score is not None:
            scores = self.score(made, states)  # (batch, target, source)
            context, weights = read(scores, states, mask.unsqueeze(1))
            made = torch.tanh(self.combine(torch.cat([context, made], dim=-1)))
        state = states, mask, hidden.transpose(0, 1), cell.transpose(0, 1)
        return self.dropout(made), state, weights

    def logits(self, made: Tensor) -> Tensor:
        """(..., width) -> (..., vocabulary)."""
        return functional.linear(made, self.embedding.weight, self.bias)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """One token for each sentence, (batch,) -> logits of the next (batch, vocabulary)."""
        made, state, _ = self._decode(tokens.unsqueeze(1), state)
        return self.logits(made.squeeze(1)), state

    def alignment(self, source: Tensor, target: Tensor) -> Tensor | None:
        """The weights over the source as each next token is predicted; None without attention.

        Shape (batch, 1, target, source): one layer, for the Transformer has several.
        """
        weights = self._decode(target, self.start(source))[2]
        return None if weights is None else weights.unsqueeze(1)

    def sentence_vectors(self, source: Tensor) -> Tensor:
        """The context vector of each sentence: the top layer's last hidden state (batch, width)."""
        return self.start(source)[2][:, -1]
