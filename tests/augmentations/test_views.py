"""Views: crops against torch's own resizing, the distribution of regions, mixtures by hand, recordings played back."""

import hashlib
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from distill_bench.augmentations import views
from distill_bench.augmentations.views import AugmentPolicy
from distill_bench.distilled.recorded_labels import RecordedLabels
from distill_bench.errors import DataError
from distill_bench.runtime.seeds import generator

SHAPE = (3, 12, 10)
EVERYTHING = AugmentPolicy(crop="resized", tiles=2, mix="cutmix")


def images_of(count, dtype=torch.float32):
    return torch.rand(count, *SHAPE, generator=generator("views", "images"), dtype=dtype)


def test_a_crop_is_torchs_bilinear_resizing_of_the_region_alone():
    images = images_of(40, torch.float64)
    regions = views.sample_crops(40, *SHAPE[1:], (0.05, 1.0), generator("regions"))
    for image, (top, left, height, width), ours in zip(
        images, regions.tolist(), views.crop(regions, images), strict=True
    ):
        part = image[None, :, top : top + height, left : left + width]
        theirs = F.interpolate(part, SHAPE[1:], mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_the_whole_image_is_left_as_it_is_and_a_shift_brings_in_zeros():
    images = images_of(2)
    assert torch.equal(views.crop(torch.tensor([[0, 0, 12, 10]]), images), images)
    shifted = views.crop(torch.tensor([[2, -3, 12, 10]]), images)
    assert torch.equal(shifted[:, :, :10, 3:], images[:, :, 2:, :7])
    assert not shifted[:, :, 10:].any() and not shifted[:, :, :, :3].any()


def test_regions_lie_in_the_image_and_have_the_area_and_ratio_asked_for():
    regions = views.sample_crops(4000, 200, 100, (0.2, 0.3), generator("areas"))
    top, left, height, width = regions.double().unbind(dim=1)
    assert top.min() == 0 and left.min() == 0
    assert (top + height).max() == 200 and (left + width).max() == 100
    share, ratio = height * width / 20000, width / height
    assert 0.19 < share.min() < 0.21 and 0.29 < share.max() < 0.31 and abs(share.mean() - 0.25) < 0.005
    assert 0.74 < ratio.min() < 0.76 and 1.31 < ratio.max() < 1.35
    assert abs(ratio.log().mean()) < 0.02  # the logarithm is uniform


@pytest.mark.parametrize(("height", "width", "central"), [(10, 10, [0, 0, 10, 10]), (4, 40, [0, 17, 4, 5]),
                                                          (40, 4, [17, 0, 5, 4])])  # fmt: skip
def test_where_no_region_fits_it_is_the_largest_central_one(height, width, central):
    regions = views.sample_crops(3, height, width, (1.5, 1.6), generator("none fits"))
    assert regions.tolist() == [central] * 3


def test_positions_are_uniform():
    tops = views.sample_crops(3000, 64, 64, (0.25, 0.25), generator("positions"), ratio=(1.0, 1.0))[:, 0]
    assert tops.unique().tolist() == list(range(33))
    assert tops.bincount().min() > 50


def test_another_scale_moves_no_other_draw():
    small, large = (views.sample(AugmentPolicy(scale=s, mix="cutmix"), 6, SHAPE, True, generator("stream"))
                    for s in ((0.08, 1.0), (0.9, 1.0)))  # fmt: skip
    assert not torch.equal(small.crops, large.crops)
    for name in ("tiles", "mirrored", "partners", "boxes", "weights"):
        assert torch.equal(getattr(small, name), getattr(large, name)), name


def test_mirrors_are_half_and_none_where_they_change_the_label():
    rule = AugmentPolicy(crop="none")
    assert 450 < views.sample(rule, 1000, SHAPE, True, generator("mirrors")).mirrored.sum() < 550
    assert not views.sample(rule, 1000, SHAPE, False, generator("mirrors")).mirrored.any()
    images = images_of(2)
    assert torch.equal(views.mirror(torch.tensor([True, False]), images)[0], images[0].flip(2))


def test_tiles_go_where_their_order_says():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    moved = views.shuffle_tiles(torch.tensor([[3, 0, 1, 2]]), image)[0, 0]
    assert moved.tolist() == [[10, 11, 0, 1], [14, 15, 4, 5], [2, 3, 8, 9], [6, 7, 12, 13]]


def test_cutmix_by_hand():
    images = images_of(5)
    drawn = views.sample(AugmentPolicy(crop="none", mix="cutmix"), 5, SHAPE, False, generator("cutmix", 3))
    shown, share = views.shown(drawn, images), views.own_share(drawn, *SHAPE[1:])
    assert drawn.boxes[0, 2] * drawn.boxes[0, 3] > 0
    for i in range(5):
        top, left, height, width = drawn.boxes[i].tolist()
        expected = images[i].clone()
        expected[:, top : top + height, left : left + width] = images[drawn.partners[i], :, top : top + height,
                                                                      left : left + width]  # fmt: skip
        assert torch.equal(shown[i], expected)
        assert share[i] == pytest.approx(1 - height * width / 120)


def test_the_share_of_cutmix_is_that_of_its_beta():
    rule = AugmentPolicy(crop="none", mix="cutmix")
    boxes = torch.stack([views.sample(rule, 1, (1, 512, 512), False, generator("box", i)).boxes[0] for i in range(800)])
    covered = (boxes[:, 2] * boxes[:, 3]).double() / 512**2
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= 512).all()
    # a side of √s about a uniform pixel, cut at the edges, covers √s − s/4: E (√s − s/4)² over uniform s is 77/240
    assert covered.mean() == pytest.approx(77 / 240, abs=0.02)


