"""What the objectives of small models share."""

from components.training import machine


class Small:
    """Part of a `loop.Objective` whose batches are small and trained as they are."""

    def row_bytes(self, _precision: machine.Precision) -> float:
        return 0.0  # its batches fit; on an accelerator the loop halves one that does not

    def step_bytes(self) -> float:
        return 0.0

    def prepare(self, _precision: machine.Precision, _compiled: bool) -> None:
        """Not compiled: runs are short, and where batches differ in length each would be anew."""
