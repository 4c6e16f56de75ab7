"""NRR-DD: maps by a slow loop, which crops are kept, which pixels are refined, and by how much."""

import copy
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from distill_bench import synthesize
from distill_bench.augmentations import views
from distill_bench.distilled.budget import Budget
from distill_bench.errors import UsageError
from distill_bench.methods import load_method, new_run
from distill_bench.methods.decoupled.class_activation import area_shares, class_maps, critical_areas
from distill_bench.methods.decoupled.realistic_crops import CropConfig, best_crops
from distill_bench.methods.decoupled.recover import Recovery, recover_batch
from distill_bench.methods.decoupled.refine import Refinement, refinement_mask
from distill_bench.methods.decoupled.relabel import teacher_of
from distill_bench.methods.loop import optimise
from distill_bench.methods.recipe import TEST
from distill_bench.networks import Network, build_network
from distill_bench.runtime.seeds import generator

# ---- maps


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("ConvNetD2W4BN", (3, 12, 8)), ("ConvNetD1W4BN", (1, 28, 28)), ("ConvNetD1W4NP", (1, 8, 8)),
        ("ResNet18BN", (3, 16, 16)), ("ResNet18BN_AP", (3, 16, 8)), ("VGG11BN", (3, 32, 32)),
    ],
)  # fmt: skip
def test_a_map_and_the_bias_sum_to_the_logit(name, shape):
    network = build_network(name, shape, 5, generator("maps")).double().eval()
    network.classifier.bias.data.uniform_(-1, 1, generator=generator("bias"))
    images = torch.randn(3, *shape, generator=generator("images"), dtype=torch.float64)
    labels = torch.tensor([4, 0, 2])
    with torch.no_grad():
        maps, logits = class_maps(network, images, labels), network(images)
    wanted = logits[torch.arange(3), labels] - network.classifier.bias[labels]
    torch.testing.assert_close(maps.sum(dim=(1, 2)), wanted, rtol=1e-12, atol=1e-12)
    assert maps.ndim == 3 and not any(layer._forward_hooks for layer in network.modules())


def test_a_map_is_what_every_position_adds_with_its_own_weights():
    network = build_network("ConvNetD2W4BN", (1, 12, 8), 3, generator("loop")).double().eval().requires_grad_(False)
    images = torch.randn(2, 1, 12, 8, generator=generator("images"), dtype=torch.float64)
    maps, features = class_maps(network, images, torch.tensor([2, 1])), network.features(images)
    for (image, label), row, column in product(((0, 2), (1, 1)), range(3), range(2)):
        added = sum(
            float(network.classifier.weight[label, 6 * k + 2 * row + column] * features[image, k, row, column])
            for k in range(4)
        )
        assert float(maps[image, row, column]) == pytest.approx(added, abs=1e-12)


def test_the_map_of_a_mean_over_positions_is_zhous():
    network = build_network("ResNet18BN", (1, 16, 16), 3, generator("zhou")).eval()
    images, kept = torch.randn(2, 1, 16, 16, generator=generator("images")), []
    network.features.layer4.register_forward_hook(lambda *told: kept.append(told[2]))
    with torch.no_grad():
        maps = class_maps(network, images, torch.tensor([0, 1]))
    zhou = torch.einsum("bk,bkuv->buv", network.classifier.weight[:2], kept[0])
    torch.testing.assert_close(maps, zhou / 4)


def test_areas_are_stretched_from_zero_to_one_and_nothing_where_a_map_is_constant():
    maps = torch.tensor([[[-3.0, 2.0]], [[-1.0, -2.0]], [[5.0, 5.0]], [[4.0, 2.0]]])
    found = critical_areas(maps, 1, 4)[:, 0]
    torch.testing.assert_close(found[0], torch.tensor([0, 0.25, 0.75, 1]))
    assert torch.equal(found[1:3], torch.zeros(2, 4))
    torch.testing.assert_close(found[3], torch.tensor([1, 0.75, 0.25, 0]))


