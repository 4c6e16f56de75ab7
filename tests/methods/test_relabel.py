"""Soft labels: one an image, by a stored teacher, recorded; what networks are then shown, and what it costs."""

import dataclasses

import pytest
import torch
from relabelling import RECORD, TEACHER
from torch import nn
from torch.nn import functional as F

from distill_bench import evaluate, synthesize
from distill_bench.augmentations import views
from distill_bench.augmentations.views import AugmentPolicy
from distill_bench.datasets.training_view import TrainingData
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.distilled.playback import stored_teacher
from distill_bench.distilled.recorded_labels import RecordedLabels
from distill_bench.errors import DataError, Interrupted, UsageError
from distill_bench.evaluation import PROTOCOLS, load_protocol
from distill_bench.evaluation.inputs import train_inputs
from distill_bench.evaluation.labels import mixed_batches, teacher_labelled
from distill_bench.evaluation.setup import setup_evaluation
from distill_bench.methods.decoupled.realistic_crops import CropConfig, best_crops, crop_logits, shrunk, stitched
from distill_bench.methods.decoupled.relabel import predict
from distill_bench.networks import Network
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.progress import SilentMonitor
from distill_bench.runtime.seeds import generator
from distill_bench.training.train import Plan, table_batches, train


@pytest.fixture(scope="module")
def sets(digits):
    kinds = ("hard", "soft", "teacher", "recorded")
    made = {kind: synthesize(digits, "random-soft", 2, labels=kind, record=RECORD, **TEACHER) for kind in kinds}
    top = RECORD | {"top": 3}
    return made | {"top": synthesize(digits, "random-soft", 2, labels="recorded", record=top, **TEACHER)}


def material(made, digits, protocol="quick-v1", labels="stored"):
    return train_inputs(made, setup_evaluation(digits, load_protocol(protocol), made.card.pixel_space), labels)


def test_its_images_are_those_of_random(sets, digits):
    for made in sets.values():
        assert torch.equal(made.images, synthesize(digits, "random", 2).images)


def test_what_each_kind_of_labels_weighs(sets):
    plain = sets["hard"].nbytes
    assert plain == 20 * (64 * 4 + 8)
    assert sets["soft"].nbytes == plain + 20 * 10 * 4
    teacher = stored_teacher(sets["teacher"])
    assert sets["teacher"].nbytes == plain + sum(t.numel() * t.element_size() for t in teacher.state_dict().values())
    view = 2 + 4 * 2 + 1 + 4 + 4 * 2 + 4  # order of tiles, crop, mirror, partner, box, weight
    assert sets["recorded"].nbytes == plain + 3 * 20 * (view + 10 * 2)
    assert sets["top"].nbytes == plain + 3 * 20 * (view + 3 * (2 + 2))


def test_the_file_holds_teacher_and_recording(sets, tmp_path):
    for kind, made in sets.items():
        made.save(tmp_path / "set.safetensors")
        assert load_distilled(tmp_path / "set.safetensors").to_bytes() == made.to_bytes()
        assert made.has_strict_score == (kind != "hard")
        assert made.card.teacher == ("ConvNetD1W4BN" if kind == "teacher" else None)
        assert made.card.temperature == (1.0 if kind == "hard" else 30.0)


def test_soft_labels_are_the_teachers_logits(sets):
    teacher = stored_teacher(sets["teacher"])
    assert not teacher.training
    torch.testing.assert_close(sets["soft"].soft_labels, teacher(sets["soft"].images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "use"), [("hard", "hard"), ("soft", "soft"), ("teacher", "teacher"),
                                           ("recorded", "teacher"), ("top", "teacher")])  # fmt: skip
def test_a_score_says_which_labels_and_every_set_has_a_strict_one(sets, digits, kind, use, monkeypatch):
    short = load_protocol("quick-v1").model_copy(update={"epochs": 3})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)
    score = evaluate(sets[kind], digits, "quick-v1", networks=1)
    strict = evaluate(sets[kind], digits, "quick-v1", networks=1, labels="hard")
    assert (score.labels, strict.labels, score.bytes) == (use, "hard", sets[kind].nbytes)
    assert strict.accuracies == evaluate(sets["hard"], digits, "quick-v1", networks=1).accuracies


