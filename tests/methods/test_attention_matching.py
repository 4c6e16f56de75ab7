"""Attention matching in float64: maps and losses against explicit loops, slopes against finite differences."""

import importlib
import itertools

import pytest
import torch
from matching_oracles import (
    CLASSES,
    COMMON,
    IPC,
    SHAPE,
    SOURCE,
    check_slopes,
    datadam_objective,
    dm_objective,
    draws_of,
    network_of,
    run_of,
    signals_of,
    start,
)
from sklearn.cluster import KMeans
from torch import nn

from distill_bench import synthesize
from distill_bench.augmentations import dsa
from distill_bench.distilled.budget import Budget
from distill_bench.errors import UsageError
from distill_bench.methods.matching import initial_images
from distill_bench.methods.mean_matching.attention_matching import (
    AttentionMatchingConfig,
    attention_and_embedding,
    attention_loss,
    spatial_attention,
    watched,
)
from distill_bench.methods.mean_matching.mean_matching import MeanMatchingConfig, mean_distance
from distill_bench.networks import build_network
from distill_bench.runtime.seeds import generator

MEAN = importlib.import_module("distill_bench.methods.mean_matching.mean_matching")
MATCHING = importlib.import_module("distill_bench.methods.matching")
NAME = "ConvNetD2W4ASwish"


def random(*shape, name="values"):
    return torch.randn(*shape, generator=generator(name), dtype=torch.float64)


def map_by_loops(features, power):
    """Of one image [c, h, w]: Σ_c |F|^p at every place, row by row, over the square root of the sum of its squares."""
    channels, height, width = features.shape
    values = [
        sum(abs(float(features[c, y, x])) ** power for c in range(channels))
        for y in range(height)
        for x in range(width)
    ]
    norm = sum(value * value for value in values) ** 0.5
    return [value / norm for value in values]


def mean_by_loops(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def squared_distance_by_loops(first, second):
    return sum((a - b) ** 2 for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0, 0.5])
def test_an_attention_map_is_the_normalised_sum_over_channels(power):
    features = random(3, 4, 5, 2)
    found = spatial_attention(features, power)
    assert found.tolist() == [pytest.approx(map_by_loops(image, power), rel=1e-12) for image in features]


