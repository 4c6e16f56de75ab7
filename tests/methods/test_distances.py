"""Two numbers a view for a label: what they are, what they teach, what they weigh, and what cannot hold them."""

import math
from dataclasses import replace

import pytest
import torch
from relabelling import RECORD, TEACHER
from torch.nn import functional as F

from distill_bench import DistilledSet, Playback, evaluate, stored_teacher, synthesize
from distill_bench.benchmark.beside import random_beside
from distill_bench.distilled.distilled_set import load_distilled
from distill_bench.distilled.recorded_labels import RecordedLabels
from distill_bench.errors import DataError, Interrupted, UsageError
from distill_bench.evaluation import PROTOCOLS, load_protocol
from distill_bench.evaluation.inputs import train_inputs
from distill_bench.evaluation.measures import ars
from distill_bench.evaluation.scoring import train_network
from distill_bench.evaluation.setup import setup_evaluation
from distill_bench.methods.recipe import TEST
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.progress import SilentMonitor
from distill_bench.runtime.seeds import generator
from distill_bench.training.compilation import distance_loss, label_distances

WHOLE, MIXED = (RECORD | {"views": {"scale": [0.5, 1.0], "mix": mix}} for mix in ("none", "cutmix"))


def made_with(digits, labels="distances", record=MIXED, **fields):
    return synthesize(digits, "random-soft", 2, labels=labels, record=record, **TEACHER, **fields)


@pytest.fixture(scope="module")
def made(digits):
    return made_with(digits, temperature=2.0)


@pytest.fixture(scope="module")
def teacher(digits):
    return stored_teacher(made_with(digits, "teacher"))


def inputs(digits, distilled, labels="stored"):
    return train_inputs(
        distilled, setup_evaluation(digits, load_protocol("quick-v1"), distilled.card.pixel_space), labels
    )


# ---- the loss


def draws(count=5, classes=4):
    numbers = generator("distances", classes)
    z, t = (3 * torch.randn(count, classes, generator=numbers, dtype=torch.float64) for _ in range(2))
    pairs = torch.stack([torch.arange(count) % classes, (torch.arange(count) + 1) % classes], dim=1)
    return z.requires_grad_(), t, pairs, torch.rand(count, generator=numbers, dtype=torch.float64)


def targets(pairs, shares, distances):
    return torch.stack([pairs.double(), torch.stack([shares, 1 - shares], dim=1), distances], dim=2)


def test_the_slope_of_a_distance_is_the_prediction_less_the_class():
    z, _, pairs, _ = draws()
    for place in range(2):
        (found,) = torch.autograd.grad(label_distances(z, pairs)[:, place].sum(), z)
        wanted = z.softmax(dim=1) - F.one_hot(pairs[:, place], 4)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 1.0), (4.0, 0.3)])
def test_the_loss_and_its_slope_are_those_written_out_image_by_image(temperature, weight):
    z, t, pairs, shares = draws()
    stored = label_distances(t / temperature, pairs)
    found = distance_loss(lambda images: images, z, targets(pairs, shares, stored), temperature, weight)
    total, slope = 0.0, torch.zeros_like(z)
    for i in range(len(z)):
        p, cool = (each / sum(each) for each in ((z[i]).exp().detach(), (z[i] / temperature).exp().detach()))
        for place, share in enumerate((float(shares[i]), 1 - float(shares[i]))):
            label = int(pairs[i, place])
            own, theirs = -math.log(cool[label]), float(stored[i, place])
            total += share * -math.log(p[label]) + weight * abs(own - theirs)
            one = F.one_hot(torch.tensor(label), 4)
            sign = math.copysign(1.0, own - theirs)
            slope[i] += share * (p - one) + weight * sign * (cool - one) / temperature
    torch.testing.assert_close(float(found.detach()), total / len(z))
    torch.testing.assert_close(torch.autograd.grad(found, z)[0], slope / len(z))


