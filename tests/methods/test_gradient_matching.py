"""Gradient and distribution matching: distances against loops, gradients against finite differences, in float64."""

import importlib

import numpy as np
import pytest
import torch
from matching_oracles import (
    CLASSES,
    COMMON,
    IPC,
    REAL,
    SHAPE,
    check_slopes,
    dm_objective,
    draws_of,
    network_of,
    run_of,
    start,
)

from distill_bench.augmentations import dsa
from distill_bench.datasets import Dataset, Split
from distill_bench.methods.gradient_matching.gradient_matching import (
    GradientMatching,
    GradientMatchingConfig,
    gradient_distance,
    parameter_gradients,
)
from distill_bench.methods.mean_matching.mean_matching import MeanMatchingConfig, class_means, mean_distance
from distill_bench.runtime.seeds import generator

GM = importlib.import_module("distill_bench.methods.gradient_matching.gradient_matching")
MATCHING = importlib.import_module("distill_bench.methods.matching")


# ---- the distance of two gradients

SHAPES = {"convolution": (4, 3, 3, 3), "linear": (5, 7), "layer norm": (4, 6, 5), "bias": (5,), "one": (1,)}
ALL = tuple(SHAPES.values())


def pair(shapes=ALL):
    return [
        [torch.randn(shape, generator=generator(side, i), dtype=torch.float64) for i, shape in enumerate(shapes)]
        for side in ("ours", "theirs")
    ]


def layerwise_by_loops(synthetic, real):
    total = 0.0
    for ours, theirs in zip(synthetic, real, strict=True):
        if ours.ndim == 1:
            continue
        for mine, other in zip(ours.reshape(len(ours), -1), theirs.reshape(len(theirs), -1), strict=True):
            inner = sum(a * b for a, b in zip(mine, other, strict=True))
            norms = [sum(a * a for a in row) ** 0.5 for row in (mine, other)]
            total = total + 1 - inner / (norms[0] * norms[1] + 1e-6)
    return total


def numbers(gradients):
    return [np.array(gradient.tolist()) for gradient in gradients]


@pytest.mark.parametrize("shapes", [(shape,) for shape in SHAPES.values() if len(shape) > 1] + [ALL])
def test_the_layerwise_distance_is_a_sum_over_rows(shapes):
    synthetic, real = pair(shapes)
    expected = layerwise_by_loops(numbers(synthetic), numbers(real))
    assert float(gradient_distance(synthetic, real)) == pytest.approx(expected, rel=1e-12)
    # 4, 5 and 4 rows, each between 0 and 2
    assert float(gradient_distance(synthetic, synthetic)) == pytest.approx(0, abs=1e-4)
    opposite = [-gradient for gradient in synthetic]
    rows = sum(shape[0] for shape in shapes if len(shape) > 1)
    assert float(gradient_distance(synthetic, opposite)) == pytest.approx(2 * rows, abs=1e-4)


def test_biases_and_norm_scales_do_not_count_in_it_but_in_the_others():
    synthetic, real = pair()
    changed = [gradient if gradient.ndim > 1 else gradient + 100 for gradient in synthetic]
    assert gradient_distance(changed, real) == gradient_distance(synthetic, real)
    for kind in ("cosine", "mse"):
        assert not torch.isclose(gradient_distance(changed, real, kind), gradient_distance(synthetic, real, kind))


def test_distances_of_all_gradients_as_one_vector():
    synthetic, real = pair()
    ours, theirs = (np.concatenate([g.ravel() for g in numbers(side)]) for side in (synthetic, real))
    assert float(gradient_distance(synthetic, real, "mse")) == pytest.approx(((ours - theirs) ** 2).sum(), rel=1e-12)
    cosine = 1 - ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs) + 1e-6)
    assert float(gradient_distance(synthetic, real, "cosine")) == pytest.approx(cosine, rel=1e-12)


def test_a_row_of_zeros_is_as_far_as_an_orthogonal_one_and_its_gradient_finite():
    for side in (0, 1):
        both = pair(((2, 3),))
        both[side][0][0] = 0
        ours = both[0][0].requires_grad_()
        distance = gradient_distance([ours], both[1])
        assert distance.item() == pytest.approx(layerwise_by_loops(numbers([ours]), numbers(both[1])))
        assert torch.autograd.grad(distance, ours)[0].isfinite().all()


def test_tiny_gradients_are_guarded_by_a_millionth():
    tiny = torch.full((1, 1), 1e-3, dtype=torch.float64)
    assert float(gradient_distance([tiny], [tiny])) == pytest.approx(0.5)  # 1 - 1e-6 / (1e-6 + 1e-6)


