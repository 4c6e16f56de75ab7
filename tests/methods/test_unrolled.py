"""Backpropagation through training: whole outer steps against autograd through the same training, and its parts."""

import pytest
import torch
from torch import nn

from distill_bench import UsageError, synthesize
from distill_bench.augmentations import dsa
from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.datasets.training_view import TrainingData
from distill_bench.distilled.budget import Budget
from distill_bench.errors import Interrupted
from distill_bench.methods import Checkpoint, Run, load_method, matching
from distill_bench.methods.matching import random_network
from distill_bench.methods.unrolled import unrolled as UN
from distill_bench.methods.unrolled.curriculum import plain_window
from distill_bench.runtime.progress import SILENT, SilentMonitor


def run_of(source, ipc=2, seed=0, **fields):
    resolved = load_method("rat-bptt").config(source.name, ipc, "test", **fields)
    place = torch.device("cpu")
    training = TrainingData(source, pixel_space_of(source, "normalized"), place)
    return Run("rat-bptt", training, Budget(ipc), resolved, seed, place, SILENT, Checkpoint())


def move(config, theta, state, gradient, rate, number):
    """A step of torch's SGD or Adam, written out."""
    gradient = [g + config.inner_decay * p for g, p in zip(gradient, theta, strict=True)]
    if config.optimizer == "sgd":
        state = (
            gradient if state is None else [config.inner_momentum * b + g for b, g in zip(state, gradient, strict=True)]
        )
        return [p - rate * b for p, b in zip(theta, state, strict=True)], state
    means, squares = ([0.0] * len(theta), [0.0] * len(theta)) if state is None else state
    means = [0.9 * m + 0.1 * g for m, g in zip(means, gradient, strict=True)]
    squares = [0.999 * v + 0.001 * g * g for v, g in zip(squares, gradient, strict=True)]
    ends = [
        p - rate * m / (1 - 0.9**number) / ((v / (1 - 0.999**number) + 1e-30).sqrt() + 1e-8)
        for p, m, v in zip(theta, means, squares, strict=True)
    ]
    return ends, (means, squares)


def decoded_by_hand(stored, labels, factor):
    """The smaller images of every stored one, row by row, enlarged, and its label for each."""
    if factor == 1:
        return stored, labels
    side, shown = stored.shape[-1] // factor, []
    for image in stored:
        for top in range(0, side * factor, side):
            for left in range(0, side * factor, side):
                part = image[None, :, top : top + side, left : left + side]
                shown.append(nn.functional.interpolate(part, size=stored.shape[2:], mode="bilinear"))
    return torch.cat(shown), torch.stack([label for label in labels for _ in range(factor**2)])


