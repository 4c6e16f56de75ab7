"""Dataset reinforcement: what is recorded, how it is gone through, what it weighs, and what is refused."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from distill_bench import evaluate, synthesize
from distill_bench.augmentations import views
from distill_bench.datasets import dataset_info, list_datasets
from distill_bench.distilled.budget import Budget
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.distilled.playback import Playback, stored_teacher, training_images
from distill_bench.distilled.recorded_labels import RecordedLabels
from distill_bench.distilled.replay import ReplayRule, spread, visits
from distill_bench.errors import DataError, UsageError
from distill_bench.evaluation import PROTOCOLS, load_protocol
from distill_bench.evaluation.inputs import train_inputs
from distill_bench.evaluation.setup import setup_evaluation
from distill_bench.methods import load_method, new_run
from distill_bench.methods.decoupled.relabel import mean_log_probabilities, teacher_of
from distill_bench.methods.recipe import TEST
from distill_bench.methods.run import pretrained_of
from distill_bench.runtime.seeds import generator

SMALL = 0.03
PLAIN = "quick-v1+no-augmentation"
VIEWS = {"epochs": 3, "batch_size": 16}


def made(digits, method="reinforce", record=None, **values) -> DistilledSet:
    return synthesize(digits, method, preset=TEST, fraction=SMALL, record=VIEWS | (record or {}), **values)


def inputs(digits, one, protocol=PLAIN, labels="stored"):
    return train_inputs(one, setup_evaluation(digits, load_protocol(protocol), one.card.pixel_space), labels)


def recording(one) -> RecordedLabels:
    return RecordedLabels.stored(one.stored, 10)


def test_of_all_named_datasets_of_ten_classes_three_probabilities_are_stored():
    top = {name: load_method("reinforce").config(name, 1).record.top for name in list_datasets()}
    ten = {name for name in top if dataset_info(name).class_count == 10}
    assert {"imagenette", "imageyellow"} < ten
    assert {name for name, count in top.items() if count == 3} == ten and set(top.values()) == {3, 10}


@pytest.fixture(scope="module")
def reinforced(digits):
    return made(digits)


def slow_spread(logarithms: list[float], classes: list[int], count: int) -> list[float]:
    """One label in exact fractions."""
    kept = {label: Fraction(math.exp(value)) for label, value in zip(classes, logarithms, strict=True)}
    left = max(Fraction(0), 1 - sum(kept.values()))
    others = count - len(kept)
    row = [kept.get(label, min(left / others, min(kept.values())) if others else 0) for label in range(count)]
    return [float(each / sum(row)) for each in row]


def labels_of(kind: str, count: int, classes: int) -> Tensor:
    """Log-probabilities of a sure, a usual, an even teacher; or such as sum to a little more than 1."""
    scale = {"sure": 40.0, "usual": 3.0, "even": 0.0, "above 1": 3.0}[kind]
    said = (scale * torch.randn(count, classes, generator=generator("said", kind), dtype=torch.float64)).log_softmax(1)
    return said + 1e-7 if kind == "above 1" else said


@pytest.mark.parametrize("kept", [1, 3, 9, 10])
@pytest.mark.parametrize("kind", ["sure", "usual", "even", "above 1"])
def test_the_rest_is_spread_evenly_and_exactly(kind, kept):
    logarithms, classes = labels_of(kind, 40, 10).topk(kept, dim=1)
    stored = logarithms.half()
    found = spread(stored, classes, 10)
    for row, values, own in zip(found, stored.double(), classes, strict=True):
        wanted = slow_spread(values.tolist(), own.tolist(), 10)
        torch.testing.assert_close(row.double(), torch.tensor(wanted, dtype=torch.float64), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(found.double().sum(dim=1), torch.ones(40, dtype=torch.float64), rtol=0, atol=3e-7)
    assert (found >= 0).all()
    assert (found.amax(dim=1) == found.gather(1, classes).amax(dim=1)).all()  # no other class is ahead


def test_with_all_classes_kept_it_is_what_the_teacher_said():
    said = labels_of("usual", 50, 10)
    logarithms, classes = said.topk(10, dim=1)
    torch.testing.assert_close(spread(logarithms, classes, 10).double(), said.exp(), rtol=1e-6, atol=1e-9)


def test_a_sure_label_whose_kept_sum_rounds_above_one_stays_sure():
    logarithms = torch.tensor([[0.0, math.log(1e-7)]])
    assert logarithms.double().exp().sum() > 1
    found = spread(logarithms, torch.tensor([[4, 2]]), 10)
    torch.testing.assert_close(found[0, [4, 2]], torch.tensor([1.0, 1e-7]))
    assert found.sum() == pytest.approx(1) and found[0, 0] == 0


def test_the_stored_labels_are_the_teachers_for_the_views_played_back(digits, reinforced):
    teacher = stored_teacher(made(digits, labels="teacher"))
    own, images, every = recording(reinforced), training_images(reinforced), torch.arange(len(reinforced.images))
    for epoch in range(3):
        said = teacher(own.replay(images, epoch, every)).log_softmax(dim=1)
        kept, classes = own.tensors["logits"][epoch].float(), own.tensors["classes"][epoch].long()
        torch.testing.assert_close(kept, said.topk(3, dim=1)[0], rtol=2**-10, atol=1e-6)
        torch.testing.assert_close(kept, said.gather(1, classes), rtol=2**-10, atol=1e-6)


@pytest.mark.parametrize("rest", ["even", "none"])
def test_networks_are_given_the_stored_labels_with_the_rest_as_asked(digits, rest):
    one = made(digits, record={"rest": rest, "original": 0.0})
    indices, draws = torch.arange(40), generator("draws")
    numbers = Playback.of(one).samples(1, indices, draws.initial_seed()).tolist()
    given = inputs(digits, one).batches(1, indices, draws)[1].double()
    left = []
    for place, number in enumerate(numbers):
        values, own = (one.stored[f"relabel.{name}"][number, place] for name in ("logits", "classes"))
        if rest == "even":
            wanted = torch.tensor(slow_spread(values.double().tolist(), own.tolist(), 10), dtype=torch.float64)
        else:
            wanted = torch.zeros(10, dtype=torch.float64).scatter(0, own.long(), values.double().softmax(dim=0))
        torch.testing.assert_close(given[place], wanted, rtol=1e-5, atol=1e-9)
        left.append(1 - given[place, own.long()].sum())
    assert (max(left) > 0.01) == (rest == "even")


def test_one_view_of_each_in_any_order_is_a_recording_of_one_epoch(digits):
    one = {"epochs": 1, "original": 0.0}
    plain = made(digits, record=one | {"order": "cycle", "rest": "none", "compact": False, "top": 10})
    usual = made(digits, "random-soft", one | {"views": load(digits).record.views.model_dump(), "top": 10},
                 labels="recorded", temperature=1.0)  # fmt: skip
    assert plain.stored.keys() == usual.stored.keys() and plain.card.replay is None is usual.card.replay
    assert all(torch.equal(plain.stored[name], usual.stored[name]) for name in usual.stored)
    ours, theirs = inputs(digits, made(digits, record=one | {"top": 10})), inputs(digits, usual)
    for epoch in range(3):
        indices = torch.randperm(40, generator=generator("order", epoch))
        found, wanted = (each.batches(epoch, indices, generator("draws")) for each in (ours, theirs))
        assert torch.equal(found[0], wanted[0])
        torch.testing.assert_close(found[1], wanted[1], rtol=0, atol=2e-3)


def load(digits, **values):
    return load_method("reinforce").config_on(digits, Budget(fraction=SMALL), TEST, **values)


def test_batches_of_two_sizes_see_the_same(digits):
    one = made(digits, record={"original": 0.3, "epochs": 3})
    given, count = inputs(digits, one), len(one.images)
    seen = []
    for size in (5, 16):
        epoch_of = {name: torch.zeros(2, count, *shape) for name, shape in (("x", one.images.shape[1:]), ("p", (10,)))}
        for epoch in range(2):
            for indices in torch.randperm(count, generator=generator("any", size)).split(size):
                draws = generator("training")
                torch.rand(size, generator=draws)  # what else was drawn does not matter
                epoch_of["x"][epoch, indices], epoch_of["p"][epoch, indices] = given.batches(epoch, indices, draws)
        seen.append(epoch_of)
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])
    assert not torch.equal(seen[0]["x"][0], seen[0]["x"][1])
    indices = torch.arange(count)
    other = given.batches(0, indices, generator("another training"))[0]
    assert not torch.equal(other, seen[0]["x"][0])


def test_views_are_drawn_uniformly_and_originals_in_their_share():
    rule, images = ReplayRule(order="random", original=0.1), 4000
    drawn = [visits(rule, 5, images, epoch, 7) for epoch in range(5)]
    numbers, own = (torch.stack(each) for each in zip(*drawn, strict=True))
    total = numbers.numel()
    for share, hits in [(0.1, own.sum()), *((0.2, (numbers == k).sum()) for k in range(5))]:
        assert abs(int(hits) - share * total) < 4 * math.sqrt(total * share * (1 - share))
    both = (own & (numbers == 0)).sum()
    assert abs(int(both) - 0.02 * total) < 4 * math.sqrt(total * 0.02 * 0.98)
    # epochs and seeds are independent of each other
    for other in (numbers[1], visits(rule, 5, images, 0, 8)[0]):
        assert abs(int((numbers[0] == other).sum()) - 0.2 * images) < 4 * math.sqrt(images * 0.16)
    in_turn = visits(ReplayRule(), 5, images, 7, 7)
    assert (in_turn[0] == 2).all() and not in_turn[1].any()


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_original_visits_show_the_image_as_the_protocol_does_and_its_class(digits, alpha):
    one = made(digits, record={"original": 0.5}, alpha=alpha)
    given, hard = (inputs(digits, one, "quick-v1", labels) for labels in ("stored", "hard"))
    indices, draws = torch.randperm(40, generator=generator("order")), generator("draws")
    playback = Playback.of(one)
    own = playback.originals(1, indices, draws.initial_seed())
    images, targets = given.batches(1, indices, draws)
    shown, classes = hard.batches(1, indices[own], generator("draws"))
    recorded, said = playback(1, indices, draws.initial_seed())
    assert 5 < own.sum() < 35
    assert torch.equal(images[own], shown) and torch.equal(images[~own], recorded[~own])
    of_teacher = targets if alpha == 1 else targets[:, 0]
    assert torch.equal(of_teacher[own], torch.eye(10)[classes]) and torch.equal(of_teacher[~own], said[~own])
    if alpha < 1:
        assert torch.equal(targets[:, 1], torch.eye(10)[one.labels[indices]])


@pytest.mark.parametrize("order", ["cycle", "random"])
def test_partners_have_the_view_of_the_same_number(digits, order):
    one = made(digits, record={"order": order, "views": {"mix": "cutmix"}})
    own, images, indices = recording(one), training_images(one), torch.arange(40)
    playback = Playback.of(one)
    shown = playback(1, indices, 3)[0]
    for place, number in enumerate(playback.samples(1, indices, 3).tolist()):
        drawn = own.views(number, torch.tensor([place]))
        top, left, height, width = drawn.boxes[0].tolist()
        partner = views.single(own.views(number, drawn.partners), images[drawn.partners])[0]
        wanted = views.single(drawn, images[[place]])[0].clone()
        region = (..., slice(top, top + height), slice(left, left + width))
        wanted[region] = partner[region]
        assert torch.equal(shown[place], wanted)
    assert order == "random" or (playback.samples(1, indices) == 1).all()


def test_what_it_weighs_beside_its_pixels(digits):
    pixels = 40 * (64 + 8 + 4)  # with classes and indices
    whole = made(digits, record={"compact": False})
    assert whole.nbytes == pixels + 40 * 3 * (27 + 4 * 3)
    compact = made(digits)
    once = 2 + 1 + 8 + 4  # order of tiles, mirror, box, weight
    assert compact.nbytes == pixels + 40 * 3 * (8 + 4 * 3) + 40 * 4 + once
    ours, theirs = (Playback.of(each)(2, torch.arange(40), 5) for each in (whole, compact))
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    mixed = made(digits, record={"views": {"mix": "cutmix"}})
    assert mixed.nbytes == pixels + 40 * 3 * (8 + 4 + 8 + 4 * 3) + 2 + 1 + 4
    faded = made(digits, record={"views": {"mix": "mixup"}})
    assert faded.nbytes == pixels + 40 * 3 * (8 + 4 + 4 + 4 * 3) + 2 + 1 + 8
    mirrored = made(replace(digits, flip_invariant=True))
    assert mirrored.nbytes == pixels + 40 * 3 * (9 + 4 * 3) + 40 * 4 + once - 1


def test_the_mean_of_several_teachers_is_of_their_probabilities(digits):
    one = made(digits, record={"members": 3, "top": 10})
    run = new_run(digits, load_method("reinforce"), load(digits, record={"members": 3}), Budget(fraction=SMALL))
    networks = [teacher_of(run, member).network for member in range(3)]
    assert len(pretrained_of(load_method("reinforce").function)(run)) == 3
    assert [teacher_of(run, member).pretrained.identity["seed"] for member in range(3)] == [0, 1, 2]
    own, images, every = recording(one), training_images(one), torch.arange(40)
    said = torch.stack([net(own.replay(images, 1, every)).double().softmax(dim=1) for net in networks]).mean(dim=0)
    torch.testing.assert_close(own.probabilities(1, every, "even").double(), said, rtol=2e-3, atol=1e-6)
    alone = networks[0](own.replay(images, 1, every)).double().softmax(dim=1)
    assert (alone - said).abs().max() > 0.01
    shown = images[:4]
    torch.testing.assert_close(
        mean_log_probabilities(networks, shown, shown.device).exp(),
        torch.stack([net(shown).softmax(dim=1) for net in networks]).mean(dim=0),
    )


def test_the_file_holds_all_and_the_strict_row_is_that_of_random(digits, reinforced, tmp_path, monkeypatch):
    reinforced.save(tmp_path / "set.safetensors")
    again = load_distilled(tmp_path / "set.safetensors")
    assert again.to_bytes() == reinforced.to_bytes() and again.card.replay == reinforced.card.replay
    assert "replay" not in made(digits, "random-soft", labels="recorded").card.model_dump(mode="json")
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 3, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)
    plain = synthesize(digits, "random", preset=TEST, fraction=SMALL)
    ours, strict, theirs = (
        evaluate(one, digits, "quick-v1", networks=2, labels=labels)
        for one, labels in ((again, "stored"), (again, "hard"), (plain, "stored"))
    )
    assert strict.accuracies == theirs.accuracies and ours.labels == "teacher"
    assert ours.accuracies != strict.accuracies


def changed(one, images=None, stored=None, **card):
    fields = one.card.model_copy(update=card)
    return DistilledSet(one.images if images is None else images, one.labels, fields, stored=stored or one.stored)


def other_crops(one, **places):
    crops = one.stored["relabel.crops"].clone()
    for place, value in places.items():
        crops[0, 0, ("top", "left", "height", "width").index(place)] = value
    return one.stored | {"relabel.crops": crops}


def without(one, name):
    return {key: tensor for key, tensor in one.stored.items() if key != name}


def part_of(one, name, part):
    return one.stored | {name: one.stored[name][part]}


def times(one, factor):
    return one.stored | {"relabel.logits": factor * one.stored["relabel.logits"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: {"images": one.images.flip(0)}, "views are of other images than the set's"),
        (lambda one: {"stored": other_crops(one, height=9)}, "regions that images of 8×8 do not have"),
        (lambda one: {"stored": other_crops(one, top=20)}, "views are of another dataset"),
        (lambda one: {"label_kind": "hard"}, "a replay goes through recorded labels, and there are none"),
        (lambda one: {"label_kind": "teacher"}, "the card must name the teacher's network"),
        (lambda one: {"temperature": 4.0}, "the temperature is 4"),
        (lambda one: {"stored": times(one, -1)}, "no logarithms of probabilities"),
        (lambda one: {"stored": times(one, 0)}, "no logarithms of probabilities"),
        (lambda one: {"stored": without(one, "relabel.logits")}, "lacks relabel.logits"),
        (lambda one: {"stored": without(one, "relabel.boxes")}, "lacks relabel.boxes"),
        (lambda one: {"stored": part_of(one, "relabel.partners", (slice(1), slice(1)))}, "partners is torch.int32"),
        (lambda one: {"stored": part_of(one, "relabel.crops", slice(2))}, "crops is torch.int16"),
    ],
)
def test_views_and_labels_that_are_not_the_sets_are_refused(reinforced, change, message):
    with pytest.raises(DataError, match=message):
        changed(reinforced, **change(reinforced))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"labels": "teacher", "record": {"members": 2}}, "labels=teacher are those of one"),
        ({"labels": "soft", "record": {"members": 2}}, "labels=soft are those of one"),
        (
            {"record": {"members": 2}, "teacher": {"weights": "torchvision:ResNet18_Weights.IMAGENET1K_V1"}},
            "is one net",
        ),
        ({"temperature": 4.0}, "temperature=4 divides logits"),
        ({"record": {"rest": "none", "members": 2}, "temperature": 4.0}, "temperature=4 divides logits"),
        ({"record": {"original": 1.0}}, "record.original"),
        ({"record": {"members": 0}}, "record.members"),
        ({"record": {"top": 11}}, "top is 11; there are 10 classes"),
    ],
)
def test_what_cannot_be_recorded_is_refused_before_any_work(digits, values, message, monkeypatch):
    monkeypatch.setattr("distill_bench.methods.decoupled.relabel.get_or_train_teacher", None)
    with pytest.raises(UsageError, match=message):
        synthesize(digits, "reinforce", preset=TEST, fraction=SMALL, **values)
