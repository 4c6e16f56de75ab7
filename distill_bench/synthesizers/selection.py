"""Sets of real images: no synthesis, the line every method has to beat."""

import torch

from distill_bench.synthesizers.job import Fields, Job, Synthetic, synthesizer


@synthesizer(Fields)
def random_selection(job: Job[Fields]) -> Synthetic:
    """``ipc`` different images of every class, drawn uniformly."""
    draws = (job.training.draw(label, job.ipc, job.generator("selection", label)) for label in range(job.classes))
    return Synthetic(torch.cat(list(draws)), job.labels)
