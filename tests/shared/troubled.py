"""Methods of one's own that turn NaN, explode, want too much memory, have a bug, or are fine."""

import torch

from distill_bench.methods import method
from distill_bench.methods.loop import Objective, optimise
from distill_bench.methods.matching import MatchingConfig


class Own(MatchingConfig):
    iterations: int = 9
    image_lr: float = 0.5


class Trouble(Objective):
    def __init__(self, images, what):
        self.images, self.what = images, what

    def loss_and_grads(self, step):
        value = torch.zeros_like(self.images)
        if step == 4 and self.what == "loss":
            return float("nan"), {"images": value}
        if step == 4 and self.what == "nan":
            value[3] = torch.nan
        if self.what == "explodes":
            value -= 5.0 ** (step + 1)
        if step == 4 and self.what == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nMore.")
        if step == 4 and self.what == "cpu":
            torch.empty(2**58)
        return 1.0, {"images": value}


def run(job, what):
    images = torch.zeros(len(job.labels), *job.training.shape)
    optimizer = torch.optim.SGD([images], lr=job.config.image_lr)
    optimise(job, Trouble(images, what), {"images": images}, {"images": optimizer}, job.config.iterations)
    return images


@method(Own)
def loss(job):
    return run(job, "loss")


@method(Own)
def nan(job):
    return run(job, "nan")


@method(Own)
def explodes(job):
    return run(job, "explodes")


@method(Own)
def memory(job):
    return run(job, "memory")


@method(Own)
def cpu(job):
    return run(job, "cpu")


@method(Own)
def fine(job):
    return run(job, "")


def plain_nan(job):
    return torch.full((len(job.labels), *job.training.shape), torch.nan)


def plain_memory(job):
    raise MemoryError


def plain_bug(job):
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