def test_mixup_by_hand_with_the_weights_of_beta():
    images = images_of(4)
    rule = AugmentPolicy(crop="none", mix="mixup", beta=0.8)
    drawn = views.sample(rule, 4, SHAPE, False, generator("mixup"))
    weight = float(drawn.weights[0])
    torch.testing.assert_close(views.shown(drawn, images), weight * images + (1 - weight) * images[drawn.partners])
    weights = torch.stack([views.sample(rule, 1, SHAPE, False, generator("w", i)).weights[0] for i in range(1500)])
    assert weights.mean() == pytest.approx(0.5, abs=0.02)
    assert weights.var() == pytest.approx(1 / (4 * (2 * 0.8 + 1)), rel=0.1)  # of Beta(a, a)


def recording_of(rule, epochs=3, count=7, classes=5, top=0):
    recording, images = RecordedLabels.empty(epochs, count, classes, top, rule.tiles), images_of(count)
    seen = torch.empty(epochs, *images.shape)
    logits = torch.randn(epochs, count, classes, generator=generator("logits"))
    for epoch in range(epochs):
        draws = generator("epoch", epoch)
        for indices in torch.randperm(count, generator=draws).split(4):
            drawn = views.sample(rule, len(indices), SHAPE, True, draws)
            seen[epoch, indices] = views.shown(drawn, images[indices])
            recording.write(epoch, indices, drawn, logits[epoch, indices])
    return recording, images, seen, logits


@pytest.mark.parametrize(
    "rule", [EVERYTHING, AugmentPolicy(mix="mixup", beta=0.8), AugmentPolicy(crop="padded")], ids=str
)
def test_a_recording_shows_what_the_teacher_saw_whatever_the_batches(rule):
    recording, images, seen, logits = recording_of(rule)
    again = RecordedLabels.stored(recording.to_store(), 5)
    for epoch in range(3):
        indices = torch.randperm(7, generator=generator("another order", epoch))
        assert torch.equal(again.replay(images, epoch, indices), seen[epoch, indices])
        assert torch.equal(again.logits(epoch, indices), logits[epoch, indices].half().float())


def test_of_the_top_two_logits_the_rest_has_no_probability():
    recording, _, _, logits = recording_of(EVERYTHING, top=2)
    found = recording.logits(1, torch.arange(7))
    assert (found.isfinite().sum(dim=1) == 2).all()
    assert torch.equal(found.argmax(dim=1), logits[1].argmax(dim=1))
    probabilities = found.softmax(dim=1)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(7))
    assert recording.tensors["logits"].nbytes == 3 * 7 * 2 * 2 and recording.tensors["classes"].nbytes == 3 * 7 * 2 * 2


