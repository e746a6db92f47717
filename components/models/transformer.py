"""The Transformer as in its paper, with encoder and decoder (Vaswani et al. 2017).

Shapes: batch sentences, source and target tokens, width of a state, dim = width / heads.
A layer normalises after its residual connection ("post-norm"). One table embeds source and target
and is the output matrix (section 3.4).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.models.attention import read

State = tuple[Tensor, ...]  # each with the batch first, so that a search can reorder sentences
KeysValues = tuple[Tensor, Tensor]  # each (batch, heads, tokens, dim)


def positional_encoding(longest: int, width: int) -> Tensor:
    """Sine and cosine of each position, from wavelength 2π to 10000 · 2π (section 3.5).

    Shape (longest, width): sin in the even columns, cos in the odd ones. For a fixed distance k,
    the encoding of position p + k is a rotation of that of p, the same for all p.
    """
    position = torch.arange(longest).unsqueeze(1)  # (longest, 1)
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))  # (width / 2,)
    encoding = torch.empty(longest, width)
    encoding[:, 0::2] = torch.sin(position * frequency)
    encoding[:, 1::2] = torch.cos(position * frequency)
    return encoding


class MultiHeadAttention(nn.Module):
    """Each head is a soft dictionary lookup in a space of its own (section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def _split(self, states: Tensor) -> Tensor:
        """(batch, tokens, width) -> (batch, heads, tokens, dim)."""
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def offered(self, states: Tensor) -> KeysValues:
        """What can be looked up in `states`, (batch, tokens, width): keys, and values."""
        return self._split(self.key(states)), self._split(self.value(states))

    def asked(self, states: Tensor) -> Tensor:
        """The queries of `states`, (batch, heads, tokens, dim)."""
        return self._split(self.query(states))

    def forward(self, states: Tensor, offered: KeysValues, mask: Tensor) -> tuple[Tensor, Tensor]:
        """states: (batch, target, width). offered: of source tokens. mask: (…, target, source).

        Returns what was found, (batch, target, width), and the weights, (batch, heads, target,
        source).
        """
        keys, values = offered
        queries = self.asked(states)
        # products of dim numbers grow with dim, and the softmax of large ones has no gradient
        scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])
        found, weights = read(scores, values, mask)  # (batch, heads, target, dim)
        return self.out(found.transpose(1, 2).flatten(2)), weights


def feed_forward(width: int, inner: int) -> nn.Sequential:
    """The same two layers at each position (section 3.3)."""
    return nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward; each with add & norm (section 3.1)."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(width, heads)
        self.feed_forward = feed_forward(width, inner)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, source, width), (batch, 1, 1, source) -> the same shape, and the weights."""
        found, weights = self.attention(states, self.attention.offered(states), mask)
        states = self.norms[0](states + self.dropout(found))
        states = self.norms[1](states + self.dropout(self.feed_forward(states)))
        return states, weights


class DecoderLayer(nn.Module):
    """Masked self-attention, attention over the source, feed-forward (section 3.1)."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(width, heads)
        self.source_attention = MultiHeadAttention(width, heads)
        self.feed_forward = feed_forward(width, inner)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, states: Tensor, past: KeysValues, source: KeysValues, source_mask: Tensor
    ) -> tuple[Tensor, KeysValues, Tensor]:
        """states: (batch, target, width), those after `past`. source: keys and values of the
        encoder's states. Returns new states, the past with them, and the weights over the source.
        """
        new = self.attention.offered(states)
        past = tuple(torch.cat(both, dim=2) for both in zip(past, new, strict=True))
        found, _ = self.attention(states, past, _causal(states, past[0].shape[2]))
        states = self.norms[0](states + self.dropout(found))
        found, weights = self.source_attention(states, source, source_mask)
        states = self.norms[1](states + self.dropout(found))
        states = self.norms[2](states + self.dropout(self.feed_forward(states)))
        return states, past, weights


