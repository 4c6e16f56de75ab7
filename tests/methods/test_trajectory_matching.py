"""Trajectory matching: its schedule, batches, starts and labels, and whole iterations against ``higher``'s gradient."""

import importlib
import runpy
from pathlib import Path

import pytest
import torch

from distill_bench import RunFailed, UsageError, synthesize
from distill_bench.augmentations import dsa
from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.datasets.training_view import TrainingData
from distill_bench.distilled.budget import Budget
from distill_bench.methods import Checkpoint, Run, load_method
from distill_bench.methods.trajectory_matching.start import averaged_logits, correct_images
from distill_bench.networks import build_network
from distill_bench.runtime.progress import SILENT
from distill_bench.runtime.seeds import generator

START = importlib.import_module("distill_bench.methods.trajectory_matching.start")
TM = importlib.import_module("distill_bench.methods.trajectory_matching.trajectory_matching")
ORACLE = runpy.run_path(str(Path(__file__).parents[2] / "baselines" / "mtt_unrolled.py"))["unrolled_gradient"]

QUICK = {
    "network": "ConvNetD1W4",
    "experts": 2,
    "expert": {"epochs": 4, "batch_size": 64, "learning_rate": 0.1, "momentum": 0.9},
    "iterations": 3,
    "student_steps": 3,
    "student_batch": 0,
    "student_lr": 0.05,
    "segment": [0, 2, 2],
    "segment_epochs": 2,
    "image_lr": 1.0,
    "rate_lr": 1e-4,
}


def run_of(source, method="mtt", ipc=1, seed=0, **fields):
    resolved = load_method(method).config(source.name, ipc, **QUICK | fields)
    place = torch.device("cpu")
    training = TrainingData(source, pixel_space_of(source, "normalized"), place)
    return Run(method, training, Budget(ipc), resolved, seed, place, SILENT, Checkpoint())


def objective_of(source, method="mtt", ipc=1, **fields):
    job = run_of(source, method, ipc, **fields)
    return TM.TrajectoryMatching(job, TM.experts_of(job))


# ---- segments


@pytest.mark.parametrize(("segment", "growth"), [((0, 10, 20), 1000), ((0, 30, 50), 2000), ((0, 15, 20), 2000)])
def test_the_latest_start_grows_linearly_and_stays(segment, growth):
    _, first, last = segment
    expected = [min(first + int((last - first) * step / growth), last) for step in range(3 * growth)]
    assert [TM.latest_start(segment, growth, step) for step in range(3 * growth)] == expected
    assert expected[0] == first and expected[growth - 1] == last - 1 and expected[growth] == expected[-1] == last


def test_segments_start_anywhere_in_the_schedule_and_experts_take_turns(digits):
    objective = objective_of(digits, segment=[1, 2, 3], segment_growth=40, segment_epochs=1, experts=3)
    experts = objective._experts
    known = {
        tuple(experts.snapshot(expert, epoch)[:4].tolist()): (expert, epoch)
        for expert in range(3)
        for epoch in range(5)
    }
    found = []
    for step in range(90):
        _, *ends = objective._segment(step)
        start, target = (known[tuple(end[:4].tolist())] for end in (ends[0], ends[-1]))
        assert target == (start[0], start[1] + 1)
        found.append(start)
    assert {epoch for _, epoch in found[:40]} == {1}  # U is 2 until step 39
    assert {epoch for _, epoch in found[40:]} == {1, 2}
    for turn in range(0, 90, 3):
        assert {expert for expert, _ in found[turn : turn + 3]} == {0, 1, 2}
    assert len({tuple(expert for expert, _ in found[turn : turn + 3]) for turn in range(0, 90, 3)}) > 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"segment": [2, 2, 3]}, "needs T⁻ < T ≤ T⁺"),
        ({"segment": [0, 3, 2]}, "needs T⁻ < T ≤ T⁺"),
        ({"segment": [0, 3, 4]}, "start before epoch 4 and have 2 epochs; experts have 4"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"gradient": "other"}, "gradient"),
        ({"labels": "learned"}, "labels = learned needs label_lr > 0"),
        ({"label_lr": 0.5}, "label_lr go with learned labels; here labels are hard. Set labels=learned as well"),
        (
            {"label_lr": 0.5, "label_momentum": 0.5, "labels": "teacher"},
            "label_lr and label_momentum go .* are teacher",
        ),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        load_method("mtt").config("digits", 1, **QUICK | fields)


