"""Distribution matching (DM): synthetic images whose mean embedding matches that of real images, class by class.

Source: Zhao & Bilen, "Dataset Condensation with Distribution Matching" (WACV 2023), Eq. 5–6, and main_DM.py of
VICO-UoE/DatasetCondensation 53f63a6.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from distill_bench.synthesizers.job import Job, Synthetic, synthesizer
from distill_bench.synthesizers.loop import Objective, optimise
from distill_bench.synthesizers.matching import MatchingFields, augment_pair, initial_images, random_network


@synthesizer(MatchingFields)
def distribution_matching(job: Job[MatchingFields]) -> Synthetic:
    """DM: an iteration is one random network and one image update."""
    images = initial_images(job)
    optimizer = torch.optim.SGD([images], lr=job.fields.image_lr, momentum=job.fields.image_momentum)
    optimise(job, DistributionMatching(job, images), {"images": images}, {"images": optimizer}, job.fields.iterations)
    return Synthetic(images, job.labels)


class DistributionMatching(Objective):
    """All classes go through the network in one batch, as the original does for batch norm; others do not mind."""

    def __init__(self, job: Job[MatchingFields], images: Float[Tensor, "n c h w"]) -> None:
        self._job, self._images = job, images

    def gradients(self, step: int) -> tuple[float, dict[str, Tensor]]:
        job = self._job
        leaf = self._images.detach().requires_grad_()
        pairs = []
        for label, own in enumerate(leaf.split(job.ipc)):
            draws = job.generator(f"match {label}", step)
            pairs.append(augment_pair(job, job.training.draw(label, job.fields.real_batch, draws), own, draws))
        network = random_network(job, step).requires_grad_(False)
        with torch.no_grad():
            target = class_means(network.embed(torch.cat([real for real, _ in pairs])), [len(r) for r, _ in pairs])
        ours = class_means(network.embed(torch.cat([own for _, own in pairs])), [job.ipc] * job.classes)
        loss = mean_distance(ours, target)
        (gradient,) = torch.autograd.grad(loss, leaf)
        return float(loss.detach()), {"images": gradient}


def class_means(embeddings: Float[Tensor, "n d"], sizes: list[int]) -> Float[Tensor, "k d"]:
    """The mean of each consecutive block of ``sizes[k]`` embeddings."""
    return torch.stack([block.mean(dim=0) for block in embeddings.split(sizes)])


def mean_distance(synthetic: Float[Tensor, "k d"], real: Float[Tensor, "k d"]) -> Float[Tensor, ""]:
    """Σ over classes of the squared distance of their mean embeddings (DM, Eq. 6)."""
    return (synthetic - real).square().sum()