def test_networks_learn_what_the_teacher_says(sets, digits, monkeypatch):
    """From a teacher that calls every digit the next one."""
    made = sets["teacher"]
    turned = {name: each.roll(1, 0) if "classifier" in name else each for name, each in made.stored.items()}
    monkeypatch.setitem(PROTOCOLS, "quick-v1", load_protocol("quick-v1").model_copy(update={"epochs": 60}))
    card = made.card.model_copy(update={"temperature": 1.0})
    scores = [
        evaluate(DistilledSet(made.images, made.labels, card, stored=stored), digits, "quick-v1", networks=1).accuracy
        for stored in (made.stored, turned)
    ]
    assert scores[0] > 45 and scores[1] < 15


def test_a_teacher_labels_just_what_is_shown(sets, digits):
    given, made = material(sets["teacher"], digits), sets["teacher"]
    images, wanted = given.batches(0, torch.arange(6), generator("lesson"))
    again, _ = given.batches(0, torch.arange(6), generator("lesson"))
    other, _ = given.batches(0, torch.arange(6), generator("another"))
    assert torch.equal(images, again) and not torch.equal(images, other) and not torch.equal(images, made.images[:6])
    expected = (stored_teacher(made)(images) / 30).softmax(dim=1)
    torch.testing.assert_close(wanted, expected)
    assert given.plan.temperature == 30.0 and not wanted.requires_grad


def test_a_recording_comes_round_again(sets, digits):
    given, made = material(sets["recorded"], digits), sets["recorded"]
    recording, indices = RecordedLabels.stored(made.stored, 10), torch.tensor([7, 3, 12])
    for epoch in (1, 4):
        images, wanted = given.batches(epoch, indices, generator("unused"))
        assert torch.equal(images, recording.replay(made.images, 1, indices))
        torch.testing.assert_close(wanted, (recording.logits(1, indices) / 30).softmax(dim=1))
    assert not torch.equal(images, given.batches(5, indices, generator("unused"))[0])


def test_recorded_labels_are_the_teachers_in_half_precision(sets):
    recording, teacher = RecordedLabels.stored(sets["recorded"].stored, 10), stored_teacher(sets["teacher"])
    for epoch in range(3):
        seen = recording.replay(sets["recorded"].images, epoch, torch.arange(20))
        torch.testing.assert_close(recording.logits(epoch, torch.arange(20)), teacher(seen), rtol=2e-3, atol=2e-3)


class Stops(SilentMonitor):
    stop_requested = True


@pytest.mark.parametrize(
    ("method", "fields", "message"),
    [
        ("random-soft", {"labels": "recorded", "record": RECORD}, r"\d of 3 epochs of labels recorded"),
        ("rded", {"labels": "soft"}, r"\d+ of 10 classes cut out"),
    ],
)
def test_stopped_work_goes_on_to_the_same_bytes_and_keeps_each_piece_once(digits, method, fields, message, tmp_path):
    fields = fields | TEACHER
    whole = synthesize(digits, method, 2, **fields).to_bytes()
    for _ in range(2):
        kept = Checkpoint(tmp_path / "c.safetensors")
        with pytest.raises(Interrupted, match=message):
            synthesize(digits, method, 2, monitor=Stops(), checkpoint=kept, **fields)
    first, second = (Checkpoint(path).load()["rows"] for path in sorted(tmp_path.iterdir()))
    assert [first[name].shape for name in sorted(first)] == [second[name].shape for name in sorted(second)]
    kept = Checkpoint(tmp_path / "c.safetensors", every_seconds=0.0)
    assert synthesize(digits, method, 2, checkpoint=kept, **fields).to_bytes() == whole
    kept.clear()
    assert not list(tmp_path.iterdir())