def test_rates_of_labels_that_a_recipe_has_by_itself_are_no_trouble():
    """And as little where a whole recipe is given again, as pages of commands do."""
    hard = load_method("datm").config("digits", 1, "cpu", labels="hard")
    assert hard.label_lr > 0
    assert load_method("datm").config("digits", 1, "cpu", **hard.model_dump(exclude={"zca_eps", "zca_input"})) == hard
    assert load_method("mtt").config("digits", 1, **QUICK | {"labels": "learned", "label_lr": 0.5}).label_lr == 0.5


def test_how_experts_are_trained_is_on_the_card_where_they_are_and_not_of_imported_ones():
    own = load_method("mtt").config("digits", 1, **QUICK)
    imported = load_method("mtt").config("digits", 1, **QUICK | {"experts_from": "abc"})
    assert {"experts", "expert"} <= own.model_dump().keys()
    assert own.model_dump().keys() - imported.model_dump().keys() == {"experts", "expert"}
    more = load_method("mtt").config("digits", 1, **QUICK | {"experts_from": "abc", "experts": 3})
    assert more.model_dump() == imported.model_dump()


# ---- batches


def test_batches_are_permutations_of_the_set_with_the_short_remainder_first(digits):
    objective = objective_of(digits, student_batch=4, student_steps=7, augment="none")
    numbers = torch.arange(10.0).view(10, 1, 1, 1).expand(10, 1, 8, 8)
    made = [batch(numbers, torch.arange(10)) for batch in objective._batches(generator("draws"))]
    assert [len(labels) for _, labels in made] == [2, 4, 4, 2, 4, 4, 2]
    rounds = [torch.cat([labels for _, labels in made[i : i + 3]]).tolist() for i in (0, 3)]
    assert all(sorted(order) == list(range(10)) for order in rounds) and rounds[0] != rounds[1]
    for images, labels in made:
        assert torch.equal(images[:, 0, 0, 0], labels.float())


def test_with_the_flip_a_batch_is_half_as_large_and_followed_by_its_mirror_images(digits):
    objective = objective_of(digits, flip=True, flip_any_source=True, student_batch=4, student_steps=5, augment="none")
    images = torch.randn(10, 1, 8, 8, generator=generator("images"))
    made = [batch(images, torch.arange(10)) for batch in objective._batches(generator("draws"))]
    assert [len(labels) for _, labels in made] == [4] * 5
    assert sorted(torch.cat([labels[:2] for _, labels in made]).tolist()) == list(range(10))
    for batch, labels in made:
        assert torch.equal(labels[:2], labels[2:])
        assert torch.equal(batch, torch.cat([images[labels[:2]], images[labels[:2]].flip(3)]))


def test_a_batch_larger_than_the_set_is_the_set_and_halved_with_the_flip(digits):
    for flip in (False, True):
        objective = objective_of(digits, flip=flip, flip_any_source=flip, student_batch=50, augment="none")
        made = [batch(objective._images, torch.arange(10)) for batch in objective._batches(generator("draws"))]
        assert [len(labels) for _, labels in made] == [10, 10, 10]


