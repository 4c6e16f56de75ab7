"""A small task in float64, and slopes by finite differences."""

from functools import partial

import torch

from distill_bench.augmentations import dsa
from distill_bench.datasets import Dataset, Split
from distill_bench.datasets.training_view import TrainingData
from distill_bench.distilled.budget import Budget
from distill_bench.methods import Checkpoint, Run
from distill_bench.methods.mean_matching import attention_matching, distribution_matching
from distill_bench.methods.mean_matching.mean_matching import MeanMatching
from distill_bench.networks import build_network
from distill_bench.runtime.progress import SILENT
from distill_bench.runtime.seeds import generator

SHAPE, CLASSES, IPC, REAL = (2, 6, 6), 3, 2, 5


FINITE = {"epsilon": 1e-5, "rtol": 1e-5, "atol": 1e-7}


def split():
    pixels = torch.randint(256, (30, *SHAPE), generator=generator("pixels"), dtype=torch.uint8)
    return Split(pixels, torch.arange(30) % CLASSES)


SOURCE = Dataset("made", ("a", "b", "c"), split, None, flip_invariant=True)


COMMON = {"iterations": 4, "image_lr": 0.1, "real_batch": REAL}


def run_of(fields, source=SOURCE):
    """A job whose real images come in float64."""
    training = TrainingData(source, fields.pixel_space_on(source), torch.device("cpu"))
    fetch = training._fetch
    training._fetch = lambda indices: fetch(indices).double()
    return Run("a test", training, Budget(IPC), fields, 0, torch.device("cpu"), SILENT, Checkpoint())


def start():
    return torch.randn(CLASSES * IPC, *SHAPE, generator=generator("synthetic"), dtype=torch.float64)


def network_of(name, seed=0):
    network = build_network(name, SHAPE, CLASSES, generator("net", seed)).double()
    for number, parameter in enumerate(network.parameters()):  # norms that scale and shift, so that they count
        if parameter.ndim == 1 or parameter.ndim == 3:
            parameter.data += 0.3 * torch.randn(
                parameter.shape, generator=generator("norm", number), dtype=torch.float64
            )
    return network


def draws_of(job, step):
    """For every class what a step draws: real images, and a siamese sample or None."""
    operations = dsa.usual_operations(job.training.flip_invariant)
    for label in range(CLASSES):
        draws = job.generator(f"match {label}", step)
        real = job.training.draw(label, job.config.real_batch, draws)
        yield real, dsa.sample(operations, 1, SHAPE, draws) if job.config.augment == "dsa" else None


def finite_differences(loss, images, places):
    slopes = []
    for place in places:
        ends = []
        for sign in (1, -1):
            moved = images.clone()
            moved.view(-1)[place] += sign * FINITE["epsilon"]
            ends.append(loss(moved).item())
        slopes.append((ends[0] - ends[1]) / (2 * FINITE["epsilon"]))
    return torch.tensor(slopes, dtype=torch.float64)


def check_slopes(loss, images, gradient):
    """The gradient against central differences at some twenty values spread over all images."""
    places = range(0, images.numel(), images.numel() // 18 + 1)
    expected = finite_differences(loss, images, places)
    assert expected.count_nonzero() > len(places) / 2  # augmentation may hide some pixels
    torch.testing.assert_close(gradient.flatten()[list(places)], expected, rtol=FINITE["rtol"], atol=FINITE["atol"])


def dm_objective(run, images):
    return MeanMatching(run, images, distribution_matching.embedding, distribution_matching.distance)


def datadam_objective(run, images):
    watch = partial(attention_matching.watched, power=run.config.power)
    distance = partial(attention_matching.distance, run.config)
    return MeanMatching(run, images, attention_matching.attention_and_embedding, distance, prepare=watch)


def signals_of(objective, network):
    """From images to what is matched, with a network of the test's."""
    return partial(objective.signals, objective.prepare(network))