def _causal(states: Tensor, tokens: int) -> Tensor:
    """Which of `tokens` each of the last ones, `states`, may see: none that come later (section
    3.2.3). Shape (target, tokens).
    """
    new = states.shape[1]
    seen = torch.ones(new, tokens, dtype=torch.bool, device=states.device)
    return seen.tril(tokens - new)


class Transformer(nn.Module):
    """Translates by attention alone. longest: positions that it knows."""

    def __init__(
        self,
        vocabulary: int,
        pad: int,
        width: int,
        layers: int,
        heads: int,
        inner: int,
        dropout: float,
        longest: int,
    ) -> None:
        super().__init__()
        self.pad, self.width, self.longest = pad, width, longest
        self.embedding = nn.Embedding(vocabulary, width)
        sizes = (width, heads, inner, dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*sizes) for _ in range(layers))
        self.decoder = nn.ModuleList(DecoderLayer(*sizes) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("positions", positional_encoding(longest, width), persistent=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)

    def embed(self, tokens: Tensor, first: int = 0) -> Tensor:
        """(batch, tokens) -> (batch, tokens, width): embedding and position, added (section 3.4).

        first: the position of the first token.

        Raises:
            ValueError: a sentence is longer than the table of positions.
        """
        end = first + tokens.shape[1]
        if end > self.longest:
            raise ValueError(
                f"a sentence of {end} tokens, and the table of positions ends at {self.longest}; "
                f"cut it, or train with 'longest: {end}'"
            )
        return self.dropout(
            self.embedding(tokens) * math.sqrt(self.width) + self.positions[first:end]
        )

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """(batch, source) -> states (batch, source, width), their mask (batch, 1, 1, source), and
        each layer's weights (batch, heads, source, source).
        """
        mask = (source != self.pad)[:, None, None]
        states, seen = self.embed(source), []
        for layer in self.encoder:
            states, weights = layer(states, mask)
            seen.append(weights)
        return states, mask, seen

    def start(self, source: Tensor) -> State:
        """What decoding begins with: the source's mask, and for each layer of the decoder keys and
        values of its past, which is empty, and of the source. source: padded on the right.
        """
        states, mask, _ = self.encode(source)
        state = [mask]
        for layer in self.decoder:
            past = layer.attention.offered(states[:, :0])
            state += [*past, *layer.source_attention.offered(states)]
        return tuple(state)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """(batch, source), (batch, target) -> what predicts each next token, (…, target, width)."""
        return self._decode(target, self.start(source))[0]

    def _decode(self, tokens: Tensor, state: State) -> tuple[Tensor, State, list[Tensor]]:
        """tokens: (batch, target), the next ones after `state`."""
        mask, *parts = state
        states = self.embed(tokens, first=parts[0].shape[2])
        after, seen = [mask], []
        for number, layer in enumerate(self.decoder):
            past, source = parts[4 * number :][:2], parts[4 * number :][2:4]
            states, past, weights = layer(states, past, source, mask)
            after += [*past, *source]
            seen.append(weights)
        return states, tuple(after), seen

    def logits(self, made: Tensor) -> Tensor:
        """(..., width) -> (..., vocabulary)."""
        return functional.linear(made, self.embedding.weight)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """One token for each sentence, (batch,) -> logits of the next (batch, vocabulary)."""
        made, state, _ = self._decode(tokens.unsqueeze(1), state)
        return self.logits(made.squeeze(1)), state

    def alignment(self, source: Tensor, target: Tensor) -> Tensor:
        """The decoder's weights over the source as each next token is predicted, mean over heads.

        Shape (batch, layers, target, source).
        """
        seen = self._decode(target, self.start(source))[2]
        return torch.stack([weights.mean(dim=1) for weights in seen], dim=1)

    def sentence_vectors(self, source: Tensor) -> Tensor:
        """The mean of the encoder's states of each sentence, (batch, width)."""
        states, mask, _ = self.encode(source)
        share = mask[:, 0].transpose(1, 2) / mask.sum(dim=-1)  # (batch, source, 1)
        return (states * share).sum(dim=1)
