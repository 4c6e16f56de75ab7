"""What a training leaves besides its network: rows, written one after every epoch."""

from collections.abc import Mapping

from torch import Tensor
from torch.nn.utils import parameters_to_vector

from distill_bench.networks import Network
from distill_bench.training.train import BatchFn

TRAJECTORY = "trajectory"


class Recorder:
    """Rows of a training, by name; this one keeps none.

    Attributes:
        compilable: whether it sees all that it records when steps are compiled.
        rows: [rows, …] by name, on the CPU, allocated by ``begin``.
    """

    compilable = True

    def __init__(self) -> None:
        self.rows: dict[str, Tensor] = {}
        self._written = 0

    def begin(self, network: Network, epochs: int) -> None:
        """Called once with the network as it is initialised, on the CPU."""

    def watched(self, network: Network, batches: BatchFn) -> BatchFn:
        """The batches to train on, the network on its device: where a recorder sees steps, it does so here."""
        return batches

    def after_epoch(self, network: Network) -> None:
        """Called after every epoch; the network is in training mode, and left so."""

    def written(self) -> dict[str, Tensor]:
        """The rows so far, for a checkpoint."""
        return {name: rows[: self._written] for name, rows in self.rows.items()}

    def resume(self, saved: Mapping[str, Tensor]) -> None:
        """Take the rows that ``written`` gave, among other entries."""
        for name, rows in self.rows.items():
            self._written = len(saved[name])
            rows[: self._written] = saved[name]

    def _write(self, row: Mapping[str, Tensor]) -> None:
        for name, values in row.items():
            self.rows[name][self._written] = values
        self._written += 1


class Snapshots(Recorder):
    """All parameters as one vector, before the first epoch and after each."""

    def begin(self, network: Network, epochs: int) -> None:
        """The first row."""
        parameters = parameters_to_vector(network.parameters()).detach()
        self.rows = {TRAJECTORY: parameters.repeat(epochs + 1, 1)}
        self._written = 1

    def after_epoch(self, network: Network) -> None:
        """One more row."""
        self._write({TRAJECTORY: parameters_to_vector(network.parameters()).detach().cpu()})