def test_a_damaged_piece_is_made_again(digits, tmp_path, caplog):
    fields, kept = {"labels": "soft", **TEACHER}, Checkpoint(tmp_path / "c.safetensors", every_seconds=0.0)
    whole = synthesize(digits, "rded", 2, checkpoint=kept, **fields).to_bytes()
    assert len(list(tmp_path.iterdir())) == 10
    (tmp_path / "c.part-crops-4.safetensors").write_bytes(b"hello")
    assert synthesize(digits, "rded", 2, checkpoint=Checkpoint(kept.path), **fields).to_bytes() == whole
    assert "cannot be read" in caplog.text


def test_the_time_of_all_parts_counts(tmp_path):
    whole = Checkpoint(tmp_path / "c.safetensors")
    whole._began -= 100.0
    whole.part("a").save({"x": torch.ones(1)})
    whole._began -= 50.0
    whole.part("b").save({"x": torch.ones(1)})
    again = Checkpoint(whole.path)
    again.part("b").load()
    again.part("a").load()
    assert 150.0 <= again.seconds < 160.0 and again.part("c").seconds == pytest.approx(again.seconds, abs=1.0)


@pytest.mark.parametrize("method", ["random-soft", "sre2l", "rded"])
@pytest.mark.parametrize(
    ("record", "message"),
    [({"top": 11}, "top is 11; there are 10 classes"), ({"views": {"tiles": 3}}, "tiles 3 does not divide 8×8")],
)
def test_labels_that_cannot_be_recorded_are_refused_before_any_work(digits, method, record, message, monkeypatch):
    monkeypatch.setattr("distill_bench.methods.decoupled.relabel.get_or_train_teacher", None)
    with pytest.raises(UsageError, match=message):
        synthesize(digits, method, 1, labels="recorded", record=record, **TEACHER)


def test_large_images_go_through_the_teacher_in_smaller_batches():
    sizes = []

    class Counts(Brightness):
        def forward(self, images):
            sizes.append(len(images))
            return super().forward(images)

    for count, side in ((501, 8), (81, 224)):
        images = torch.rand(count, 1, side, side, generator=generator("large", side))
        torch.testing.assert_close(predict(Counts(), images, images.device), Brightness()(images))
    assert sizes == [500, 1, 40, 40, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: {"stored": {}}, "the card must name the teacher's network, and its tensors be stored"),
        (lambda made: {"card": made.card.model_copy(update={"teacher": None})}, "must name the teacher's network"),
        (lambda made: {"card": made.card.model_copy(update={"label_kind": "recorded"})}, "a recording lacks"),
    ],
)
def test_a_set_without_its_teacher_or_recording_is_refused(sets, change, message):
    made = sets["teacher"]
    parts = {"card": made.card, "stored": made.stored} | change(made)
    with pytest.raises(DataError, match=message):
        DistilledSet(made.images, made.labels, parts["card"], stored=parts["stored"])


def test_a_stored_teacher_of_another_kind_is_refused(sets):
    made = sets["teacher"]
    card = made.card.model_copy(update={"teacher": "ConvNetD1W8BN"})
    with pytest.raises(DataError, match="the stored teacher is no ConvNetD1W8BN"):
        stored_teacher(DistilledSet(made.images, made.labels, card, stored=made.stored))


@pytest.mark.parametrize("soft", [False, True])
def test_targets_are_mixed_as_images_are(soft):
    images, classes = torch.rand(6, 1, 8, 8, generator=generator("mix")), torch.arange(6) % 3
    targets = torch.rand(6, 3, generator=generator("targets")).softmax(dim=1) if soft else classes
    rule, indices = AugmentPolicy(crop="none", mix="cutmix"), torch.tensor([4, 0, 3, 2])
    shown, wanted = mixed_batches(images.__getitem__, targets, 3, rule, False)(0, indices, generator("lesson", 1))
    drawn = views.sample(rule, 4, (1, 8, 8), False, generator("lesson", 1))
    plain = targets[indices] if soft else torch.eye(3)[classes[indices]]
    for i in range(4):
        covered = int(drawn.boxes[i, 2] * drawn.boxes[i, 3]) / 64
        torch.testing.assert_close(wanted[i], (1 - covered) * plain[i] + covered * plain[drawn.partners[i]])
    assert torch.equal(shown, views.shown(drawn, images[indices]))
    assert 0 < covered < 1


