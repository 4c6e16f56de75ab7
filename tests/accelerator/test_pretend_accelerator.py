"""The pretend accelerator itself: it refuses and allows what CUDA does, and counts what makes hosts wait."""

import pytest
import torch
from pretend_accelerator import DEVICE, DeviceTensor, pretend_accelerator
from torch import nn
from torch.nn import functional as F

from distill_bench.runtime.device import resolve_device


@pytest.fixture
def accelerator():
    with pretend_accelerator() as device:
        yield device


def on_device(*shape):
    return torch.ones(shape, device="gpu")


REFUSED = {
    "a sum with a tensor of the CPU": lambda x: x + torch.ones(3),
    "a product with one": lambda x: x @ torch.ones(3),
    "several in one": lambda x: torch.cat([x, torch.ones(3)]),
    "a number of the CPU where it is no number": lambda x: torch.stack([x.sum(), torch.ones(())]),
    "a change in place": lambda x: torch.ones(3).add_(x),
    "an index on the CPU, but for brackets": lambda x: x.index_select(0, torch.tensor([0])) if x.ndim else x,
    "an index on the device, of the CPU's": lambda x: torch.ones(3)[x.long()],
    "a value on the CPU": lambda x: x.index_put((torch.tensor([0]),), torch.ones(1)),
    "draws": lambda x: torch.rand(3, device="gpu"),
    "draws with a generator of the CPU": lambda x: x.uniform_(generator=torch.Generator()),
    "numpy": lambda x: x.numpy(),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_refuses(accelerator, what):
    x = on_device(3)
    with pytest.raises((RuntimeError, TypeError)):
        REFUSED[what](x)


def test_it_allows_numbers_and_indices_of_the_cpu(accelerator):
    x = on_device(3)
    for result in (x * torch.tensor(2.0), torch.tensor(2.0) - x, x[torch.tensor([0, 2])], torch.zeros_like(x).fill_(2)):
        assert isinstance(result, DeviceTensor) and str(result.device) == DEVICE
    x[torch.tensor([0, 2])] = 5.0
    assert x.cpu().tolist() == [5, 1, 5]


WAITS = {
    "float": lambda x: float(x.sum()),
    "item": lambda x: x.sum().item(),
    "a condition": lambda x: bool(x.sum() > 0),
    "to the CPU": lambda x: x.cpu(),
    "to the CPU by name": lambda x: x.to("cpu", torch.float64),
    "into a tensor of the CPU": lambda x: torch.zeros(3).copy_(x),
    "into a part of one": lambda x: torch.zeros(2, 3).__setitem__(0, x),
    "a list": lambda x: x.tolist(),
    "where it is not zero": lambda x: x.nonzero(),
    "a mask": lambda x: x[x > 0],
    "a mask of the CPU": lambda x: x[torch.ones(3, dtype=torch.bool)],
    "what a mask is set to": lambda x: x.__setitem__(x > 0, 1.0),
    "equal": lambda x: torch.equal(x, x),
    "counted repeats": lambda x: x.repeat_interleave(x.long()),
    "counts": lambda x: x.long().bincount(),
    "different values": lambda x: x.unique(),
}


@pytest.mark.parametrize("what", WAITS)
def test_it_counts_what_waits(accelerator, what):
    x = on_device(3)
    assert not accelerator.waits
    WAITS[what](x)
    assert sum(accelerator.waits.values()) == 1


def test_it_counts_uploads(accelerator):
    values = torch.arange(3.0)
    x = values.to("gpu")
    torch.tensor([1.0], device="gpu")
    x[torch.tensor([0])]
    x.copy_(values)
    nn.Linear(1, 1).to("gpu")
    assert sum(accelerator.uploads.values()) == 6 and not accelerator.copies
    values.to("gpu", non_blocking=True)
    x.copy_(values, non_blocking=True)
    assert sum(accelerator.uploads.values()) == 6 and accelerator.copies == 2
    torch.zeros(3, device="gpu"), x.new_full((2,), 3.0), x.to("gpu"), x.double(), x.clone()
    assert sum(accelerator.uploads.values()) == 6 and accelerator.copies == 2 and not accelerator.waits


def test_a_step_of_training_is_the_cpus(accelerator):
    images, labels = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    results = []
    for device in ("cpu", "gpu"):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
        with torch.no_grad():
            for number, parameter in enumerate(network.parameters()):
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter) / (number + 1))
        network.to(device)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        loss = F.cross_entropy(network(images.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        results.append([loss.detach().cpu(), *(value.cpu() for value in network.state_dict().values())])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*results, strict=True))


def test_nothing_of_it_is_left(accelerator):
    """The device's name alone is known from then on: to torch, not to the package."""
    assert str(resolve_device("gpu")) == "gpu"
    with torch.random.fork_rng():  # which keeps the generators of all devices there are
        pass
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    with pretend_accelerator():
        pass
    assert torch.__future__.get_swap_module_params_on_conversion() is swapped