@pytest.mark.parametrize("classes", [2, 4])
def test_two_distances_agree_where_the_two_probabilities_do_which_is_the_whole_of_two_classes(classes):
    z, t, pairs, _ = draws(classes=classes)

    def apart(z):  # nothing but the distances' term
        wanted = torch.stack([pairs.double(), torch.zeros(5, 2), label_distances(t, pairs)], dim=2)
        return float(distance_loss(lambda images: images, z, wanted, 1.0, 1.0).detach())

    p = t.softmax(dim=1)
    assert apart(t) == 0 == pytest.approx(apart(t + 7), abs=1e-12) and apart(z) > 0.1
    others = torch.ones_like(p).scatter(1, pairs, 0.0)
    moved = torch.where(others > 0, (p * others).sum(dim=1, keepdim=True) / max(classes - 2, 1), p)
    assert apart(moved.log()) == pytest.approx(0, abs=1e-12)  # the rest may lie anywhere
    assert torch.allclose(moved, p) == (classes == 2)


# ---- what is recorded


@pytest.mark.parametrize("record", [WHOLE, MIXED], ids=["whole", "mixed"])
def test_recorded_distances_are_those_of_the_replayed_views_in_half_precision(digits, teacher, record):
    made = made_with(digits, record=record, temperature=2.0)
    recording, rows = RecordedLabels.stored(made.stored, 10), torch.arange(20)
    for epoch in range(3):
        p = (teacher(recording.replay(made.images, epoch, rows)) / 2.0).softmax(dim=1)
        found, partners = recording.distances(epoch, rows), recording.views(epoch, rows).partners
        for i in range(20):
            for place, label in enumerate((made.labels[i], made.labels[partners[i]])):
                assert found[i, place] == pytest.approx(float(-p[i, label].log()), rel=2e-3, abs=2e-3)
        assert bool((found[:, 0] == found[:, 1]).all()) == (record == WHOLE)
    assert made.stored["relabel.distances"].dtype == torch.float16
    logits = made_with(digits, "recorded", record, temperature=2.0)  # of the same views
    assert all(torch.equal(made.stored[name], logits.stored[name]) for name in made.stored if "dist" not in name)


def test_a_distance_is_bounded(digits, monkeypatch):
    sure = torch.full((20, 10), -100.0)
    sure[:, 3] = 100.0
    monkeypatch.setattr(
        "distill_bench.methods.decoupled.relabel.predict", lambda network, shown, device: sure[: len(shown)]
    )
    assert made_with(digits, temperature=1.0).stored["relabel.distances"].unique().tolist() == [0, 30]
    assert made_with(digits, temperature=8.0).stored["relabel.distances"].max() == 25


def test_what_they_weigh_whatever_the_classes(digits, made):
    view = 2 + 4 * 2 + 1 + 4 + 4 * 2 + 4  # order of tiles, crop, mirror, partner, box, weight
    assert made.nbytes == 20 * (64 * 4 + 8) + 3 * 20 * (view + 2 * 2)
    assert made_with(digits, "recorded", MIXED | {"top": 2}).nbytes - made.nbytes == 3 * 20 * 4


class Stops(SilentMonitor):
    stop_requested = True


def test_a_stopped_recording_goes_on_to_the_same_bytes(digits, made, tmp_path):
    for _ in range(2):
        with pytest.raises(Interrupted, match="of 3 epochs of labels recorded"):
            synthesize(digits, "random-soft", 2, labels="distances", record=MIXED, temperature=2.0, **TEACHER,
                       monitor=Stops(), checkpoint=Checkpoint(tmp_path / "c.safetensors"))  # fmt: skip
    kept = Checkpoint(tmp_path / "c.safetensors")
    assert made_with(digits, temperature=2.0, checkpoint=kept).to_bytes() == made.to_bytes()


# ---- what networks are trained on


