"""A neural n-gram model (Bengio et al. 2003): a word from the few before it, by their vectors."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.models.blocks import NGramBlock


class NGram(nn.Module):
    """y = U W tanh(H x), where x are the vectors of the last n - 1 tokens, one behind the other
    (Bengio et al. 2003, section 2, without the direct connections). U is the table of vectors
    itself (Press & Wolf 2017), and W brings the hidden layer to their width.
    """

    def __init__(self, block: NGramBlock, vocabulary: int, end: int) -> None:
        """end: the token that stands where a text has not begun yet."""
        super().__init__()
        self.seen, self.end = block.order - 1, end
        self.embedding = nn.Embedding(vocabulary, block.width)
        self.hidden = nn.Linear(self.seen * block.width, block.hidden)
        self.back = nn.Linear(block.hidden, block.width)
        self.dropout = nn.Dropout(block.dropout)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def get_output_embeddings(self) -> nn.Embedding:
        return self.embedding

    def states(self, ids: Tensor) -> Tensor:
        """What is held against each word's vector. (rows, tokens) -> (rows, tokens, width)."""
        tokens = ids.shape[1]
        before = functional.pad(ids, (self.seen - 1, 0), value=self.end)  # (rows, tokens + n - 2)
        vectors = self.embedding(before)
        # the last n - 1 vectors at each place, one behind the other
        places = torch.arange(tokens, device=ids.device)[:, None]
        places = places + torch.arange(self.seen, device=ids.device)  # (tokens, n - 1)
        x = self.dropout(vectors)[:, places].flatten(2)  # (rows, tokens, (n - 1) x width)
        return self.dropout(self.back(torch.tanh(self.hidden(x))))