@pytest.mark.parametrize("kind", ["layerwise", "cosine", "mse"])
def test_the_distances_have_the_gradients_they_should(kind):
    synthetic, real = pair()
    leaves = [gradient.requires_grad_() for gradient in synthetic]
    assert torch.autograd.gradcheck(lambda *ours: gradient_distance(ours, real, kind), leaves)


# ---- gradient matching


def explicit_gradients(network, images, label):
    """∇ of the mean of −log p(label), by autograd from the formula."""
    logits = network(images)
    loss = -(logits[:, label] - logits.exp().sum(dim=1).log()).sum() / len(images)
    return torch.autograd.grad(loss, list(network.parameters()), create_graph=True)


def matching_loss(job, network, step, images, labels=range(CLASSES)):
    """The sum of the classes' distances, with loops over layers and rows."""
    total = 0.0
    for label, (real, drawn) in enumerate(draws_of(job, step)):
        if label not in labels:
            continue
        batches = [images[IPC * label : IPC * (label + 1)], real]
        batches = batches if drawn is None else [dsa.apply(drawn, batch) for batch in batches]
        ours, theirs = (explicit_gradients(network, batch, label) for batch in batches)
        if job.config.distance == "layerwise":
            for mine, other in zip(ours, theirs, strict=True):
                for a, b in zip(mine, other, strict=True) if mine.ndim > 1 else ():
                    total = total + 1 - (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt() + 1e-6)
        else:
            mine, other = (torch.cat([g.flatten() for g in side]) for side in (ours, theirs))
            squared = ((mine - other) ** 2).sum()
            cosine = 1 - (mine * other).sum() / ((mine**2).sum().sqrt() * (other**2).sum().sqrt() + 1e-6)
            total = total + (squared if job.config.distance == "mse" else cosine)
    return total


def matching(name="ConvNetD1W4ASwish", **options):
    """(job, objective in the middle of an iteration, its network): the next step, 1, begins no new network."""
    fields = GradientMatchingConfig(**COMMON | {"outer_loop": 3, "inner_loop": 2, "network": "ConvNetD1W4"} | options)
    job = run_of(fields)
    objective = GradientMatching(job, start())
    objective._passes.network = network_of(name)
    return job, objective, objective._passes.network


NETWORKS = ["ConvNetD1W4ASwish", "ConvNetD2W4AS", "ConvNetD1W4LNASwish", "ConvNetD1W4GNASMP", "ConvNetD1W3NNASwishNP"]


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in NETWORKS]
    + [(NETWORKS[0], {"distance": kind}) for kind in ("mse", "cosine")]
    + [(NETWORKS[0], {"augment": "dsa"}), (NETWORKS[1], {"augment": "dsa", "distance": "mse"})],
)
def test_the_image_gradient_is_the_slope_of_the_summed_distance(name, options):
    job, objective, network = matching(name, **options)
    loss, gradients = objective.loss_and_grads(1)
    images = start()
    assert loss == pytest.approx(matching_loss(job, network, 1, images).item(), rel=1e-9)
    assert gradients.keys() == {"images"} and gradients["images"].shape == images.shape
    check_slopes(lambda moved: matching_loss(job, network, 1, moved), images, gradients["images"])


@pytest.mark.parametrize("augment", ["none", "dsa"])
def test_class_by_class_is_one_backward_pass_through_the_sum(augment):
    job, objective, network = matching(augment=augment)
    images = start().requires_grad_()
    (expected,) = torch.autograd.grad(matching_loss(job, network, 1, images), images)
    torch.testing.assert_close(objective.loss_and_grads(1)[1]["images"], expected, rtol=1e-9, atol=1e-12)
    by_class = [matching_loss(job, network, 1, images, [label]) for label in range(CLASSES)]
    (separately,) = zip(*(torch.autograd.grad(loss, images) for loss in by_class), strict=True)
    torch.testing.assert_close(sum(separately), expected, rtol=1e-9, atol=1e-12)
    for label, own in enumerate(separately):  # no class pulls at another's images
        others = torch.arange(CLASSES).repeat_interleave(IPC) != label
        assert not own[others].any() and own[~others].any()


