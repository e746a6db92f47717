"""CUDA graphs: a pass over many small operations, launched at once.

The pass of a small decoder is some hundred operations of a few microseconds each, and launching
them one by one takes longer than they do. A graph is captured when its form is met for the first
time. All graphs share their memory, since they run one after the other and leave what they give in
buffers that are none of theirs.
"""

import threading
from collections.abc import Callable

import torch

from components.inference.forms import Form

ONE = threading.Lock()  # torch captures one graph at a time in a process


class Graphs:
    """A pass as it was captured, by its form."""

    def __init__(self, run: Callable[[Form], None]) -> None:
        self._run = run
        self._held: dict[Form, torch.cuda.CUDAGraph] = {}
        self._memory = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()

    def __call__(self, form: Form) -> None:
        if form not in self._held:
            self._run(form)  # libraries set themselves up, which must not be captured
            self._held[form] = self._captured(form)
        self._held[form].replay()

    def _captured(self, form: Form) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # other threads may bring adapters to the device meanwhile
        capture = torch.cuda.graph(
            graph, pool=self._memory, stream=self._stream, capture_error_mode="thread_local"
        )
        with ONE, capture:
            self._run(form)
        return graph