def test_the_loss_has_the_gradient_of_the_divergence_at_a_temperature():
    logits = torch.randn(5, 4, generator=generator("student"), dtype=torch.float64, requires_grad=True)
    wanted = (torch.randn(5, 4, generator=generator("teacher"), dtype=torch.float64) / 20).softmax(dim=1)
    divergence = F.kl_div((logits / 20).log_softmax(dim=1), wanted, reduction="batchmean")
    ours = F.cross_entropy(logits / 20, wanted)
    torch.testing.assert_close(torch.autograd.grad(divergence, logits)[0], torch.autograd.grad(ours, logits)[0])


def test_adamw_and_the_cosine_are_torchs_and_spare_biases_and_norms():
    def network():
        layers = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).double()
        with torch.no_grad():
            for number, parameter in enumerate(layers.parameters()):
                parameter.uniform_(-1, 1, generator=generator("p", number))
        return layers

    images = torch.rand(6, 1, 2, 2, generator=generator("x"), dtype=torch.float64)
    targets = torch.tensor([0, 1, 0, 1, 1, 0])
    plan = Plan(epochs=5, batch_size=6, learning_rate=0.01, weight_decay=0.1, optimizer="adamw", annealing=0.5)
    ours, theirs = network(), network()
    train(ours, table_batches(images.__getitem__, targets), 6, plan, generator("order"))
    spared = [p for p in theirs.parameters() if p.ndim == 1]
    weights = [{"params": [p for p in theirs.parameters() if p.ndim > 1], "weight_decay": 0.1}]
    optimizer = torch.optim.AdamW([*weights, {"params": spared, "weight_decay": 0.0}], lr=0.01)
    # half of a half-wave: that of twice as many epochs
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    draws = generator("order")
    for _ in range(5):
        order = torch.randperm(6, generator=draws)
        optimizer.zero_grad()
        F.cross_entropy(theirs(images[order]), targets[order]).backward()
        optimizer.step()
        schedule.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


def test_taught_without_augmentation_shows_the_images(sets, digits):
    teacher = stored_teacher(sets["teacher"])
    rows = table_batches(sets["teacher"].images.__getitem__, sets["teacher"].labels)
    batches = teacher_labelled(rows, teacher, 2.0)
    images, _ = batches(0, torch.arange(4), generator("g"))
    assert torch.equal(images, sets["teacher"].images[:4])


class Brightness(Network):
    """Two classes by the mean pixel: the brighter, the surer of class 1."""

    def __init__(self):
        super().__init__(nn.Identity(), nn.Linear(1, 2, device="meta"))

    def forward(self, images):
        level = images.mean(dim=(1, 2, 3))
        return torch.stack([-level, level], dim=1)


def test_of_every_image_the_crop_with_the_least_loss():
    pool = torch.rand(5, 1, 12, 12, generator=generator("pool"))
    fields = CropConfig(teacher={}, pool=5, crops=7, scale=(0.1, 0.6), factor=2)
    best, least, right = best_crops(Brightness(), pool, 1, fields, generator("crops"))
    draws, losses, crops = generator("crops"), [], []
    for _ in range(7):
        regions = views.sample_crops(5, 12, 12, (0.1, 0.6), draws, ratio=(1.0, 1.0))
        assert torch.equal(regions[:, 2], regions[:, 3])
        crops.append(shrunk(pool, regions, 6, 6))
        whole = torch.zeros(5, 1, 12, 12)
        whole[:, :, 3:9, 3:9] = crops[-1]
        losses.append(F.cross_entropy(Brightness()(whole), torch.ones(5, dtype=torch.long), reduction="none"))
    chosen = torch.stack(losses).argmin(dim=0)
    torch.testing.assert_close(least, torch.stack(losses).min(dim=0).values)
    torch.testing.assert_close(best, torch.stack(crops)[chosen, torch.arange(5)])
    assert len(set(chosen.tolist())) > 1
    assert torch.equal(right, best.sum(dim=(1, 2, 3)) > 0)