def test_an_incomplete_recording_is_refused():
    tensors = recording_of(EVERYTHING)[0].to_store()
    with pytest.raises(DataError, match=r"lacks relabel\.boxes, relabel\.crops"):
        RecordedLabels.stored({k: v for k, v in tensors.items() if k not in ("relabel.crops", "relabel.boxes")}, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": torch.ones(2, 7)}, r"relabel\.weights is torch\.float32 \(2, 7\); it should be .* \(3, 7\)"),
        ({"crops": torch.zeros(3, 7, 3, dtype=torch.int16)}, r"it should be torch\.int16 \(3, 7, 4\)"),
        ({"mirrored": torch.zeros(3, 7)}, r"it should be torch\.bool \(3, 7\)"),
        ({"logits": torch.zeros(3, 7, 4, dtype=torch.float16)}, r"it should be torch\.float16 \(3, 7, 5\)"),
        ({"partners": torch.full((3, 7), 7, dtype=torch.int32)}, r"relabel\.partners has values outside 0 … 6"),
        ({"logits": torch.zeros(3, 7, 1, dtype=torch.float16), "classes": torch.full((3, 7, 1), -1, dtype=torch.int16)},
         r"relabel\.classes has values outside 0 … 4"),
        ({"others": torch.zeros(3, 7)}, r"it should be no such tensor"),
        ({"tiles": torch.tensor(0, dtype=torch.int16)}, r"relabel\.tiles is torch\.int16 \(\); it should be"),
    ],
)  # fmt: skip
def test_a_recording_that_does_not_fit_is_refused(change, message):
    tensors = recording_of(EVERYTHING)[0].to_store() | {f"relabel.{name}": each for name, each in change.items()}
    with pytest.raises(DataError, match=message):
        RecordedLabels.stored(tensors, 5)


def replayed_digest(path, batch):
    """sha256 over all views and labels of a recording in a file, replayed in batches of another size."""
    recording, images = RecordedLabels.stored(load_file(path), 5), images_of(7)
    digest = hashlib.sha256()
    for epoch in range(3):
        shown = [recording.replay(images, epoch, indices) for indices in torch.arange(7).split(batch)]
        digest.update(
            torch.cat([*shown]).numpy().tobytes() + recording.logits(epoch, torch.arange(7)).numpy().tobytes()
        )
    return digest.hexdigest()


@pytest.mark.slow
def test_another_process_replays_the_file_to_the_same_bytes(tmp_path, forked_python):
    recording, _, seen, logits = recording_of(EVERYTHING)
    path, said = tmp_path / "recording.safetensors", hashlib.sha256()
    save_file({name: tensor.contiguous() for name, tensor in recording.to_store().items()}, path)
    for epoch in range(3):
        said.update(seen[epoch].numpy().tobytes() + logits[epoch].half().float().numpy().tobytes())
    code = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}; import test_views, torch; "
    code += f"torch.set_num_threads(2); print(test_views.replayed_digest({str(path)!r}, 3))"
    other = subprocess.run([forked_python, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == said.hexdigest()


def test_the_annealed_share_of_a_uniform_is_a_uniform():
    assert views._beta(1.0, generator("beta")) == pytest.approx(views._beta(1.0 + 1e-9, generator("beta")), abs=1e-6)
    assert math.isclose(views._beta(1.0, generator("beta")), float(torch.rand((), generator=generator("beta"),
                                                                              dtype=torch.float64)))  # fmt: skip


def test_a_reflected_crop_is_a_region_of_the_image_padded_with_itself():
    images = torch.rand(81, 3, 9, 6, generator=generator("reflected"), dtype=torch.float64)
    shifts = [(top, left) for top in range(-4, 5) for left in range(-4, 5)]
    crops = torch.tensor([[top, left, 9, 6] for top, left in shifts])
    padded = F.pad(images, (4, 4, 4, 4), mode="reflect")
    wanted = [
        image[:, 4 + top : 13 + top, 4 + left : 10 + left] for image, (top, left) in zip(padded, shifts, strict=True)
    ]
    assert torch.equal(views.crop(crops, images, reflected=True), torch.stack(wanted))


def test_a_rule_of_reflected_crops_shifts_as_the_padded_one_does_and_leaves_no_zero():
    images = torch.rand(50, 1, 8, 8, generator=generator("shifted"))
    shown = {}
    for crop in ("padded", "reflected"):
        drawn = views.sample(AugmentPolicy(crop=crop), 50, (1, 8, 8), True, generator("draws"))
        shown[crop] = views.shown(drawn, images)
    inside = shown["padded"] != 0
    assert not inside.all() and torch.equal(shown["padded"][inside], shown["reflected"][inside])
    assert (shown["reflected"] > 0).all()
