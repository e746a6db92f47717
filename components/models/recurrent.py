"""Recurrent language models: all that was read, in one state of fixed size."""

from torch import Tensor, nn

from components.models.blocks import LSTMBlock, RNNBlock

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM}


class Recurrent(nn.Module):
    """An RNN (Elman 1990; Mikolov et al. 2010) or LSTM (Hochreiter & Schmidhuber 1997) over words.

    h_t = tanh(W x_t + V h_t-1) in the one; in the other, gates decide what a cell forgets, takes in
    and shows, and the cell itself passes on unchanged. Input and output vectors are one table
    (Press & Wolf 2017), with dropout between layers alone (Zaremba et al. 2014).
    """

    def __init__(self, block: RNNBlock | LSTMBlock, vocabulary: int) -> None:
        super().__init__()
        between = block.dropout if block.layers > 1 else 0.0
        # as they are drawn, from N(0, 1): with the +-0.1 of PyTorch's word-level example, whose
        # runs are long, both learn more slowly at first (world, 300 steps: LSTM 1.28 against 1.01
        # nats a token, RNN 1.99 against 1.24)
        self.embedding = nn.Embedding(vocabulary, block.width)
        self.cells = CELLS[block.family](
            block.width, block.width, block.layers, dropout=between, batch_first=True
        )
        self.dropout = nn.Dropout(block.dropout)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def get_output_embeddings(self) -> nn.Embedding:
        return self.embedding

    def states(self, ids: Tensor) -> Tensor:
        """The top layer's state behind each token, from a state of zeros.

        (rows, tokens) -> (rows, tokens, width).
        """
        found, _ = self.cells(self.dropout(self.embedding(ids)))
        return self.dropout(found)