@pytest.mark.parametrize("label", range(CLASSES))
def test_parameter_gradients_are_of_the_mean_loss_and_differentiable_where_asked(label):
    network, images = network_of(NETWORKS[0]), start().requires_grad_()
    parameters = list(network.parameters())
    kept = parameter_gradients(network, parameters, images, label, keep_graph=True)
    for found, expected in zip(kept, explicit_gradients(network, images, label), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
    assert all(gradient.requires_grad for gradient in kept)
    detached = parameter_gradients(network, parameters, images, label, keep_graph=False)
    assert not any(gradient.requires_grad for gradient in detached)


def test_a_step_leaves_images_and_network_as_they_are():
    _, objective, network = matching(augment="dsa")
    before = [p.clone() for p in network.parameters()]
    objective.loss_and_grads(1)
    assert torch.equal(objective._images, start()) and objective._images.grad is None
    assert all(torch.equal(p, old) and p.grad is None for p, old in zip(network.parameters(), before, strict=True))


@pytest.mark.parametrize("kind", ["gradient", "distribution"])
def test_real_and_synthetic_images_of_a_class_undergo_the_same_and_those_of_another_something_else(kind, monkeypatch):
    seen = []

    def spy(drawn, images, apply=dsa.apply):
        seen.append((drawn, len(images)))
        return apply(drawn, images)

    monkeypatch.setattr(dsa, "apply", spy)
    if kind == "gradient":
        matching(augment="dsa")[1].loss_and_grads(1)
    else:
        monkeypatch.setattr(MATCHING, "random_network", lambda job, step: network_of(NETWORKS[0]))
        dm_objective(run_of(MeanMatchingConfig(**COMMON, augment="dsa")), start()).loss_and_grads(0)
    assert [count for _, count in seen] == [REAL, IPC] * CLASSES
    drawn = [sample for sample, _ in seen]
    assert all(drawn[i] is drawn[i + 1] for i in range(0, 2 * CLASSES, 2))
    assert all(len(values) == 1 for sample in drawn for values in sample.values.values())
    assert len({(s.operation, *(float(v) for v in s.values.values())) for s in drawn}) == CLASSES


def test_every_iteration_has_a_new_network_trained_between_its_image_updates(monkeypatch):
    plans = []

    def spy(network, batches, count, plan, draws, compiled, chunk):
        images, targets = batches(0, torch.arange(count), draws)
        plans.append((plan, targets.tolist(), images, draws.initial_seed()))
        for parameter in network.parameters():
            parameter.data += 1
        return []

    monkeypatch.setattr(GM, "epochs", spy)
    monkeypatch.setattr(MATCHING, "random_network", lambda job, index: network_of(NETWORKS[0], index))
    _, objective, _ = matching(network_lr=0.02, train_batch=7)
    ages = []
    for step in range(6):
        objective.loss_and_grads(step)
        weight = objective._passes.network.classifier.weight
        fresh = [network_of(NETWORKS[0], index).classifier.weight for index in range(2)]
        ages.append((weight - fresh[step // 3]).mean().item())
        objective.after_step(step)
    assert ages == pytest.approx([0, 1, 2, 0, 1, 2])
    assert len(plans) == 4 and len({seed for *_, seed in plans}) == 4
    for plan, targets, shown, _ in plans:
        assert (plan.epochs, plan.batch_size, plan.learning_rate) == (2, 7, 0.02)
        assert (plan.momentum, plan.weight_decay, plan.decay_after, plan.temperature) == (0, 0, None, 1)
        assert targets == [0, 0, 1, 1, 2, 2] and torch.equal(shown, objective._images.detach())


def test_between_dsa_updates_images_are_augmented_one_by_one(monkeypatch):
    found = []
    monkeypatch.setattr(GM, "epochs", lambda network, batches, *_, **__: found.append(batches) or [])
    _, objective, _ = matching(augment="dsa")
    objective.after_step(0)
    (batches,) = found
    operations = set()
    for index in range(60):
        batch = objective._images.detach()[torch.zeros(6, dtype=torch.int64)]
        result, _ = batches(0, torch.zeros(6, dtype=torch.int64), generator("inner", index))
        drawn = dsa.sample(dsa.OPERATIONS, 6, SHAPE, generator("inner", index))
        operations.add(drawn.operation)
        torch.testing.assert_close(result, dsa.apply(drawn, batch))
    assert operations == set(dsa.OPERATIONS)


def test_batch_norm_has_the_statistics_of_sixteen_real_images_a_class_and_holds_them():
    many = Split(torch.randint(256, (90, *SHAPE), generator=generator("many"), dtype=torch.uint8), torch.arange(90) % 3)
    job = run_of(
        GradientMatchingConfig(**COMMON, outer_loop=2, inner_loop=1),
        Dataset("made", tuple("abc"), lambda: many, None, True),
    )
    seen = []
    draw = job.training.draw
    job.training.draw = lambda label, count, draws: seen.append((label, count)) or draw(label, count, draws)
    network = network_of("ConvNetD1W4BN")
    inputs = []
    network.features[1].register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    GM.freeze_batch_norm(network, job, 0)
    assert seen == [(0, 16), (1, 16), (2, 16)]
    (given,) = inputs
    assert given.shape[0] == 48
    norm = network.features[1]
    torch.testing.assert_close(norm.running_mean, 0.1 * given.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * given.var(dim=(0, 2, 3)))
    assert not norm.training and network.training


# ---- distribution matching


def test_class_means_and_their_distance_by_loops():
    embeddings, others = (torch.randn(9, 4, generator=generator(n), dtype=torch.float64) for n in "xy")
    sizes, means = [2, 3, 4], []
    for side in (embeddings, others):
        rows, first, of_side = side.tolist(), 0, []
        for size in sizes:
            of_side.append([sum(row[d] for row in rows[first : first + size]) / size for d in range(4)])
            first += size
        means.append(of_side)
    torch.testing.assert_close(class_means(embeddings, sizes), torch.tensor(means[0], dtype=torch.float64))
    total = sum((a - b) ** 2 for ours, theirs in zip(*means, strict=True) for a, b in zip(ours, theirs, strict=True))
    assert float(mean_distance(class_means(embeddings, sizes), class_means(others, sizes))) == pytest.approx(total)


def distribution_loss(job, network, step, images, together):
    """Σ over classes of the squared distance of mean embeddings, class by class or all in one batch."""
    pairs = []
    for label, (real, drawn) in enumerate(draws_of(job, step)):
        own = images[IPC * label : IPC * (label + 1)]
        pairs.append((real, own) if drawn is None else (dsa.apply(drawn, real), dsa.apply(drawn, own)))

    def embed(side):
        batches = [both[side] for both in pairs]
        if not together:
            return [network.embed(batch) for batch in batches]
        return network.embed(torch.cat(batches)).split([len(batch) for batch in batches])

    with torch.no_grad():
        theirs = embed(0)
    total = 0.0
    for real, own in zip(theirs, embed(1), strict=True):
        difference = sum(real) / len(real) - sum(own) / len(own)
        total = total + (difference * difference).sum()
    return total


@pytest.mark.parametrize("augment", ["none", "dsa"])
@pytest.mark.parametrize(
    ("name", "together"),
    [("ConvNetD1W4ASwish", False), ("ConvNetD2W4ASwish", False), ("ConvNetD1W4BNASwish", True)],
)
def test_the_gradient_of_distribution_matching_is_the_slope_of_the_distance(name, together, augment, monkeypatch):
    networks = []
    monkeypatch.setattr(MATCHING, "random_network", lambda job, step: networks.append(step) or network_of(name, step))
    job = run_of(MeanMatchingConfig(**COMMON, augment=augment))
    objective, images = dm_objective(job, start()), start()
    for step in (0, 1):
        loss, gradients = objective.loss_and_grads(step)
        network = network_of(name, step)
        assert loss == pytest.approx(distribution_loss(job, network, step, images, together).item(), rel=1e-9)
        check_slopes(
            lambda x, n=network, s=step: distribution_loss(job, n, s, x, together), images, gradients["images"]
        )
    assert networks == [0, 1]  # a new network every iteration
    assert torch.equal(objective._images, images)


def test_real_batches_are_different_images_of_the_class_drawn_anew_every_step():
    job = run_of(MeanMatchingConfig(**COMMON))
    steps = [[real for real, _ in draws_of(job, step)] for step in range(2)]
    for label in range(CLASSES):
        own = job.training.images(job.training.class_indices[label])
        for batch in (steps[0][label], steps[1][label]):
            assert len(batch) == REAL == len(batch.flatten(1).unique(dim=0))
            assert all((own == image).flatten(1).all(dim=1).any() for image in batch)
        assert not torch.equal(steps[0][label], steps[1][label])
    everything = job.training.draw(0, 256, generator("x"))
    assert len(everything) == 10 == len(everything.flatten(1).unique(dim=0))


@pytest.mark.usefixtures("global_rng_untouched")
def test_matching_draws_nothing_from_the_global_generator(monkeypatch):
    _, objective, _ = matching(augment="dsa")
    objective.loss_and_grads(1)
    monkeypatch.setattr(MATCHING, "random_network", lambda job, step: network_of(NETWORKS[0]))
    dm_objective(run_of(MeanMatchingConfig(**COMMON, augment="dsa")), start()).loss_and_grads(0)
