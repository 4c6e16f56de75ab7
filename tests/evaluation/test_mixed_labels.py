"""Logits that are mixed, and then become probabilities: against a loop, and beside classes."""

import pytest
import torch

from distill_bench import synthesize
from distill_bench.augmentations import views
from distill_bench.augmentations.views import AugmentPolicy
from distill_bench.evaluation import load_protocol
from distill_bench.evaluation.inputs import train_inputs
from distill_bench.evaluation.labels import both, cut_batches, mixed_batches, softened
from distill_bench.evaluation.setup import setup_evaluation
from distill_bench.methods.recipe import TEST
from distill_bench.runtime.seeds import generator
from distill_bench.training.train import table_batches

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


@pytest.mark.parametrize("targets", [CLASS_OF, LOGITS.softmax(1), both(LOGITS.softmax(1), CLASS_OF)])
def test_cut_batches_hold_boxes_of_others_and_targets_by_area(targets):
    """Images of one value each: the mean over the pixels says how much of an image is which other one."""
    values = torch.arange(COUNT, dtype=torch.float64).add(1).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    soft = torch.eye(CLASSES, dtype=torch.float64)[targets] if targets.ndim == 1 else targets
    indices = torch.tensor([4, 0, 3, 1])
    for seed in range(20):
        batches = cut_batches(table_batches(values.__getitem__, targets), CLASSES, 1.0)
        images, found = batches(0, indices, generator("cut", seed))
        for image, target, index in zip(images, found, indices.tolist(), strict=True):
            shares = [float((image == k + 1).double().mean()) for k in range(COUNT)]
            assert sum(shares) == 1 and sum(share > 0 for share in shares) <= 2 and image[0, 0, 0] > 0
            others = [k for k in range(COUNT) if shares[k] and k != index]
            wanted = shares[index] * soft[index] + sum(shares[k] * soft[k] for k in others)
            torch.testing.assert_close(target.double(), wanted, rtol=0, atol=1e-6)


def test_so_many_batches_are_cut():
    batches = cut_batches(table_batches(IMAGES.__getitem__, CLASS_OF), CLASSES, 0.25)
    cut = sum(not torch.equal(batches(0, torch.arange(COUNT), generator("cut", k))[0], IMAGES) for k in range(400))
    assert 60 < cut < 120  # of 100, but for boxes of no pixel
    never = cut_batches(table_batches(IMAGES.__getitem__, CLASS_OF), CLASSES, 0.0)
    images, targets = never(0, torch.arange(COUNT), generator("cut"))
    assert torch.equal(images, IMAGES) and torch.equal(targets, torch.eye(CLASSES)[CLASS_OF])


def test_ncfm_cuts_half_of_its_batches_and_none_without_augmentation(digits):
    chosen, order = synthesize(digits, "random", 1, TEST), torch.arange(10)

    def targets(protocol, k):
        setup = setup_evaluation(digits, load_protocol(protocol), chosen.card.pixel_space)
        return train_inputs(chosen, setup, "hard").batches(0, order, generator("cut", k))[1]

    cut = sum(not torch.equal(targets("ncfm-v1", k), torch.eye(10)) for k in range(40))
    assert 10 < cut < 30
    assert all(torch.equal(targets("ncfm-v1+no-augmentation", k), order) for k in range(40))
