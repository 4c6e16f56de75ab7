"""Sets with compensators: what is shown, by a loop; what they may hold; who trains on them; who refuses them."""

from dataclasses import replace

import pytest
import torch

from distill_bench import DistilledSet, evaluate, load_distilled
from distill_bench.augmentations import views
from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.distilled.compensators import IMAGES
from distill_bench.errors import DataError, UsageError
from distill_bench.evaluation import load_protocol
from distill_bench.evaluation.evaluate import prepare
from distill_bench.evaluation.measures import ars, continual, nas, privacy
from distill_bench.hub.convert.exporting import export
from distill_bench.runtime.seeds import generator

BLOCKS, NETWORKS, CLASSES = 2, 3, 10
SHOWN = BLOCKS * CLASSES * (NETWORKS + 1)


def made(digits, kind="normalized", **changed):
    """A set of random images, some beyond white, with random compensators and logits; parts of it may be changed."""
    draws = generator("compensated set")
    images = torch.randn(BLOCKS * CLASSES, 1, 8, 8, generator=draws)
    labels = torch.arange(CLASSES).repeat_interleave(BLOCKS)
    added = torch.randn(BLOCKS, NETWORKS, 1, 8, 8, generator=draws)
    logits = 5 * torch.randn(SHOWN, CLASSES, generator=draws)
    card = DistilledSet.from_tensors(images, labels, digits, pixel_space=kind, ipc=3, temperature=4.0).card
    card = card.model_copy(update={"label_kind": "logits"} | changed.pop("card", {}))
    parts = {"images": images, "labels": labels, "soft_labels": logits, "stored": {IMAGES: added}} | changed
    return DistilledSet(card=card, **parts)


@pytest.mark.parametrize("kind", ["normalized", "unit"])
def test_shown_images_are_those_of_a_loop(digits, kind):
    one = made(digits, kind)
    space, wanted = one.card.pixel_space, []
    low, high = (0.0, 1.0) if kind == "unit" else (-space.mean[0] / space.std[0], (1 - space.mean[0]) / space.std[0])
    for label in range(CLASSES):
        for block in range(BLOCKS):
            own = one.images[label * BLOCKS + block]
            wanted.append((label, own))
            for network in range(NETWORKS):
                wanted.append((label, (own + one.stored[IMAGES][block, network]).clip(low, high)))
    images, labels, _ = one.shown()
    assert labels.tolist() == [label for label, _ in wanted]
    torch.testing.assert_close(images, torch.stack([image for _, image in wanted]), rtol=0, atol=1e-6)
    assert float(one.images.max()) > high  # what is stored is shown as it is
    assert one.shown_count == SHOWN and one.budget_count == 3 * CLASSES


def test_nothing_added_gives_copies(digits):
    inside = torch.rand(BLOCKS * CLASSES, 1, 8, 8, generator=generator("pixels"))
    one = made(digits, "unit", images=inside, stored={IMAGES: torch.zeros(BLOCKS, NETWORKS, 1, 8, 8)})
    assert torch.equal(one.shown()[0], inside.repeat_interleave(NETWORKS + 1, dim=0))


def test_compensators_come_back_and_count_in_the_bytes(digits, tmp_path):
    one = made(digits)
    one.save(tmp_path / "set.safetensors")
    again = load_distilled(tmp_path / "set.safetensors")
    assert again.to_bytes() == one.to_bytes() and torch.equal(again.stored[IMAGES], one.stored[IMAGES])
    images = (BLOCKS * CLASSES + BLOCKS * NETWORKS) * 64 * 4
    assert one.nbytes == images + BLOCKS * CLASSES * 8 + SHOWN * CLASSES * 4
    assert images <= 3 * CLASSES * 64 * 4


WRONG = ["name", "type", "size", "nothing", "values", "blocks", "order", "pictures", "whitened", "teacher", "budget",
         "prefixes", "smaller ones", "labels"]  # fmt: skip


