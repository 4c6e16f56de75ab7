"""Trains networks compiled and eager and prints what came out as JSON: a process of its own for test_compiling.py.

In the tests' process shapes are checked at run time, which torch's compiler cannot trace.
"""

import json
import sys

import torch

from distill_bench.networks import build_network
from distill_bench.runtime.seeds import generator
from distill_bench.training import compilation
from distill_bench.training.train import Plan, accuracy, table_batches, train

CASES = {
    "instance norm": {},
    "soft, augmented": {"soft": True, "noise": 0.1},
    "batch norm": {"name": "ConvNetD2W16BN"},
    "group norm": {"name": "ConvNetD2W16GNMP"},
}


def trained(compiled, dtype, name="ConvNetD2W16", soft=False, noise=0.0, epochs=10, batch_size=16, count=12):
    """(parameters as one vector, last epoch's loss, accuracy) after a training of one step an epoch, or more."""
    network = build_network(name, (3, 16, 16), 4, generator("weights")).to(dtype)
    images = torch.randn(count, 3, 16, 16, generator=generator("images"), dtype=torch.float64).to(dtype)
    labels = torch.arange(count) % 4
    targets = torch.randn(count, 4, generator=generator("soft"), dtype=torch.float64).softmax(1).to(dtype)
    plan = Plan(epochs, batch_size, learning_rate=0.02, momentum=0.9, weight_decay=5e-4, temperature=2.0)

    def augment(batch, draws):
        return batch + noise * torch.randn(batch.shape, generator=draws).to(dtype)

    loss = train(
        network,
        table_batches(images.__getitem__, targets if soft else labels, augment if noise else None),
        count,
        plan,
        generator("order"),
        compiled=compiled,
    )
    right = accuracy(network, images.repeat(10, 1, 1, 1).__getitem__, labels.repeat(10), compiled=compiled)
    return torch.cat([p.detach().flatten() for p in network.parameters()]), loss, right


def ten_steps(options, dtype):
    start = trained(False, dtype, **options | {"epochs": 0})[0]
    (eager, eager_loss, eager_right), (compiled, loss, right) = (trained(c, dtype, **options) for c in (False, True))
    return {
        "error": float((compiled - eager).norm() / eager.norm()),
        "error_of_change": float((compiled - eager).norm() / (eager - start).norm()),
        "losses": [eager_loss, loss],
        "accuracies": [eager_right, right],
    }


def graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def compilations():
    """How many there were after trainings on batches of 8 and 4, each with a test in batches of 50 and a remainder."""
    torch.compiler.reset()
    compilation._variants.clear()
    before, counts = graphs(), []
    for epochs in (2, 2, 50):
        made = trained(True, torch.float64, epochs=epochs, batch_size=8)[0]
        counts.append(graphs() - before)
    eager = trained(False, torch.float64, epochs=50, batch_size=8)[0]
    return {"counts": counts, "error": float((made - eager).norm() / eager.norm())}


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {
        f"{case}, {dtype}": ten_steps(options, getattr(torch, dtype))
        for case, options in CASES.items()
        for dtype in ("float32", "float64")
    }
    sys.stdout.write(json.dumps(found | {"compilations": compilations()}))
