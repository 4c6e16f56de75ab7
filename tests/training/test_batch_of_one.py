"""A rest of one image, and batch norm over maps of one pixel."""

import pytest
import torch

from distill_bench.errors import RunFailed
from distill_bench.networks import build_network
from distill_bench.runtime.seeds import generator
from distill_bench.training.train import Plan, table_batches, train


@pytest.mark.parametrize(("network", "count"), [("ResNet18BN", 3), ("ResNet18BN", 4), ("ConvNetD1W4BN", 3)])
def test_it_is_said_and_only_where_it_is_so(network, count):
    images, labels = torch.randn(count, 1, 8, 8, generator=generator("few")), torch.arange(count)
    built = build_network(network, (1, 8, 8), 4, generator("weights"))
    plan = Plan(epochs=1, batch_size=2, learning_rate=0.01)

    def run():
        return train(built, table_batches(lambda rows: images[rows], labels), count, plan, generator("training"))

    if network == "ResNet18BN" and count == 3:
        with pytest.raises(RunFailed, match="a batch holds one image, the rest of an epoch in batches of 2"):
            run()
    else:
        assert run() > 0


def test_other_errors_of_a_network_stay_what_they_are():
    class Refuses(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, images):
            raise ValueError("nothing of the kind")

    batches = table_batches(lambda rows: torch.zeros(len(rows), 1, 8, 8), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="nothing of the kind"):
        train(Refuses(), batches, 3, Plan(epochs=1, batch_size=1, learning_rate=0.01), generator("training"))