def test_a_dead_layer_has_a_map_of_zeros_and_no_slope():
    features = torch.zeros(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    found = spatial_attention(features, 4.0)
    assert not found.any()
    assert not torch.autograd.grad(found.sum(), features)[0].any()


@pytest.mark.parametrize("power", [1.0, 4.0])
def test_the_slope_of_a_map_is_right(power):
    assert torch.autograd.gradcheck(lambda x: spatial_attention(x, power), random(2, 3, 2, 3).requires_grad_())


def test_both_terms_by_loops():
    ours, theirs = ([random(3, 6, name=f"{side} 0"), random(3, 4, name=f"{side} 1")] for side in "ab")
    by_layer = [
        sum(squared_distance_by_loops(*pair) for pair in zip(a.tolist(), b.tolist(), strict=True))
        for a, b in zip(ours, theirs, strict=True)
    ]
    assert float(attention_loss(ours, theirs)) == pytest.approx(sum(by_layer), rel=1e-12)
    assert float(mean_distance(ours[1], theirs[1])) == pytest.approx(by_layer[1], rel=1e-12)


def layers_of(network, images):
    """The output of every activation before pooling, layer by layer, and the embedding; nothing in place."""
    outputs = []
    for layer in network.features:
        images = layer(images.clone())
        if isinstance(layer, (nn.ReLU, nn.SiLU, nn.Sigmoid)):
            outputs.append(images)
    return outputs, images.flatten(1)


@pytest.mark.parametrize("name", ["ConvNetD3W4", "ConvNetD2W4BN", "ConvNetD2W4ASMP"])
def test_what_is_matched_is_all_activations_but_the_last_and_the_embedding(name):
    network = build_network(name, (2, 8, 8), CLASSES, generator("net")).double().requires_grad_(False)
    images = random(4, 2, 8, 8)
    found = attention_and_embedding(watched(network, 4.0), images)
    outputs, embedding = layers_of(network, images)
    assert len(found) == len(outputs)
    for attention, output in zip(found[:-1], outputs[:-1], strict=True):
        assert attention.tolist() == [pytest.approx(map_by_loops(image, 4), rel=1e-10) for image in output]
    torch.testing.assert_close(found[-1], embedding)
    assert not any(module._forward_hooks for module in network.modules())


def matching(**options):
    fields = AttentionMatchingConfig(**COMMON | {"network": "ConvNetD2W4"} | options)
    job = run_of(fields)
    return job, datadam_objective(job, start())


def loss_by_loops(job, network, step, images):
    """scale · (Σ over layers and classes ‖Δ mean map‖² + λ Σ over classes ‖Δ mean embedding‖²), differentiable."""
    sides = []
    for label, (real, drawn) in enumerate(draws_of(job, step)):
        own = images[IPC * label : IPC * (label + 1)]
        sides.append((real, own) if drawn is None else (dsa.apply(drawn, real), dsa.apply(drawn, own)))
    batches = [[both[side] for both in sides] for side in (0, 1)]
    layers, embeddings = [], []
    for batch in batches:  # all classes at once: batch norm's statistics are theirs together
        outputs, embedding = layers_of(network, torch.cat(batch))
        sizes = [len(part) for part in batch]
        layers.append([output.split(sizes) for output in outputs[:-1]])
        embeddings.append(embedding.split(sizes))
    total = 0.0
    for real, own in zip(*layers, strict=True):
        for label in range(CLASSES):
            means = []
            for features in (real[label], own[label]):
                maps = [(image.abs() ** job.config.power).sum(dim=0) for image in features]
                means.append(sum(m / (m * m).sum().sqrt() for m in maps) / len(maps))
            total = total + ((means[0] - means[1]) ** 2).sum()
    for label in range(CLASSES):
        means = [sum(side[label]) / len(side[label]) for side in embeddings]
        total = total + job.config.task_balance * ((means[0] - means[1]) ** 2).sum()
    return job.config.loss_scale * total


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (NAME, {}),
        (NAME, {"augment": "dsa"}),
        (NAME, {"power": 1, "task_balance": 0.5, "loss_scale": 3.0}),
        ("ConvNetD2W4BNASwish", {"power": 1, "augment": "dsa"}),
        (NAME, {"chunk": 4, "augment": "dsa"}),
        (NAME, {"chunk": 1}),
    ],
)
def test_a_step_has_the_loss_of_the_loops_and_its_slope(name, options, monkeypatch):
    monkeypatch.setattr(MATCHING, "random_network", lambda job, step: network_of(name, step))
    job, objective = matching(**options)
    for step in (0, 1):
        loss, gradients = objective.loss_and_grads(step)
        network = network_of(name, step)
        assert loss == pytest.approx(loss_by_loops(job, network, step, start()).item(), rel=1e-9)
        check_slopes(lambda x, n=network, s=step: loss_by_loops(job, n, s, x), start(), gradients["images"])


@pytest.mark.parametrize("chunk", [0, 2])
def test_gradcheck_through_a_tiny_network(chunk):
    network = build_network(NAME, (1, 4, 4), CLASSES, generator("tiny")).double().requires_grad_(False)
    objective = matching(power=4, task_balance=0.5)[1]
    target = [random(2, 16), random(2, 4, name="embedding")]

    class Distance(torch.autograd.Function):
        """The distance, whose backward pass is the slope that the objective takes."""

        @staticmethod
        def forward(context, images):
            with torch.enable_grad():
                own = signals_of(objective, network)
                loss, slope = MEAN.distance_and_slope(own, objective.distance, images, [1, 2], target, chunk)
            context.save_for_backward(slope)
            return loss

        @staticmethod
        def backward(context, outer):
            return outer * context.saved_tensors[0]

    assert torch.autograd.gradcheck(Distance.apply, random(3, 1, 4, 4).requires_grad_())