def by_autograd(run, objective, step):
    """The loss of an outer step and its gradients for images and the logarithm of the rate."""
    config = run.config
    done, length = plain_window(config, run.generator("window", step))
    draws, block = run.generator("student", step), step // config.iterations
    batches = [objective._batch(draws, block) for _ in range(done + length)]
    network = random_network(run, step)
    stored, of_stored = (part.clone() for part in objective.set.present(block))
    stored.requires_grad_()
    of_stored.requires_grad_(of_stored.is_floating_point())
    images, labels = decoded_by_hand(stored, of_stored, config.formation)
    log_rate = torch.tensor(config.inner_lr).log().requires_grad_()
    theta, state, total = [p.detach().requires_grad_() for p in network.parameters()], None, 0.0
    names = [name for name, _ in network.named_parameters()]

    def loss_of(values, x, y):
        return nn.functional.cross_entropy(
            torch.func.functional_call(network, dict(zip(names, values, strict=True)), x), y
        )

    real = run.generator("real", step)
    ends = [config.window * (k + 1) // config.losses for k in range(config.losses)]
    held = []
    for _ in ends:
        indices = torch.randperm(len(run.training), generator=real)[: config.real_batch]
        operations = dsa.usual_operations(run.training.flip_invariant, config.operations)
        drawn = dsa.sample(operations, len(indices), run.training.shape, real)
        x = run.training.images(indices)
        held.append((dsa.apply(drawn, x) if config.augment == "dsa" else x, run.training.labels[indices]))
    for number, batch in enumerate(batches, 1):
        inside = number > done
        x, y = batch(*((images, labels) if inside else (images.detach(), labels.detach())))
        gradient = torch.autograd.grad(loss_of(theta, x, y), theta, create_graph=inside)
        theta, state = move(
            config, theta, state, gradient, log_rate.exp() if inside else log_rate.exp().detach(), number
        )
        if not inside:
            theta = [p.detach().requires_grad_() for p in theta]
        if number - done in ends:
            total = total + loss_of(theta, *held[ends.index(number - done)]) / len(ends)
    learned = [leaf for leaf in (stored, log_rate, of_stored) if leaf.requires_grad]
    return total.detach(), torch.autograd.grad(total, learned)


@pytest.mark.parametrize(
    "fields",
    [
        {"augment": "dsa"},
        {"augment": "dsa", "window_from": "end", "losses": 1},
        {"optimizer": "sgd", "inner_lr": 0.1, "inner_momentum": 0.9, "inner_decay": 5e-4, "images_per_class": 1},
        {"window": 5, "losses": 3, "optimizer": "sgd", "inner_lr": 0.1},
        {"label_lr": 0.1, "images_per_class": 1, "classes_per_step": 7, "augment": "dsa", "operations": ["rotate"]},
        {"formation": 2, "augment": "dsa"},
        {"formation": 2, "label_lr": 0.1, "images_per_class": 5, "blocks": [1, 1], "old_blocks": 0.5},
    ],
    ids=["Adam", "Adam, end", "momentum", "whole training", "labels, some classes", "four in one", "labels of four"],
)
def test_an_outer_step_is_autograd_through_the_training(digits, fields):
    run = run_of(digits, clip=0.0, **fields)
    objective = UN.Unrolled(run)
    if run.config.label_lr:
        objective.learnables["labels"].mul_(3).add_(0.1)  # rows whose sums are not 1
    for step in (0, 1):
        loss, gradients = objective.loss_and_grads(step)
        expected, (of_images, of_rate, *of_labels) = by_autograd(run, objective, step)
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
        found = [gradients["images"], *([gradients["labels"]] if of_labels else [])]
        for ours, theirs in zip(found, [of_images, *of_labels], strict=True):
            assert float((ours - theirs).norm() / theirs.norm()) < 1e-3
        assert float(gradients["log_rate"]) == pytest.approx(float(of_rate), rel=1e-2, abs=1e-5)


@pytest.mark.parametrize("network", ["ConvNetD1W4", "ConvNetD1W4BN"])
def test_with_batch_norm_the_real_images_pass_at_once_however_little_memory_there_is(digits, monkeypatch, network):
    given, loss = [], UN.Student.loss
    monkeypatch.setattr(UN.Student, "loss", lambda self, *batch: given.append(len(batch[1])) or loss(self, *batch))
    found, taken = [], []
    for most in (2**29, 2**16):
        monkeypatch.setattr(matching, "_CHUNK_BYTES", most)
        run = run_of(digits, clip=0.0, network=network, real_batch=64, losses=1)
        given.clear()
        found.append(UN.Unrolled(run).loss_and_grads(0))
        taken.append(run.config.model_copy(update={"real_batch": 1000}).step_bytes(digits, 2))
        assert (64 in given) == (most == 2**29 or "BN" in network)
    for ours, theirs in zip(found[0][1].values(), found[1][1].values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    assert (taken[0] == taken[1]) == ("BN" in network)


def test_a_step_shows_so_many_images_of_so_many_random_classes(digits):
    run = run_of(digits, ipc=3, images_per_class=2, classes_per_step=4, augment="none")
    objective, seen = UN.Unrolled(run), set()
    for index in range(20):
        _, labels = objective._batch(run.generator("some", index), 0)(*objective.set.present(0))
        assert sorted(labels.bincount(minlength=10).tolist()) == [0] * 6 + [2] * 4
        seen |= set(labels.tolist())
    assert seen == set(range(10))


def test_batches_undergo_the_recipes_operations_alone(digits):
    """A hole, and nothing else."""
    run = run_of(digits, augment="dsa", operations=["cutout"])
    objective = UN.Unrolled(run)
    for index in range(20):
        shown, _ = objective._batch(run.generator("some", index), 0)(torch.ones(20, 1, 8, 8), torch.arange(20))
        assert set(shown.unique().tolist()) == {0.0, 1.0}


def test_an_image_that_holds_four_is_shown_and_stored_as_such(digits):
    made = synthesize(digits, "rat-bptt", 2, preset="test", formation=2, image_lr=1e-9, init="noise-sphere")
    assert (made.card.formation, len(made.images), len(made.shown().images)) == (2, 20, 80)
    run = run_of(digits, formation=2, images_per_class=3, augment="none")
    objective = UN.Unrolled(run)
    _, shown, labels = objective._present(0)
    _, theirs = objective._batch(run.generator("some"), 0)(shown, labels)
    assert theirs.bincount().tolist() == [3] * 10 and run.config.shown(2, 10) == 30
    with pytest.raises(UsageError, match="of a class at ipc"):
        synthesize(digits, "rat-bptt", 60, preset="test", formation=2)


def test_windows_are_anywhere_or_at_the_end(digits):
    run = run_of(digits, total=9, window=3)
    windows = [plain_window(run.config, run.generator("window", step)) for step in range(200)]
    assert set(windows) == {(start, 3) for start in range(7)}
    at_end = run_of(digits, total=9, window=3, window_from="end").config
    assert plain_window(at_end, run.generator("window", 0)) == (6, 3)


def test_the_clip_remembers_the_uncut_lengths():
    """After lengths 1, 1 and 10 the average is 1.9, and the last is cut to 3.8."""
    average, way = None, torch.ones(1, 1, 2, 2) / 2
    for length, expected in ((1.0, 1.0), (1.0, 1.0), (10.0, 1.9)):
        cut, average = UN.clip(length * way, average, 2.0, 0.9)
        assert float(average) == pytest.approx(expected)
    assert float(cut.norm()) == pytest.approx(3.8)
    free, _ = UN.clip(10 * way, average, 0.0, 0.9)
    assert float(free.norm()) == pytest.approx(10)


def test_an_outer_step_cuts_its_gradient_by_the_lengths_before_it(digits):
    """To half of E, which after the first is that one's own length, then nine tenths of it and a tenth of the next."""
    run = run_of(digits, clip=0.5, clip_decay=0.9)
    objective, average = UN.Unrolled(run), None
    for step in (0, 1, 2):
        _, gradients = objective.loss_and_grads(step)
        whole = by_autograd(run, objective, step)[1][0].norm()
        average = whole if average is None else 0.9 * average + 0.1 * whole
        assert float(gradients["images"].norm()) == pytest.approx(float(min(whole, 0.5 * average)), rel=1e-3)


def test_mirrored_images_follow_their_originals_in_a_batch(digits):
    objective = UN.Unrolled(run := run_of(digits, flip=True, augment="none"))
    images, labels = objective.set.present(0)
    shown, theirs = objective._batch(run.generator("some"), 0)(images, labels)
    assert torch.equal(shown, torch.cat([images, images.flip(-1)])) and torch.equal(theirs, torch.cat([labels, labels]))


def test_noise_starts_on_the_sphere(digits):
    images = UN.Unrolled(run_of(digits, init="noise-sphere")).learnables["images"]
    torch.testing.assert_close(images.flatten(1).norm(dim=1), torch.ones(20))


def test_a_learned_rate_of_sgd_is_the_sets_and_one_of_adam_is_not(digits):
    of_adam = synthesize(digits, "rat-bptt", 1, preset="test", network="ConvNetD1W4")
    assert of_adam.learning_rate is None
    of_sgd = synthesize(digits, "rat-bptt", 1, preset="test", optimizer="sgd", rate_lr=0.5)
    assert of_sgd.learning_rate is not None and abs(of_sgd.learning_rate - 0.01) > 1e-3
    fixed = synthesize(digits, "rat-bptt", 1, preset="test", optimizer="sgd", rate_lr=0.0)
    assert fixed.learning_rate is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window": 6}, "longer than the training"),
        ({"losses": 4}, "no more ends"),
        ({"inner_momentum": 0.9}, "inner_momentum is SGD's"),
        ({"window_spread": 1}, "window_spread is of the stages"),
        ({"window_from": "staged", "window_spread": 3}, "windows of 3 ± 3 steps"),
        ({"window_from": "staged", "window_spread": 2, "window": 4}, "windows of 4 ± 2 steps"),
        ({"window_from": "staged", "window_spread": 2}, "a window of 1 steps has no more ends"),
        ({"old_blocks": 0.5}, "it needs blocks"),
        ({"blocks": [1, 1], "optimizer": "sgd", "rate_lr": 0.1}, "rate_lr = 0 or blocks"),
        ({"operations": []}, "at least 1"),
    ],
)
def test_what_does_not_go_together_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        load_method("rat-bptt").config("digits", 1, "test", **fields)