def test_shares_of_regions_by_hand():
    area = torch.arange(16.0).view(4, 4)
    regions = torch.tensor([[0, 1, 2, 3], [1, 0, 2, 2]])
    found = area_shares(torch.stack([area, torch.zeros(4, 4)]), regions)
    assert found.tolist() == pytest.approx([(1 + 2 + 3 + 5 + 6 + 7) / 120, 4 / 16])


@pytest.mark.parametrize(
    ("method", "fields", "message"),
    [
        ("rded", {"rank": "activation", "teacher": {"network": "MLP"}}, "classifier is not on feature maps"),
        ("nrr-dd", {"teacher": {"network": "ConvNetD1W4"}}, "ConvNetD1W4 has none"),
        ("nrr-dd", {"crops": 2, "per_image": 3}, "per_image 3 is more than crops 2"),
        ("nrr-dd", {"pool": 3, "per_image": 2, "crops": 2, "factor": 2}, "keeps 2 crops .* needs 8 .* at 3"),
        ("nrr-dd", {"init": "noise"}, "init"),
        ("nrr-dd", {"threshold": 1.5}, "threshold"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_before_any_work(digits, method, fields, message, monkeypatch):
    monkeypatch.setattr("distill_bench.methods.decoupled.relabel.get_or_train_teacher", None)
    with pytest.raises(UsageError, match=message):
        synthesize(digits, method, 2, TEST, **fields)


# ---- crops


class Weighs(Network):
    """Two classes by the pixels themselves: those of class 1 by weights, of class 0 by nothing."""

    def __init__(self, weights):
        super().__init__(nn.Identity(), nn.Linear(weights.numel(), 2, bias=False))
        self.classifier.weight.data = torch.stack([torch.zeros(weights.numel()), weights.flatten()])


LEFT, RIGHT = [0, 0, 4, 2], [0, 2, 4, 2]


@pytest.fixture
def by_hand(monkeypatch):
    """Four images of class 1, halves of which are the crops. The map is the image; a crop's logit its mean × 16 − 16.

    What lies left and right: image 0: 3 and 1, 1: 2 and 0, 2: 0 and 1.5, 3: 0.2 and 0.4.
    """
    sides = torch.tensor([[3.0, 1.0], [2.0, 0.0], [0.0, 1.5], [0.2, 0.4]])
    pool = sides.repeat_interleave(2, dim=1)[:, None, None].expand(4, 1, 4, 4).clone()
    drawn = iter([LEFT, RIGHT] * 9)
    monkeypatch.setattr(views, "sample_crops", lambda count, *told, **more: torch.tensor([next(drawn)] * count))

    class Cautious(Weighs):
        def forward(self, images):
            return super().forward(images) - torch.tensor([0.0, 16.0])

    def kept(**fields):
        config = CropConfig(teacher={}, pool=4, crops=2, **fields)
        crops, losses, right = best_crops(Cautious(torch.ones(4, 4)), pool, 1, config, generator("unused"))
        return crops.mean(dim=(1, 2, 3)).tolist(), losses, right.tolist()

    return kept


def test_of_an_image_the_crop_with_the_larger_share_of_the_map_is_kept(by_hand):
    # what lies in a crop after the map is stretched: all of the brighter half
    assert by_hand(rank="activation")[0] == pytest.approx([3.0, 2.0, 1.5, 0.4])
    assert by_hand(rank="loss")[0] == pytest.approx([3.0, 2.0, 1.5, 0.4])


def test_several_crops_of_an_image_are_kept_and_which_the_teacher_takes_for_the_class(by_hand):
    levels, losses, right = by_hand(rank="activation", per_image=2)
    assert levels == pytest.approx([3.0, 2.0, 1.5, 0.4, 1.0, 0.0, 0.0, 0.2])
    assert right == [True, True, True, False, False, False, False, False]  # 1.0 is on the fence, and counts as class 0
    logits = torch.tensor(levels) * 16 - 16
    torch.testing.assert_close(losses, F.cross_entropy(torch.stack([0 * logits, logits], 1), torch.ones(8).long(),
                                                       reduction="none"))  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "levels"),
    [
        ({"keep": "surest"}, [3.0, 2.0]),
        ({"keep": "least-sure", "require_right": True}, [1.5, 2.0]),
        ({"keep": "least-sure"}, [0.4, 1.5]),
    ],
)
def test_of_a_class_the_crops_it_is_surest_or_least_sure_of_are_kept(by_hand, digits, fields, levels, monkeypatch):
    from distill_bench.methods.decoupled import realistic_crops

    made = CropConfig(teacher={}, pool=4, crops=2, rank="activation", **fields)
    levels_of, losses, right = by_hand(rank="activation")
    crops = torch.tensor(levels_of).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    monkeypatch.setattr(realistic_crops, "best_crops", lambda *told: (crops, losses, torch.tensor(right)))
    run = new_run(digits, load_method("rded"), made, Budget(2), device="cpu")
    nobody = Weighs(torch.ones(8, 8))
    found = realistic_crops._best_images(run, nobody, 1)
    assert found.mean(dim=(1, 2, 3)).tolist() == pytest.approx(levels)
    if made.require_right:
        with pytest.raises(UsageError, match="needs 4 crops of class '1' that the teacher takes for it, and has 3"):
            realistic_crops._best_images(replace(run, budget=Budget(4)), nobody, 1)


@pytest.mark.parametrize(("rank", "kept"), [("activation", 23 / 16), ("loss", 3.0)])
def test_a_large_part_of_the_map_is_not_what_the_teacher_is_surest_of(monkeypatch, rank, kept):
    """A bright quarter, which the teacher is surest of, and the whole, which has all of the map."""
    image = torch.ones(4, 4)
    image[:2, :2], image[3, 3] = 3.0, 0.0
    drawn = iter([[0, 0, 2, 2], [0, 0, 4, 4]])
    monkeypatch.setattr(views, "sample_crops", lambda count, *told, **more: torch.tensor([next(drawn)] * count))
    config = CropConfig(teacher={}, pool=1, crops=2, rank=rank)
    crops, _, _ = best_crops(Weighs(torch.ones(4, 4)), image[None, None], 1, config, generator("unused"))
    assert crops.mean() == pytest.approx(kept)


# ---- refinement


def refinement(digits, steps=3, **fields):
    """A run of refinement on a batch of the ten classes: the objective before, and the images after."""
    config = load_method("nrr-dd").config("digits", 1, TEST, iterations=steps, **fields)
    run = new_run(digits, load_method("nrr-dd"), config, Budget(1), device="cpu")
    start = torch.cat([run.training.draw(label, 1, generator("start", label)) for label in range(10)])
    return run, teacher_of(run).network, start


def mask_of(run, network, start):
    maps = critical_areas(class_maps(network, start, torch.arange(10)), 8, 8)
    return refinement_mask(maps.detach(), run.config.threshold)[:, None]


@pytest.mark.parametrize("masked", ["update", "gradient"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_what_the_teacher_looks_at_stays_bit_for_bit_and_all_else_moves(digits, optimizer, masked):
    run, network, start = refinement(digits, optimizer=optimizer, masked=masked, image_lr=0.5, threshold=0.3)
    frozen = (mask_of(run, network, start) == 0).expand_as(start)
    after = recover_batch(run, network, torch.arange(10), 0, start, Refinement)
    assert 0.05 < frozen.float().mean() < 0.95
    assert torch.equal(after[frozen], start[frozen])
    assert ((after != start) & ~frozen).float().sum() > 0.5 * (~frozen).float().sum()


def test_a_threshold_of_nothing_changes_nothing(digits):
    run, network, start = refinement(digits, threshold=0.0, image_lr=1.0)
    assert torch.equal(recover_batch(run, network, torch.arange(10), 0, start, Refinement), start)


class Constant(Refinement):
    """As critical everywhere."""

    def _mask_now(self):
        return refinement_mask(torch.full((10, 8, 8), 0.2), self._run_of.config.threshold)[:, None]


@pytest.mark.parametrize("masked", ["update", "gradient"])
def test_where_all_is_as_critical_descent_is_slowed_by_what_is_left_to_the_threshold(digits, masked):
    options = {"optimizer": "sgd", "masked": masked, "threshold": 0.5, "bn_weight": 0.1}
    run, network, start = refinement(digits, image_lr=0.5, **options)
    slowed = recover_batch(run, network, torch.arange(10), 0, start, Constant)

    class Plain(Recovery):
        optimizer = Refinement.optimizer

    plain, _, _ = refinement(digits, image_lr=0.5 * (0.5 - 0.2), **options)
    wanted = recover_batch(plain, network, torch.arange(10), 0, start, Plain)
    torch.testing.assert_close(slowed, wanted)
    assert not torch.allclose(slowed, start)


def test_adam_divides_a_masked_gradient_by_its_own_size_so_the_update_is_masked(digits):
    moved = {}
    for masked in ("update", "gradient"):
        run, network, start = refinement(digits, 1, masked=masked, image_lr=0.01, threshold=0.5)
        mask = mask_of(run, network, start)
        after = recover_batch(run, network, torch.arange(10), 0, start, Refinement)
        inside = run.training.clip(start) == start
        moved[masked] = ((after - start).abs() / 0.01)[(mask > 0.1).expand_as(start) & inside & (after != start)]
        wanted = mask.expand_as(start)[(mask > 0.1).expand_as(start) & inside & (after != start)]
        if masked == "update":
            near = (moved[masked] - wanted).abs() < 1e-3
            assert near.float().mean() > 0.9 and wanted.min() < 0.2
        else:
            assert (moved[masked] > 0.9).float().mean() > 0.8


@pytest.mark.parametrize(("every", "made"), [(0, 1), (2, 3), (5, 1)])
def test_the_mask_is_that_of_the_crops_or_made_anew_and_work_goes_on_with_it(digits, every, made, monkeypatch):
    run, network, start = refinement(digits, 5, mask_every=every, image_lr=0.5)
    masks, now = [], Refinement._mask_now
    monkeypatch.setattr(Refinement, "_mask_now", lambda self: masks.append(now(self)) or masks[-1])
    whole = recover_batch(run, network, torch.arange(10), 0, start, Refinement)
    assert len(masks) == made and len({mask.sum().item() for mask in masks}) == made
    assert torch.equal(masks[0], mask_of(run, network, start))
    # ended after three steps, and gone on from their state
    run, network, start = refinement(digits, 5, mask_every=every, image_lr=0.5)
    images = start.clone()
    optimizer = Refinement.optimizer(run.config, images)
    first = Refinement(run, network, torch.arange(10), images, optimizer, 0)
    optimise(run, first, {"images": images}, {"images": optimizer}, 3)
    state = copy.deepcopy(optimizer.state_dict())
    later = Refinement(run, network, torch.arange(10), images, optimizer, 0)
    later.restore(first.state())
    optimizer.load_state_dict(state)
    for step in (3, 4):
        _, gradients = later.loss_and_grads(step)
        images.grad = gradients["images"]
        optimizer.step()
        later.after_step(step)
    torch.testing.assert_close(images, whole, rtol=0, atol=0)


def test_without_updates_a_set_is_its_crops_and_rdeds_where_all_else_is_rdeds(digits):
    rded = {"rank": "loss", "keep": "surest", "require_right": False}
    shared = {"crops": 2, "pool": 20, "labels": "hard"}
    ours = synthesize(digits, "nrr-dd", 2, TEST, iterations=0, **rded, **shared)
    theirs = synthesize(digits, "rded", 2, TEST, **shared)
    assert torch.equal(ours.images, theirs.images)
    changed = [synthesize(digits, "rded", 2, TEST, **shared, **{name: value}) for name, value in
               (("rank", "activation"), ("keep", "least-sure"))]  # fmt: skip
    assert not any(torch.equal(each.images, theirs.images) for each in changed)
    refined = synthesize(digits, "nrr-dd", 2, TEST, **rded, **shared)
    assert not torch.equal(refined.images, theirs.images)


def test_cards_of_rded_do_not_mention_what_they_do_not_use(digits):
    said = synthesize(digits, "rded", 1, TEST, labels="hard").card.recipe
    assert not {"rank", "keep", "per_image", "require_right"} & said.keys()