@pytest.mark.parametrize("always_flip", [False, True])
def test_images_are_mirrored_before_they_are_augmented_each_by_its_own_draw(digits, always_flip):
    fields = {"flip": True, "flip_any_source": True, "student_batch": 4, "student_steps": 8, "always_flip": always_flip}
    objective, draws = objective_of(digits, **fields), generator("draws")
    images, numbers = torch.randn(10, 1, 8, 8, generator=generator("images")), torch.arange(10)
    made = [batch(images, numbers) for batch in objective._batches(generator("draws"))]
    pending: list[torch.Tensor] = []
    for augmented, labels in made:
        pending = pending or list(torch.randperm(10, generator=draws).split(2))
        indices = pending.pop()
        drawn = dsa.sample(dsa.usual_operations(False), 4, (1, 8, 8), draws, always_flip)
        assert (drawn.mirrored is not None) == always_flip
        assert torch.equal(labels, torch.cat([indices, indices]))
        doubled = torch.cat([images[indices], images[indices].flip(3)])
        assert torch.equal(augmented, dsa.apply(drawn, doubled))


@pytest.mark.parametrize("method", ["mtt", "tesla", "ftd", "datm", "datm-tesla"])
def test_images_and_their_mirrors_have_the_same_loss_and_mirrored_gradients(digits, method):
    # a teacher's labels would be those of the images on one side
    fields = {"labels": "hard"} if method == "tesla" else {}
    objective = objective_of(
        digits, method, flip=True, flip_any_source=True, augment="none", student_batch=4, loss_gate=0.0, **fields
    )
    loss, gradients = objective.loss_and_grads(0)
    objective._images = objective._images.flip(3)
    mirrored_loss, mirrored = objective.loss_and_grads(0)
    assert float(mirrored_loss) == pytest.approx(float(loss), rel=1e-5)
    scale = gradients["images"].abs().max()
    torch.testing.assert_close(mirrored["images"] / scale, gradients["images"].flip(3) / scale, rtol=0, atol=2e-3)