# ---- stages


STAGED = {"window_from": "staged", "window_spread": 1, "losses": 2, "augment": "none"}


def test_a_run_goes_through_the_stages_pass_by_pass(digits):
    """Two steps a pass, each of which ends a stage: windows of 3 ± 1 steps, then of 4, then of 2."""
    run = run_of(digits, **STAGED, real_batch=719, stage_gains=[200.0, 200.0], stage_patience=[0.2, 0.2])
    objective, windows = UN.Unrolled(run), []
    taken = objective._window
    objective._window = lambda step: windows.append(taken(step)) or windows[-1]
    for step in range(7):
        objective.loss_and_grads(step)
    assert [length for _, length in windows[2:]] == [4, 4, 2, 2, 2]
    assert all(2 <= length <= 4 and start + length <= 5 for start, length in windows)


def test_a_probe_has_the_gradients_lengths_of_a_whole_training(digits):
    run = run_of(digits, **STAGED)
    objective = UN.Unrolled(run)
    draws = run.generator("probe", 0)
    network, (images, labels) = UN.build_network("ConvNetD1W4", (1, 8, 8), 10, draws), objective.set.present(0)
    theta, state, lengths = [p.detach().requires_grad_() for p in network.parameters()], None, []
    names = [name for name, _ in network.named_parameters()]
    for number in range(1, run.config.total + 1):
        logits = torch.func.functional_call(network, dict(zip(names, theta, strict=True)), images)
        gradient = torch.autograd.grad(nn.functional.cross_entropy(logits, labels), theta)
        lengths.append(torch.cat([part.flatten() for part in gradient]).norm())
        theta, state = move(run.config, theta, state, gradient, run.config.inner_lr, number)
        theta = [p.detach().requires_grad_() for p in theta]
    torch.testing.assert_close(objective._probe(0), torch.stack(lengths), rtol=1e-4, atol=1e-6)