def test_networks_are_given_the_views_their_two_classes_shares_and_distances(digits, made):
    given, recording = inputs(digits, made), RecordedLabels.stored(made.stored, 10)
    indices = torch.tensor([7, 3, 12, 19])
    for epoch in (1, 4):  # after the third the first comes again
        images, wanted = given.batches(epoch, indices, generator("unused"))
        assert torch.equal(images, recording.replay(made.images, 1, indices))
        for row, index in enumerate(indices):
            partner = int(made.stored["relabel.partners"][1, index])
            box = made.stored["relabel.boxes"][1, index].tolist()
            share = 1 - box[2] * box[3] / 64
            stored = made.stored["relabel.distances"][1, index].tolist()
            expected = [[made.labels[index], share, stored[0]], [made.labels[partner], 1 - share, stored[1]]]
            torch.testing.assert_close(wanted[row], torch.tensor(expected))
    assert 0 < share < 1 and given.labels == "teacher"
    assert (given.plan.temperature, given.plan.distance_weight, given.plan.alpha) == (2.0, 1.0, 1.0)
    assert inputs(digits, made, "hard").plan.distance_weight == 0


def test_a_score_has_its_strict_one_beside_it_and_the_weight_changes_what_is_learned(digits, made, monkeypatch):
    short = {"epochs": 3, "network": "ConvNetD1W4"}
    monkeypatch.setitem(PROTOCOLS, "quick-v1", load_protocol("quick-v1").model_copy(update=short))
    score, strict = (evaluate(made, digits, "quick-v1", networks=1, labels=use) for use in ("stored", "hard"))
    hard = evaluate(made_with(digits, "hard"), digits, "quick-v1", networks=1)
    assert (score.labels, strict.labels, strict.strict, score.bytes) == ("teacher", "hard", True, made.nbytes)
    assert strict.accuracies == hard.accuracies
    exam, weights = setup_evaluation(digits, load_protocol("quick-v1"), made.card.pixel_space), []
    for weight in (0.1, 1.0, 3.0):
        one = DistilledSet(made.images, made.labels, weighing(made.card, weight), stored=made.stored)
        weights.append(next(train_network(exam, 0, train_inputs(one, exam, "stored"), lambda: None).parameters()))
    assert not any(torch.equal(weights[i], weights[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def weighing(card, weight):
    return card.model_copy(update={"distance_weight": weight})


def test_training_brings_a_network_nearer_to_the_distances(digits, made, monkeypatch):
    short = {"epochs": 15, "network": "ConvNetD1W4", "batch_size": 10}
    monkeypatch.setitem(PROTOCOLS, "quick-v1", load_protocol("quick-v1").model_copy(update=short))
    exam = setup_evaluation(digits, load_protocol("quick-v1"), made.card.pixel_space)
    given = train_inputs(made, exam, "stored")
    off = []
    for weight in (1e-6, 10.0):
        inputs_of = replace(given, plan=replace(given.plan, distance_weight=weight))
        network = train_network(exam, 0, inputs_of, lambda: None).eval()
        with torch.no_grad():
            parts = [given.batches(epoch, torch.arange(20), generator("unused")) for epoch in range(3)]
            apart = [(label_distances(network(x) / 2, t[..., 0].long()) - t[..., 2]).abs().mean() for x, t in parts]
        off.append(float(torch.stack(apart).mean()))
    assert off[1] < 0.8 * off[0]


# ---- on the card, in the file, and where they cannot be


def test_the_file_holds_them_and_cards_without_them_are_what_they_were(digits, made, tmp_path):
    heavy = made_with(digits, distance_weight=0.25)
    assert (heavy.card.label_kind, heavy.card.distance_weight) == ("distances", 0.25)
    for one in (made, heavy):
        one.save(tmp_path / "set.safetensors")
        assert load_distilled(tmp_path / "set.safetensors").to_bytes() == one.to_bytes()
    said = made.card.model_dump(mode="json")
    assert "distance_weight" not in said and "distance_weight" not in said["recipe"]
    assert heavy.card.model_dump(mode="json")["distance_weight"] == 0.25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_kind": "recorded"}, r"label_kind is 'recorded'; the recording has relabel\.distances"),
        ({"alpha": 0.5}, r"alpha is 0\.5, and label_kind 'distances'"),
        ({"relabel.distances": lambda d: d[:, :, :1]}, r"\.distances is .*\(3, 20, 1\); it should be .*\(3, 20, 2\)"),
        ({"relabel.distances": lambda d: d - 40}, r"relabel\.distances has values that no recording has"),
        ({"relabel.distances": lambda d: d + 31}, r"relabel\.distances has values that no recording has"),
        ({"relabel.distances": lambda d: d * math.nan}, r"relabel\.distances has values that no recording has"),
        ({"relabel.classes": lambda d: d.to(torch.int16)}, r"relabel\.classes is .*; it should be no such tensor"),
        ({"relabel.logits": lambda d: d}, r"relabel\.logits is .*; it should be no such tensor"),
        ({"relabel.distances": None}, r"a recording lacks relabel\.logits"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(made, change, message):
    stored, fields = dict(made.stored), {}
    for name, how in change.items():
        if not name.startswith("relabel."):
            fields[name] = how
        elif how is None:
            del stored[name]
        else:
            stored[name] = how(stored["relabel.distances"])
    with pytest.raises(DataError, match=message):
        DistilledSet(made.images, made.labels, made.card.model_copy(update=fields), stored=stored)


def test_logits_are_not_taken_for_distances(digits):
    made = made_with(digits, "recorded")
    card = made.card.model_copy(update={"label_kind": "distances"})
    with pytest.raises(DataError, match=r"label_kind is 'distances'; the recording has relabel\.logits"):
        DistilledSet(made.images, made.labels, card, stored=made.stored)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": 0.5}, "weigh them by `distance_weight`"),
        ({"record": {"top": 2}}, r"record\.top is 2; of distances there are two a view"),
        ({"labels": "recorded", "distance_weight": 2.0}, "`distance_weight=2` weighs distances, and labels are"),
        ({"record": {"views": {"tiles": 3}}}, "tiles 3 does not divide 8×8"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_made_are_refused_before_any_work(digits, fields, message, monkeypatch):
    monkeypatch.setattr("distill_bench.methods.decoupled.relabel.get_or_train_teacher", None)
    with pytest.raises(UsageError, match=message):
        synthesize(digits, "random-soft", 1, **{"labels": "distances", **TEACHER, **fields})


def test_they_neither_play_back_nor_make_a_table_nor_are_had_without_their_views(digits, made):
    for refused in (lambda: Playback.of(made), made.to_dataset):
        with pytest.raises(UsageError, match="a loss of their own: `evaluate` does"):
            refused()
    with pytest.raises(UsageError, match=r"labels are recorded.*`labels=hard`"):
        ars(made, made, digits, "quick-v1")


def test_random_images_beside_them_have_the_same_kind_weighed_alike(digits):
    made = synthesize(digits, "rded", 1, TEST, labels="distances", distance_weight=0.5, record=MIXED)
    beside = random_beside(made, digits)
    assert beside.card.label_kind == "distances" and beside.card.distance_weight == 0.5
    assert beside.stored["relabel.distances"].shape == made.stored["relabel.distances"].shape


def test_the_lines_beside_them_have_their_kinds(digits):
    two, top = (synthesize(digits, name, 1, TEST) for name in ("random-distances", "random-top2"))
    assert (two.card.label_kind, two.card.temperature, top.card.label_kind) == ("distances", 1.0, "recorded")
    assert top.stored["relabel.logits"].shape == two.stored["relabel.distances"].shape == (3, 10, 2)
    assert torch.equal(two.images, synthesize(digits, "random", 1).images) and torch.equal(two.images, top.images)
