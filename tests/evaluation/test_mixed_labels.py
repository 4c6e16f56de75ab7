"""Logits that are mixed, and then become probabilities: against a loop, and beside classes."""

import pytest
import torch

from distill_bench.augmentations import views
from distill_bench.augmentations.views import AugmentPolicy
from distill_bench.evaluation.labels import both, mixed_batches, softened
from distill_bench.runtime.seeds import generator

COUNT, CLASSES, TEMPERATURE = 6, 4, 3.0
MIXUP = AugmentPolicy(crop="none", mix="mixup", beta=0.8)
IMAGES = torch.randn(COUNT, 1, 4, 4, generator=generator("images"), dtype=torch.float64)
LOGITS = 5 * torch.randn(COUNT, CLASSES, generator=generator("logits"), dtype=torch.float64)
CLASS_OF = torch.arange(COUNT) % CLASSES


def by_loop(indices):
    """Logits mixed in the images' shares, and the shares of the classes, image by image."""
    drawn = views.sample(MIXUP, len(indices), (1, 4, 4), False, generator("views"))
    rows, shares = [], []
    for place, index in enumerate(indices.tolist()):
        own, other = float(drawn.weights[place]), int(indices[drawn.partners[place]])
        rows.append(own * LOGITS[index] + (1 - own) * LOGITS[other])
        one_hot = torch.zeros(CLASSES, dtype=torch.float64)
        one_hot[CLASS_OF[index]] += own
        one_hot[CLASS_OF[other]] += 1 - own
        shares.append(one_hot)
    return torch.stack(rows), torch.stack(shares)


@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_logits_are_mixed_as_images_are_and_then_divided_by_the_temperature(alpha):
    targets = LOGITS if alpha == 1 else both(LOGITS, CLASS_OF)
    batches = softened(mixed_batches(IMAGES.__getitem__, targets, CLASSES, MIXUP, False), TEMPERATURE, alpha)
    indices = torch.tensor([4, 0, 3, 1])
    _, found = batches(0, indices, generator("views"))
    mixed, shares = by_loop(indices)
    wanted = torch.stack([(row / TEMPERATURE).exp() / (row / TEMPERATURE).exp().sum() for row in mixed])
    if alpha < 1:
        wanted = torch.stack([wanted, shares], dim=1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)  # shares are float32


def test_mixed_probabilities_are_others():
    indices = torch.tensor([4, 0, 3, 1])
    early = mixed_batches(IMAGES.__getitem__, (LOGITS / TEMPERATURE).softmax(1), CLASSES, MIXUP, False)
    late = softened(mixed_batches(IMAGES.__getitem__, LOGITS, CLASSES, MIXUP, False), TEMPERATURE)
    ours, theirs = (each(0, indices, generator("views")) for each in (late, early))
    assert torch.equal(ours[0], theirs[0]) and float((ours[1] - theirs[1]).abs().max()) > 0.01