def test_augmentation_is_drawn_anew_for_each_step_and_the_same_when_asked_again(digits):
    objective = objective_of(digits, student_steps=8)
    images = objective._images
    batches = objective._batches(generator("draws"))
    first, again = ([batch(images, torch.arange(10))[0] for batch in batches] for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert len({float(batch.sum()) for batch in first}) > 4


# ---- whole iterations, against higher's gradient and SGD written out


@pytest.mark.parametrize("labels", ["hard", "learned"])
def test_two_iterations_are_sgd_with_momentum_on_the_unrolled_gradient(digits, labels):
    fields = {"labels": labels, "iterations": 2, "student_batch": 4, "image_gradient_scale": 0.5}
    fields |= {"label_lr": 0.5} if labels == "learned" else {}
    job, begun = run_of(digits, **fields), objective_of(digits, **fields)
    images, given, rate = begun._images.clone(), begun._labels.clone(), begun._rate.clone()
    names = ["images", "labels", "learning_rate"] if labels == "learned" else ["images", "learning_rate"]
    values = dict(zip(names, [images, given, rate] if labels == "learned" else [images, rate], strict=True))
    speeds = {"images": (1.0, 0.5), "labels": (0.5, 0.9), "learning_rate": (1e-4, 0.5)}
    velocity = {name: torch.zeros_like(value) for name, value in values.items()}
    for step in range(2):
        network = build_network("ConvNetD1W4", (1, 8, 8), 10, generator("any"))
        batches = begun._batches(job.generator("student", step))
        y = values.get("labels", given)
        _, found = ORACLE(network, *begun._segment(step)[1::2], values["images"], y, values["learning_rate"], batches)
        for name, gradient in zip(names, found, strict=True):
            lr, momentum = speeds[name]
            velocity[name] = momentum * velocity[name] + gradient * (0.5 if name == "images" else 1.0)
            values[name] = values[name] - lr * velocity[name]
    made = TM.trajectory_matching(job)
    torch.testing.assert_close(made.images, values["images"], rtol=1e-3, atol=1e-5)
    assert not torch.allclose(made.images, images, atol=1e-4)
    assert made.learning_rate == pytest.approx(float(values["learning_rate"]), rel=1e-4)
    assert made.learning_rate != pytest.approx(0.05, rel=1e-6)
    if labels == "learned":
        torch.testing.assert_close(made.soft_labels, values["labels"], rtol=1e-3, atol=1e-5)
        assert made.label_kind == "logits"


def test_teacher_labels_are_the_last_targets_logits_of_the_images_before_their_last_update(digits):
    fields = {"labels": "teacher", "iterations": 1}
    begun, made = objective_of(digits, "tesla", **fields), TM.trajectory_matching(run_of(digits, "tesla", **fields))
    network = build_network("ConvNetD1W4", (1, 8, 8), 10, generator("any"))
    torch.nn.utils.vector_to_parameters(begun._segment(0)[-1], network.parameters())
    torch.testing.assert_close(made.soft_labels, network(begun._images).detach())
    assert made.label_kind == "logits"
    assert not torch.equal(made.images, begun._images)


def test_the_average_of_the_images_is_what_the_recursion_says(digits):
    seen = []
    fields = {"ema_decay": 0.7, "iterations": 4}
    average = objective_of(digits, "ftd", **fields)._images.clone()
    for count in range(1, 5):
        plain = TM.trajectory_matching(run_of(digits, "ftd", **fields | {"ema_decay": 0.0, "iterations": count}))
        average = 0.7 * average + 0.3 * plain.images
        seen.append(plain.images)
    made = TM.trajectory_matching(run_of(digits, "ftd", **fields))
    torch.testing.assert_close(made.images, average)
    assert not torch.allclose(made.images, seen[-1])


# ---- the gate and the learned rate


def test_an_iteration_above_the_gate_changes_nothing(digits):
    losses = []
    synthesize(digits, "mtt", 1, history=losses, **QUICK)
    gate = (min(losses) + max(losses)) / 2
    gated = objective_of(digits, loss_gate=gate)
    for step in range(3):
        loss, gradients = gated.loss_and_grads(step)
        assert bool(gradients) == (loss <= gate)
    assert {loss <= gate for loss in losses} == {True, False}


def test_a_gate_that_never_opens_is_a_failure(digits):
    with pytest.raises(RunFailed, match=r"the lowest loss of 3 iterations was .*, above loss_gate = 1e-06"):
        synthesize(digits, "mtt", 1, **QUICK | {"loss_gate": 1e-6})


def test_a_learned_rate_below_zero_is_a_failure_that_says_so(digits):
    with pytest.raises(
        RunFailed, match=r"failed at step \d of 3: the student's learned learning rate has become -"
    ) as failed:
        synthesize(digits, "mtt", 1, **QUICK | {"rate_lr": 10.0})
    assert str(failed.value).count("student_lr") == 1  # where to start it higher; nothing says to lower it


def test_whether_the_student_was_compiled_is_known_afterwards(digits, monkeypatch):
    kept = Checkpoint()
    assert kept.compiled is None
    monkeypatch.setattr(TM.compilation, "decide", lambda *_: False)
    synthesize(digits, "mtt", 1, checkpoint=kept, **QUICK)
    assert kept.compiled is False


# ---- where DATM starts


def fake_logits(right):
    """Experts whose logits are one-hot, times expert + 2; image i is right where ``right`` says."""

    def logits_of(expert, numbers):
        label = numbers % 3
        decided = torch.where(right[expert][numbers], label, (label + 1) % 3)
        return torch.nn.functional.one_hot(decided, 3).float() * (expert + 2)

    return logits_of


class Numbered(TrainingData):
    """Thirty images of class number % 3."""

    def __init__(self):
        self.class_names = ("a", "b", "c")
        self.class_indices = [torch.arange(label, 30, 3) for label in range(3)]


def chosen_numbers(right, count, draws="a"):
    """The numbers of the images of class 1 that are chosen."""
    return correct_images(Numbered(), fake_logits(right), len(right), 1, count, generator(draws)).tolist()


def test_images_are_those_an_expert_gets_right_and_the_next_fills_up():
    right = torch.zeros(3, 30, dtype=torch.bool)
    right[0, [1, 4, 7]] = right[1, [4, 10]] = right[2, [13, 16]] = True
    two = chosen_numbers(right, 2)
    assert len(set(two)) == 2 and set(two) <= {1, 4, 7}
    assert set(chosen_numbers(right, 3)) == {1, 4, 7}
    assert set(chosen_numbers(right, 4)) == {1, 4, 7, 10}
    assert len({tuple(chosen_numbers(right, 2, draws)) for draws in range(9)}) > 1
    with pytest.raises(RunFailed, match=r"3 experts classify 6 images of class 'b' correctly; 7 are needed"):
        chosen_numbers(right, 7)


def test_labels_are_averaged_over_the_experts_that_are_right():
    right = torch.rand(5, 30, generator=generator("right")) < 0.5
    right[2] = True
    logits_of, images, labels = fake_logits(right), torch.arange(30), torch.arange(30) % 3
    expected = []
    for number in range(30):
        rows = [logits_of(e, images[number : number + 1])[0] for e in range(5) if right[e, number]]
        expected.append(sum(rows) / len(rows))
    torch.testing.assert_close(averaged_logits(logits_of, 5, images, labels), torch.stack(expected))


def test_with_batch_norm_experts_judge_images_among_those_of_all_classes(digits, monkeypatch):
    """Whatever images are asked about: snapshots hold no running statistics, and a class alone is no usual batch."""
    given = []
    monkeypatch.setattr(START, "correct_images", lambda *told: given.append(told) or correct_images(*told))
    begun = objective_of(digits, "datm", ipc=2, network="ConvNetD1W4BN")
    training, logits_of, *_ = given[0]
    alone = torch.cat([logits_of(0, indices) for indices in training.class_indices])
    order = torch.randperm(len(training), generator=generator("order"))
    mixed = torch.cat([logits_of(0, some) for some in order.split(100)])[order.argsort()]
    assert torch.equal(alone, mixed[torch.cat(list(training.class_indices))])
    assert torch.equal(begun._labels.argmax(1), torch.arange(10).repeat_interleave(2))
    expert = build_network("ConvNetD1W4BN", (1, 8, 8), 10, generator("any")).train()
    torch.nn.utils.vector_to_parameters(begun._experts.snapshot(0, -1), expert.parameters())
    agree = expert(training.images(order[:256])).argmax(1) == mixed[order[:256]].argmax(1)
    assert agree.float().mean() > 0.95  # in another batch of all classes


@pytest.mark.parametrize("fields", [{"labels": "teacher"}, {"init": "real", "labels": "learned", "label_lr": 1.0}])
def test_with_batch_norm_labels_of_a_set_in_class_order_are_those_of_batches_of_all_classes(
    digits, monkeypatch, fields
):
    """A set of more images than a batch has: of the first 256 rows none are of the last class."""
    shown, logits = [], TM.Student.logits

    def noted(student, parameters, images):
        found = logits(student, parameters, images)
        shown.append((images, found))
        return found

    monkeypatch.setattr(TM.Student, "logits", noted)
    begun = objective_of(digits, "mtt", ipc=30, network="ConvNetD1W4BN", student_batch=50, **fields)
    begun.loss_and_grads(0)
    assert [len(images) for images, _ in shown[:2]] == [150, 150]
    rows = [(images[:, None] == begun._images).flatten(2).all(dim=2).int().argmax(dim=1) for images, _ in shown[:2]]
    assert all((row // 30).bincount(minlength=10).min() > 3 for row in rows)
    assert torch.equal(torch.cat(rows).sort().values, torch.arange(300))
    for row, (_, found) in zip(rows, shown, strict=False):
        assert torch.equal(begun._labels[row], found)


@pytest.mark.parametrize(("network", "count"), [("ConvNetD1W4", 300), ("ConvNetD1W4BN", 256)])
def test_without_batch_norm_or_in_one_batch_logits_are_those_of_images_in_order(digits, network, count):
    begun, images = objective_of(digits, network=network), torch.randn(count, 1, 8, 8, generator=generator("images"))
    target = begun._experts.snapshot(0, -1)
    in_order = torch.cat([begun._student.logits(target, some) for some in images.split(256)])
    assert torch.equal(START.logits_at(begun._run_of, begun._student, target, images), in_order)


def test_datm_starts_from_images_and_labels_that_agree(digits):
    begun = objective_of(digits, "datm", ipc=2)
    assert begun._labels.shape == (20, 10)
    assert torch.equal(begun._labels.argmax(1), torch.arange(10).repeat_interleave(2))


# ---- AST


def test_the_balance_is_that_of_the_released_code():
    """T = 20: a jump of 1.77 at h = 10."""
    found = [TM.balance(epoch, 20) for epoch in (0, 9, 10, 19)]
    assert found == pytest.approx([0.557, 0.732, 1.292, 1.760], abs=5e-4)


def test_perturbation_moves_convolutions_by_a_known_length_and_nothing_else():
    shapes = [(4, 3, 3, 3), (4,), (10, 64), (10,)]
    sizes = [108, 4, 640, 10]
    signs = torch.randn(sum(sizes), generator=generator("signs")).sign()
    moved = START.perturbed(0.3 * signs, shapes, 2.0, generator("noise"))
    first, *rest = moved.split(sizes)
    assert float((first - 0.3 * signs[:108]).norm() / (0.3 * signs[:108]).norm()) == pytest.approx(2 / 108**0.5)
    assert torch.equal(torch.cat(rest), 0.3 * signs[108:])
    assert torch.equal(START.perturbed(signs, shapes, 0.0, generator("noise")), signs)


def test_a_segment_has_its_waypoints_where_the_expert_was(digits):
    fields = {"segment_epochs": 3, "segment": [0, 1, 1], "student_steps": 7}
    for waypoints, weights in (("none", []), ("equal", [1.0, 1.0]), ("rising", [1 / 3, 2 / 3])):
        objective = objective_of(digits, waypoints=waypoints, **fields)
        epoch, start, between, target = objective._segment(0)
        assert epoch == 0 and [point.after for point in between] == [2, 4][: len(weights)]
        assert [point.weight for point in between] == pytest.approx(weights)
        experts = objective._experts
        which = next(k for k in range(2) if torch.equal(experts.snapshot(k, 0), start))
        for k, point in enumerate(between, 1):
            assert torch.equal(point.target, experts.snapshot(which, k))
        assert torch.equal(target, experts.snapshot(which, 3))


def test_a_perturbed_start_is_in_every_distance(digits, monkeypatch):
    """The student starts beside the expert, and what is divided by is its own way."""
    objective = objective_of(digits, perturbation=1.0, waypoints="equal")
    seen = {}

    def watched(student, start, target, *rest, **options):
        seen.update(start=start, target=target, **options)
        return TM_GRADIENT(student, start, target, *rest, **options)

    monkeypatch.setattr(TM, "trajectory_gradient", watched)
    loss, _ = objective.loss_and_grads(0)
    plain = objective_of(digits)._segment(0)[1]
    shift = seen["start"] - plain
    assert 0 < float(shift.norm() / plain.norm()) < 0.2 and (shift != 0).sum() <= 4 * 9
    assert len(seen["waypoints"]) == 1 and loss > 0


TM_GRADIENT = TM.trajectory_gradient


def test_representative_images_are_distinct_real_ones_of_their_class_and_exist_at_ipc_1(digits):
    for ipc in (1, 4):
        objective = objective_of(digits, init="representative", ipc=ipc)
        images = objective.result().images
        training = objective._run_of.training
        for label in range(10):
            own = training.images(training.class_indices[label])
            chosen = images[label * ipc : (label + 1) * ipc]
            places = {int((own == image).flatten(1).all(dim=1).nonzero()[0]) for image in chosen}
            assert len(places) == ipc


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gradient": "tesla", "student_momentum": 0.9}, "TESLA's gradient is not defined"),
        ({"gradient": "tesla", "waypoints": "equal"}, "TESLA's gradient is not defined"),
        ({"waypoints": "equal", "segment_epochs": 1}, "there are none"),
        ({"waypoints": "rising", "segment_epochs": 2, "student_steps": 1}, "there are none"),
    ],
)
def test_what_asts_options_do_not_go_with_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        load_method("mtt").config("digits", 1, **QUICK | fields)
