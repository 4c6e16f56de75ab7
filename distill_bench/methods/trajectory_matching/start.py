"""Where trajectory matching starts: real images or noise; in DATM those that an expert classifies correctly, with the
experts' logits as labels; in AST those nearest the centres of k-means, and a student a little beside the expert.

Sources: Guo et al., "Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching" (ICLR 2024),
Sec. 3.3, and DATM.py of NUS-HPC-AI-Lab/DATM 97ae510; Shen et al., "AST" (2023), arXiv 2310.10541, and distill.py of
shenjiyuan123/AST-Alignment-with-Smooth-Expert 8030869.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from distill_bench.datasets.training_view import TrainingData
from distill_bench.errors import RunFailed
from distill_bench.methods.matching import initial_images
from distill_bench.methods.run import Run
from distill_bench.methods.selection.selection import k_means, nearest_distinct
from distill_bench.pretrained.experts import Experts
from distill_bench.runtime.device import send
from distill_bench.training.student import Student

BATCH = 256

LogitsOf = Callable[[int, Tensor], Tensor]
"""From the number of an expert and indices [b] of training images to its logits [b, k] after its last epoch."""


def beginning(run: Run[Any], experts: Experts, student: Student) -> tuple[Float[Tensor, "n c h w"], Tensor]:
    """The images and labels a run starts from: classes int64 [n], or logits [n, k] where labels are learned.

    Logits are those of the experts that are right, averaged, where the images were chosen so that one is; else those of
    one expert, as in the released code.
    """
    labels = run.labels.to(run.device)

    @lru_cache(maxsize=1)
    def last_snapshot(expert: int) -> Tensor:
        return experts.snapshot(expert, -1).to(run.device)

    @lru_cache(maxsize=1)
    def mixed(expert: int) -> Tensor:
        order = torch.randperm(len(run.training), generator=run.generator("mixed batches"))
        logits = [student.logits(last_snapshot(expert), run.training.images(some)) for some in order.split(BATCH)]
        return torch.cat(logits)[order.argsort().to(run.device)]

    @torch.no_grad()
    def logits_of(expert: int, indices: Tensor) -> Tensor:
        # snapshots hold no running statistics: with batch norm the others of a batch count, and need to be any images
        if student.has_batch_norm:
            return mixed(expert)[indices.to(run.device)]
        return logits_at(run, student, last_snapshot(expert), run.training.images(indices))

    if run.config.init == "representative":
        images = run.training.images(_representative(run, len(experts), logits_of))
        return images, logits_at(run, student, last_snapshot(0), images) if run.config.labels == "learned" else labels
    if run.config.init != "correct":
        images = initial_images(run)
        return images, logits_at(run, student, last_snapshot(0), images) if run.config.labels == "learned" else labels
    draws = [run.generator("initial images", label) for label in range(run.classes)]
    chosen = torch.cat(
        [
            correct_images(run.training, logits_of, len(experts), label, run.ipc, draw)
            for label, draw in enumerate(draws)
        ]
    )
    learned = run.config.labels == "learned"
    return run.training.images(chosen), averaged_logits(logits_of, len(experts), chosen, labels) if learned else labels


def _representative(run: Run[Any], experts: int, logits_of: LogitsOf) -> Int64[Tensor, " n"]:
    """Of every class the ``ipc`` images nearest the centres of k-means on the logits of one drawn expert.

    The released code has ten centres at every IPC, and takes ⌊ipc / 10⌋ images at each: none at IPC 1.
    """
    expert = int(torch.randint(experts, (), generator=run.generator("initial expert")))
    chosen = []
    for label, indices in enumerate(run.training.class_indices):
        logits = torch.cat([logits_of(expert, some) for some in indices.split(BATCH)]).cpu()
        centres = k_means(logits, run.ipc, run.generator("initial clusters", label))
        chosen.append(indices[nearest_distinct(logits, centres)])
    return torch.cat(chosen)


def perturbed(
    parameters: Float[Tensor, " p"], shapes: Sequence[tuple[int, ...]], alpha: float, draws: Generator
) -> Float[Tensor, " p"]:
    """W + α · W ∘ δ / ‖δ‖ for every convolution W, δ ~ N(0, 1) of its shape; the rest as it is.

    Args:
        parameters: of a network, as one vector.
        shapes: of its parameters, in order; a convolution's has four numbers.
        alpha: α.
        draws: gives δ.

    Returns:
        Another vector.
    """
    parts = []
    for part, shape in zip(parameters.split([math.prod(shape) for shape in shapes]), shapes, strict=True):
        if len(shape) == 4:
            noise = send(torch.randn(part.shape, generator=draws), part.device)
            part = part + alpha * part * noise / noise.norm()
        parts.append(part)
    return torch.cat(parts)


@torch.no_grad()
def logits_at(
    run: Run[Any], student: Student, parameters: Float[Tensor, " p"], images: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n k"]:
    """The network's logits at some parameters, a batch at a time.

    With batch norm the batches are of images of all classes, though the set has them in class order: always the same
    ones, of sizes that differ by one at most.

    Args:
        run: which seed.
        student: the network.
        parameters: of it, as one vector.
        images: in any order.

    Returns:
        A row for every image, in their order.
    """
    if not student.has_batch_norm or len(images) <= BATCH:
        return torch.cat([student.logits(parameters, some) for some in images.split(BATCH)])
    order = send(torch.randperm(len(images), generator=run.generator("mixed labels")), images.device)
    batches = order.tensor_split(-(-len(images) // BATCH))
    return torch.cat([student.logits(parameters, images[some]) for some in batches])[order.argsort()]


def correct_images(
    training: TrainingData, logits_of: LogitsOf, experts: int, label: int, count: int, draws: Generator
) -> Int64[Tensor, " k"]:
    """Indices of ``count`` random images of a class that expert 0 gets right; of more experts, where those are too few.

    Raises:
        RunFailed: all experts together get fewer images of the class right.
    """
    indices = training.class_indices[label]
    order, chosen = indices[torch.randperm(len(indices), generator=draws)], list[int]()
    for expert in range(experts):
        for some in order.split(BATCH):
            right = some[(logits_of(expert, some).argmax(dim=1) == label).cpu()]
            chosen += [index for index in right.tolist() if index not in chosen]
            if len(chosen) >= count:
                return torch.tensor(chosen[:count])
    raise RunFailed(
        f"{experts} experts classify {len(chosen)} images of class {training.class_names[label]!r} correctly; {count} "
        "are needed. Train more or longer experts (`experts=…`, expert.epochs=…), or start from any real images "
        "(`init=real`)."
    )


def averaged_logits(
    logits_of: LogitsOf, experts: int, indices: Int64[Tensor, " n"], labels: Int64[Tensor, " n"]
) -> Float[Tensor, "n k"]:
    """Of every training image the mean logits of those experts that classify it correctly; one at least must."""
    total, count = torch.zeros((), device=labels.device), torch.zeros((), device=labels.device)
    for expert in range(experts):
        logits = logits_of(expert, indices)
        right = (logits.argmax(dim=1) == labels)[:, None]
        total, count = total + torch.where(right, logits, 0.0), count + right
    return total / count