def test_a_crop_lies_in_the_middle_of_nothing():
    seen = []

    class Sees(Brightness):
        def forward(self, images):
            seen.append(images)
            return super().forward(images)

    crop_logits(Sees(), torch.ones(1, 1, 4, 4), (8, 8))
    assert seen[0][0, 0].nonzero().tolist() == [[r, c] for r in range(2, 6) for c in range(2, 6)]


def test_stitching_by_hand():
    crops = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 2, 2)
    images = stitched(crops, 2)
    assert images[0, 0, ::2, ::2].tolist() == [[0, 2], [4, 6]] and images[1, 0, ::2, ::2].tolist() == [[1, 3], [5, 7]]
    assert torch.equal(stitched(crops, 1), crops)


def test_rded_looks_at_no_more_images_of_a_class_than_its_pool(digits, monkeypatch):
    drawn, draw = [], TrainingData.draw
    monkeypatch.setattr(TrainingData, "draw", lambda *each: drawn.append(draw(*each)) or drawn[-1])
    synthesize(digits, "rded", 2, labels="hard", pool=7, **TEACHER)
    assert [len(images) for images in drawn] == [7] * 10


def test_rded_keeps_the_crops_the_teacher_is_surest_of(digits):
    made = synthesize(digits, "rded", 3, labels="soft", **TEACHER)
    few = synthesize(digits, "rded", 3, labels="soft", pool=3, crops=1, **TEACHER)
    sure, unsure = (F.cross_entropy(each.soft_labels, each.labels) for each in (made, few))
    assert sure < unsure


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"factor": 3}, "factor 3 does not divide 8×8"),
        ({"factor": 2, "pool": 7}, r"needs 8 of a class; it looks at 7\. "),
    ],
)
def test_rded_says_what_does_not_fit(digits, fields, message):
    with pytest.raises(UsageError, match=message):
        synthesize(digits, "rded", 2, **fields, **TEACHER)


def test_batches_of_rded_grow_with_ipc_and_classes():
    rules = load_protocol("rded-v1")
    sizes = {(ipc, classes): rules.plan(ipc * classes, classes=classes).batch_size
             for ipc in (1, 9, 10, 50, 200) for classes in (10, 100)}  # fmt: skip
    assert [sizes[ipc, 10] for ipc in (1, 9, 10, 50, 200)] == [10, 10, 50, 100, 100]
    assert [sizes[ipc, 100] for ipc in (1, 9, 10, 50, 200)] == [20, 20, 100, 200, 200]
    assert rules.for_dataset("tiny_imagenet").plan(200 * 50, classes=200).batch_size == 100


def test_the_papers_rates_at_their_ends():
    sre2l, rded = (load_protocol(name).plan(100, classes=10) for name in ("sre2l-v1", "rded-v1"))
    assert sre2l.rate(0) == rded.rate(0) == 0.001
    assert sre2l.rate(150) == pytest.approx(0.0005) and sre2l.rate(300) == pytest.approx(0)
    assert rded.rate(300) == pytest.approx(0.0005)
    assert sre2l.decay_after is None and rded.decay_after is None


@pytest.mark.parametrize("protocol", ["sre2l-v1", "rded-v1"])
@pytest.mark.parametrize("kind", ["hard", "soft", "teacher", "recorded"])
def test_the_papers_protocols_run(sets, digits, protocol, kind, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, protocol, load_protocol(protocol).model_copy(update={"epochs": 2}))
    small = dataclasses.replace(digits, flip_invariant=True)
    score = evaluate(sets[kind], small, protocol, network="ConvNetD1W4BN", networks=1)
    assert 0 <= score.accuracy <= 100
