"""How long evaluations take: a few training steps and a few test images timed, and scaled to the whole."""

import contextlib
import dataclasses
import sys
import time

import torch

from distill_bench.datasets import Dataset
from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.evaluation.evaluate import Exam, Material, augmentation_of, exam_of
from distill_bench.evaluation.protocol import load_protocol
from distill_bench.networks import build_network
from distill_bench.runtime.progress import Enough, Stopwatch
from distill_bench.runtime.seeds import generator
from distill_bench.training.train import accuracy, table_batches

PROBE_TESTS = 500
# what a compiled network takes of an eager one's time, see docs/speed.md
COMPILED_FACTOR = 0.85
# loading what was compiled before; the first time on a machine it is compiled, which takes three times as long
COMPILED_START_SECONDS = 8.0


def network_seconds(dataset: Dataset, protocol: str, images: int, *, device: str = "auto") -> float:
    """Predicted seconds to train one network of a protocol on so many images, eager, and to test it."""
    exam = exam_of(dataset, load_protocol(protocol), pixel_space_of(dataset, "normalized"), device=device)
    batch = min(images, exam.rules.batch_size)
    steps = exam.rules.plan(images).epochs * images / batch
    return steps * _step_seconds(exam, batch) + _test_seconds(exam)


def evaluation_seconds(
    dataset: Dataset, protocol: str, images: int, networks: int, compiled: bool, *, device: str = "auto"
) -> float:
    """Predicted seconds to evaluate a set of so many images."""
    eager = networks * network_seconds(dataset, protocol, images, device=device)
    return COMPILED_START_SECONDS + COMPILED_FACTOR * eager if compiled else eager


def _step_seconds(exam: Exam, batch: int) -> float:
    split = exam.dataset.train
    indices = torch.arange(batch) % len(split)
    images = exam.transform.encode(split.images(indices)).to(exam.device)
    plan = dataclasses.replace(exam.rules.plan(batch), epochs=sys.maxsize, decay_after=None)
    labels, augment = split.labels[indices].to(exam.device), augmentation_of(exam.rules, exam.dataset)
    batches, watch = table_batches(images.__getitem__, labels, augment), Stopwatch()
    with contextlib.suppress(Enough):
        exam.train_network(0, Material(batches, batch, plan, "hard"), watch)
    return watch.seconds


def _test_seconds(exam: Exam) -> float:
    split = exam.dataset.test
    indices = torch.arange(min(PROBE_TESTS, len(split)))
    images, labels = exam.transform.encode(split.images(indices)).to(exam.device), split.labels[indices]
    network = build_network(exam.network, split.shape, len(exam.dataset.class_names), generator("probe")).to(
        exam.device
    )
    began = time.perf_counter()
    accuracy(network, images.__getitem__, labels.to(exam.device))
    return (time.perf_counter() - began) * len(split) / len(indices)