def test_accuracy_of_a_pass_is_that_at_the_end_of_windows(digits):
    """Of two losses, at other parameters, those of the last are counted."""
    run = run_of(digits, **STAGED, real_batch=200)
    objective, network = UN.Unrolled(run), random_network(run, 0)
    theta = torch.nn.utils.parameters_to_vector(network.parameters()).detach()
    for end, loss in objective._losses(3, run.generator("real", 0)).items():
        loss.with_gradient(theta if end == 3 else 10 * theta)
    draws = run.generator("real", 0)
    drawn = [torch.randperm(len(run.training), generator=draws)[:200] for _ in range(2)][1]
    right = network(run.training.images(drawn)).argmax(dim=1) == run.training.labels[drawn]
    assert (objective._stages.state()["right"], objective._stages.state()["seen"]) == (int(right.sum()), 200)


# ---- learned labels


def test_learned_labels_start_as_one_hot_rows_never_fall_below_0_and_are_the_sets_weights(digits):
    begun = UN.Unrolled(run_of(digits, label_lr=0.1)).learnables["labels"]
    assert torch.equal(begun, torch.eye(10).repeat_interleave(2, dim=0))
    made = synthesize(digits, "rat-bptt", 2, preset="test", label_lr=0.3)
    assert made.card.label_kind == "weights" and made.soft_labels.shape == (20, 10)
    assert float(made.soft_labels.min()) == 0.0 and not torch.equal(made.soft_labels, begun)
    assert float((made.soft_labels.sum(dim=1) - 1).abs().max()) > 0.1  # sums are learned too