@pytest.mark.parametrize("kind", ["dm", "datadam"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
def test_all_classes_in_one_pass_in_chunks_and_class_by_class_are_the_same(kind, flip, chunk, monkeypatch):
    monkeypatch.setattr(MATCHING, "random_network", lambda job, step: network_of("ConvNetD2W4"))
    fields, objective = {
        "dm": (MeanMatchingConfig, dm_objective),
        "datadam": (AttentionMatchingConfig, datadam_objective),
    }[kind]
    common = COMMON | {"augment": "dsa", "flip": flip}

    def step(images, **options):
        job = run_of(fields(**common | options))
        return job, objective(job, images).loss_and_grads(1)

    job, (loss, together) = step(start())
    _, (chunked_loss, chunked) = step(start(), chunk=chunk)
    assert float(chunked_loss) == pytest.approx(float(loss), rel=1e-12)
    torch.testing.assert_close(chunked["images"], together["images"], rtol=1e-9, atol=1e-13)
    total, separately = 0.0, []
    network = network_of("ConvNetD2W4").requires_grad_(False)
    for label, own in enumerate(start().split(IPC)):
        leaf, draws = own.requires_grad_(), job.generator(f"match {label}", 1)
        real, ours = MEAN.augment_pair(job, job.training.draw(label, job.config.real_batch, draws), leaf, draws)
        signals = [signals_of(objective(job, own), network)(batch) for batch in (ours, real)]
        means = [[signal.mean(dim=0, keepdim=True) for signal in side] for side in signals]
        own_loss = objective(job, own).distance(*means)
        total += float(own_loss.detach())
        separately.append(torch.autograd.grad(own_loss, leaf)[0])
    assert loss == pytest.approx(total, rel=1e-12)
    torch.testing.assert_close(together["images"], torch.cat(separately), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("chunk", [1, 4])
def test_no_more_images_than_a_chunk_are_in_the_network_at_once(chunk, monkeypatch):
    seen = []

    def watched(job, step):
        network = network_of("ConvNetD2W4")
        network.features.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
        return network

    monkeypatch.setattr(MATCHING, "random_network", watched)
    matching(chunk=chunk)[1].loss_and_grads(0)
    assert max(seen) == chunk
    # the real images once, the synthetic ones twice
    assert sum(seen) == CLASSES * COMMON["real_batch"] + 2 * CLASSES * IPC


def test_chunks_are_refused_with_batch_norm_whose_statistics_they_would_change():
    small = COMMON | {"network": "ConvNetD2W4BN", "chunk": 4}
    for method in ("dm", "datadam"):
        with pytest.raises(UsageError, match=r"chunk = 4 with ConvNetD2W4BN: .*`chunk=0`"):
            synthesize(SOURCE, method, 1, **small)
        synthesize(SOURCE, method, 1, **small | {"chunk": 0, "iterations": 1})
        synthesize(SOURCE, method, 1, **small | {"network": "ConvNetD2W4", "iterations": 1})


def test_a_network_of_one_activation_layer_has_nothing_to_attend_to():
    with pytest.raises(UsageError, match="two or more activation layers, such as ConvNetD2"):
        synthesize(SOURCE, "datadam", 1, **COMMON, network="ConvNetD1W4")


def embedded(init, network_name, ipc):
    """A job that begins so, and of every class its images with their embeddings, in float64."""
    job = run_of(MeanMatchingConfig(**COMMON | {"network": network_name, "init": init}))
    job.budget = Budget(ipc)
    job.training._fetch = lambda indices, fetch=job.training._fetch: fetch(indices).float()
    network = build_network(network_name, SHAPE, CLASSES, job.generator("initial network")).eval()
    with torch.no_grad():
        classes = [job.training.images(indices) for indices in job.training.class_indices]
        return job, [(images, network.embed(images).double()) for images in classes]


@pytest.mark.parametrize("ipc", [1, 3])
def test_k_center_starts_from_the_most_central_image_and_goes_to_the_farthest(ipc):
    job, classes = embedded("k-center", "ConvNetD2W4BN", ipc)
    expected = []
    for images, rows in classes:
        chosen = [int((rows - rows.mean(dim=0)).norm(dim=1).argmin())]
        while len(chosen) < ipc:
            reach = [min(float((row - rows[c]).norm()) for c in chosen) for row in rows]
            chosen.append(max(range(len(rows)), key=reach.__getitem__))
        expected.append(images[chosen])
    assert torch.equal(initial_images(job), torch.cat(expected))


@pytest.mark.parametrize("ipc", [1, 2])
def test_k_means_begins_with_the_images_nearest_the_centres_each_taken_once(ipc):
    job, classes = embedded("k-means", "ConvNetD2W4", ipc)
    expected = []
    for label, (images, rows) in enumerate(classes):
        centres = best_centres(rows, ipc)
        seed = int(torch.randint(2**31, (), generator=job.generator("initial clusters", label)))
        found = KMeans(ipc, n_init=10, tol=0.0, random_state=seed).fit(rows.numpy()).cluster_centers_
        torch.testing.assert_close(torch.from_numpy(found).sort(dim=0).values, centres.sort(dim=0).values)
        chosen = []
        for centre in torch.from_numpy(found):
            order = (rows - centre).norm(dim=1).argsort(stable=True).tolist()
            chosen.append(next(row for row in order if row not in chosen))
        expected.append(images[chosen])
    assert torch.equal(initial_images(job), torch.cat(expected))


def best_centres(rows, count):
    """The means of the partition into ``count`` parts with the least squared distances, of all partitions."""
    least, best = float("inf"), None
    for parts in itertools.product(range(count), repeat=len(rows)):
        labels = torch.tensor(parts)
        if len(labels.unique()) == count:
            means = torch.stack([rows[labels == part].mean(dim=0) for part in range(count)])
            if (spread := float((rows - means[labels]).square().sum())) < least:
                least, best = spread, means
    return best