def others(digits):
    """What a set with compensators cannot be: parts of ``made``, and words of the message."""
    whole = made(digits)
    added, labels = whole.stored[IMAGES], whole.labels
    nan = added.clone()
    nan[0, 0, 0, 0, 0] = torch.nan
    return {
        "name": ({"stored": {"compensator.other": added}}, "unknown tensors compensator.other"),
        "type": ({"stored": {IMAGES: added.double()}}, "torch.float64"),
        "size": ({"stored": {IMAGES: added[..., 1:]}}, r"must be float32 \(images a class, networks, 1, 8, 8\)"),
        "nothing": ({"stored": {IMAGES: added[:0]}}, "must be float32"),
        "values": ({"stored": {IMAGES: nan}}, "1 values of compensator.images are NaN"),
        "blocks": ({"stored": {IMAGES: torch.cat([added, added])}}, "for 4 images of every class; the set's 20"),
        "order": ({"labels": labels.flip(0)}, "in class order"),
        "pictures": ({"images": torch.zeros(20, 1, 8, 8, dtype=torch.uint8)}, "images are torch.uint8"),
        "whitened": ({"card": {"pixel_space": pixel_space_of(digits, "zca")}}, "in zca pixels"),
        "teacher": ({"card": {"label_kind": "teacher", "teacher": "MLP"}, "soft_labels": None,
                     "stored": {IMAGES: added, "teacher.x": added}}, "label_kind is 'teacher'"),
        "budget": ({"card": {"ipc": 2}}, "20 images and 6 compensators are more than the 2 images per class"),
        "prefixes": ({"card": {"prefixes": (1,)}}, "prefixes must be empty"),
        "smaller ones": ({"card": {"formation": 2}}, "formation is 2; compensators are added to whole images"),
        "labels": ({"soft_labels": whole.soft_labels[:20]}, r"must be finite floats \(80, 10\)"),
    }  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_go_together_is_refused(digits, what):
    parts, words = others(digits)[what]
    with pytest.raises(DataError, match=words):
        made(digits, **parts)


def plain(one):
    """The same images and labels without compensators, which ask for more images per class."""
    images, labels, _ = one.shown()
    card = one.card.model_copy(update={"ipc": len(images) // CLASSES})
    return DistilledSet(images, labels, card, soft_labels=one.soft_labels)


@pytest.mark.parametrize("labels", ["stored", "hard"])
@pytest.mark.parametrize("protocol", ["quick-v1", "infer-v1"])
def test_networks_are_trained_on_what_is_shown(digits, protocol, labels):
    one = made(digits)
    given, wanted = (prepare(each, digits, protocol, "MLP", 1, labels)[1] for each in (one, plain(one)))
    assert given.count == wanted.count == SHOWN
    for indices in torch.randperm(SHOWN, generator=generator("order")).split(30):
        ours, theirs = (each.batches(0, indices, generator("views")) for each in (given, wanted))
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])
    assert replace(given.plan, epochs=1, decay_after=1) == replace(wanted.plan, epochs=1, decay_after=1)
    assert all(map(torch.equal, one.to_dataset().tensors, (one.shown().images, one.soft_labels)))


def test_infer_mixes_the_logits_of_what_is_shown(digits):
    one, rules = made(digits), load_protocol("infer-v1")
    indices = torch.tensor([71, 3, 40])
    _, found = prepare(one, digits, "infer-v1", "MLP", 1)[1].batches(0, indices, generator("views"))
    drawn = views.sample(rules.views, 3, (1, 8, 8), False, generator("views"))
    own, other = one.soft_labels[indices], one.soft_labels[indices[drawn.partners]]
    wanted = (drawn.weights[:, None] * own + (1 - drawn.weights[:, None]) * other) / 4.0
    torch.testing.assert_close(found, wanted.softmax(dim=1), rtol=0, atol=1e-6)


def test_as_many_steps_are_taken_as_with_the_budgets_images(digits):
    plan = prepare(made(digits), digits, "rded-v1", "MLP", 1)[1].plan
    assert (plan.batch_size, plan.epochs) == (10, 113)  # 300 epochs of 3 batches are 112 and a half of 8


def test_a_result_says_how_many_are_shown(digits):
    one = made(digits)
    found = evaluate(one, digits, "quick-v1", "MLP", 1)
    assert (found.images, found.shown, found.ipc, found.bytes) == (20, 80, 3, one.nbytes)


def test_what_would_leave_compensators_out_refuses_them(digits, tmp_path):
    one = made(digits)
    calls = {
        "to=mtt": lambda: export([one], "mtt", tmp_path / "out", lossy=True),
        "to_hf": one.to_hf,
        "measure continual": lambda: continual(one, digits),
        "measure nas": lambda: nas(one, digits),
        "measure privacy": lambda: privacy(one, digits),
        "measure lrs or ars": lambda: ars(one, plain(one), digits),
    }
    for what, call in calls.items():
        with pytest.raises(UsageError, match=f"{what}.* takes a set's images alone; this set has 6 compensators"):
            call()