def test_labels_at_their_own_rate_0_are_classes(digits):
    made = synthesize(digits, "rat-bptt", 1, preset="test")
    assert made.card.label_kind == "hard" and made.soft_labels is None


# ---- blocks


def test_frozen_blocks_are_the_smaller_sets_themselves(digits):
    """The first block of three images a class is the set that is made of one; and prefixes are said."""
    fields = {"preset": "test", "label_lr": 0.1, "rate_lr": 0.0}
    whole = synthesize(digits, "rat-bptt", 3, blocks=[1, 2], **fields)
    alone = synthesize(digits, "rat-bptt", 1, **fields)
    assert whole.card.prefixes == (1,) and whole.card.ipc == 3
    first = whole.prefix(1)
    assert torch.equal(first.images, alone.images) and torch.equal(first.soft_labels, alone.soft_labels)
    assert (first.card.ipc, first.card.prefixes, first.card.prefix_of) == (1, (), 3)


def test_a_second_block_is_learned_through_trainings_on_both(digits):
    run = run_of(digits, ipc=3, blocks=[1, 2], clip=0.0, iterations=1)
    objective = UN.Unrolled(run)
    loss, gradients = objective.loss_and_grads(1)
    expected, (of_images, _) = by_autograd(run, objective, 1)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert set(gradients) == {"images 2", "log_rate"}
    new = of_images.unflatten(0, (10, 3))[:, 1:].flatten(0, 1)
    assert float((gradients["images 2"] - new).norm() / new.norm()) < 1e-3


def test_old_blocks_go_on_at_a_part_of_the_rate(digits):
    run = run_of(digits, ipc=3, blocks=[1, 2], old_blocks=0.25, iterations=1)
    objective = UN.Unrolled(run)
    rate = run.config.image_lr
    for step, rates in ((0, {"images": rate, "images 2": rate}), (1, {"images": rate / 4, "images 2": rate})):
        _, gradients = objective.loss_and_grads(step)
        assert {name for name in gradients if name != "log_rate"} == set(list(rates)[: step + 1])
        assert {name: objective.optimizers[name].param_groups[0]["lr"] for name in rates} == rates


def test_blocks_that_do_not_make_up_the_set_and_prefixes_that_are_none_are_refused(digits):
    with pytest.raises(UsageError, match=r"have 3 images per class, the set has 2"):
        synthesize(digits, "rat-bptt", 2, preset="test", blocks=[1, 2])
    plain = synthesize(digits, "random", 2)
    with pytest.raises(UsageError, match=r"`prefix=1`: .* of this set none are"):
        plain.prefix(1)


def test_only_the_mirror_is_no_augmentation_of_digits(digits):
    with pytest.raises(UsageError, match="there is no other operation"):
        synthesize(digits, "rat-bptt", 1, preset="test", augment="dsa", operations=["flip"])


class Stopping(SilentMonitor):
    """Asks to stop at once."""

    stop_requested = True


@pytest.mark.parametrize("window_from", ["uniform", "staged"])
def test_labels_blocks_and_stages_resume_to_the_same_bytes(digits, tmp_path, window_from):
    """Stopped after every step: the same set as without a stop."""
    fields = {"label_lr": 0.1, "blocks": [1, 1], "old_blocks": 0.5, "iterations": 4, "window_from": window_from}
    fields |= {"real_batch": 719, "stage_patience": [0.2, 0.2], "stage_gains": [200.0, 200.0]}  # 2 steps a pass
    fields |= {"window_spread": 1, "losses": 1} if window_from == "staged" else {}
    whole = synthesize(digits, "rat-bptt", 2, preset="test", **fields)
    for _ in range(20):
        how = {"checkpoint": Checkpoint(tmp_path / "unfinished.safetensors", every_seconds=1e9), "monitor": Stopping()}
        try:
            made = synthesize(digits, "rat-bptt", 2, preset="test", **how, **fields)
            break
        except Interrupted:
            continue
    assert made.to_bytes() == whole.to_bytes()
