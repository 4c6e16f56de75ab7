"""The trajectory gradients in float64: against ``higher``, against TESLA's formula written out, and each other."""

import os
import runpy
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

from distill_bench.augmentations import dsa
from distill_bench.methods.trajectory_matching.gradient import Waypoint, trajectory_gradient
from distill_bench.networks import build_network
from distill_bench.runtime.seeds import generator
from distill_bench.training.student import Student
from distill_bench.training.window import WindowGradient

ORACLE = runpy.run_path(str(Path(__file__).parents[2] / "baselines" / "mtt_unrolled.py"))["unrolled_gradient"]
SHAPE, CLASSES, COUNT, SIZE = (3, 8, 8), 4, 8, 5
TEMPERATURE = 1.5
NETWORKS = ("ConvNetD2W6", "ConvNetD2W6BN", "ConvNetD1W4LNASwishMP", "perceptron")


def network_of(name):
    """A network in float64 whose norms scale and shift."""
    if name == "perceptron":
        network = nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.Tanh(), nn.Linear(7, CLASSES)).to_empty(
            device="cpu"
        )
    else:
        network = build_network(name, SHAPE, CLASSES, generator("network")).double()
    for number, parameter in enumerate(network.parameters()):
        noise = 0.2 * torch.randn(parameter.shape, generator=generator("weights", number), dtype=torch.float64)
        parameter.data = noise if name == "perceptron" else parameter.data + noise * (parameter.ndim == 1)
    return network


def random(*shape, name="values"):
    return torch.randn(shape, generator=generator(name), dtype=torch.float64)


def batches_of(steps, flip=False):
    """Overlapping mini-batches of five of the eight images, each with a DSA operation; doubled by mirroring."""

    def batch(number):
        draws = generator("batch", number)
        indices = torch.randperm(COUNT, generator=draws)[:SIZE]
        drawn = dsa.sample((dsa.OPERATIONS[number % 6],), SIZE * (1 + flip), SHAPE, draws)

        def made(images, labels):
            images, labels = images[indices], labels[indices]
            if flip:
                images, labels = torch.cat([images, images.flip(3)]), torch.cat([labels, labels])
            return dsa.apply(drawn, images), labels

        return made

    return [batch(number) for number in range(steps)]


def problem(name, soft):
    """Start, target, images, labels and learning rate."""
    start = torch.cat([parameter.detach().flatten() for parameter in network_of(name).parameters()])
    target = start + 0.05 * random(len(start), name="target")
    labels = random(COUNT, CLASSES, name="labels") if soft else torch.arange(COUNT) % CLASSES
    return start, target, random(COUNT, *SHAPE), labels, torch.tensor(0.1, dtype=torch.float64)


def by_higher(name, given, batches):
    loss, gradients = ORACLE(network_of(name), *given, batches, TEMPERATURE)
    soft = given[3].is_floating_point()
    return WindowGradient(loss, gradients[0], gradients[1] if soft else None, gradients[-1])


def by_teslas_formula(name, given, batches):
    """Σ_i (2/D)(a·d + a²·G)ᵀ ∂g_i/∂X_i, and d/da of ‖θ_0 − aG − θ*‖²/D, with all θ_i and G constant."""
    start, target, images, labels, rate = given
    network, shapes = network_of(name), [parameter.shape for parameter in network_of(name).parameters()]

    def step_gradient(theta, x, y):
        parts = [
            part.reshape(shape) for part, shape in zip(theta.split([s.numel() for s in shapes]), shapes, strict=True)
        ]
        named = dict(zip((key for key, _ in network.named_parameters()), parts, strict=True))
        logarithms = (torch.func.functional_call(network, named, (x,)) / TEMPERATURE).log_softmax(dim=1)
        if not y.is_floating_point():
            loss = -logarithms[torch.arange(len(y)), y].mean()
        else:
            loss = -((y / TEMPERATURE).softmax(dim=1) * logarithms).sum(dim=1).mean()
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parts, create_graph=True)])

    thetas, total = [start], torch.zeros_like(start)
    for batch in batches:
        gradient = step_gradient(thetas[-1].clone().requires_grad_(), *batch(images, labels)).detach()
        total = total + gradient
        thetas.append(thetas[-1] - rate * gradient)
    way, size = target - start, (target - start).square().sum()
    leaves = [images.clone().requires_grad_(), labels.clone()]
    leaves[1].requires_grad_(labels.is_floating_point())
    scalar = torch.zeros((), dtype=torch.float64)
    for batch, theta in zip(batches, thetas, strict=False):
        vector = 2 / size * (rate * way + rate**2 * total)
        scalar = scalar + vector @ step_gradient(theta.clone().requires_grad_(), *batch(*leaves))
    parts = torch.autograd.grad(scalar, [leaf for leaf in leaves if leaf.requires_grad])
    of_rate = -2 * (start - rate * total - target) @ total / size
    loss = (start - rate * total - target).square().sum() / size
    return WindowGradient(loss, parts[0], parts[1] if len(parts) > 1 else None, of_rate)


def distance(found, expected):
    """The largest relative difference of loss and gradients."""
    assert (found.labels is None) == (expected.labels is None)
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if b is not None]
    assert all(a.shape == b.shape and b.norm() > 0 for a, b in pairs)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


@pytest.mark.parametrize("soft", [False, True], ids=["classes", "logits"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("steps", [1, 4, 12])
def test_exact_and_unrolled_equal_highers_gradient(name, soft, steps):
    given, batches = problem(name, soft), batches_of(steps)
    expected = by_higher(name, given, batches)
    student = Student(network_of(name), TEMPERATURE)
    for kind in ("exact", "unrolled"):
        assert distance(trajectory_gradient(student, *given, batches, kind), expected) < 1e-10


@pytest.mark.parametrize("kind", ["exact", "unrolled"])
def test_a_batch_may_be_doubled_by_its_mirror_images(kind):
    given, batches = problem("ConvNetD2W6", True), batches_of(4, flip=True)
    found = trajectory_gradient(Student(network_of("ConvNetD2W6"), TEMPERATURE), *given, batches, kind)
    assert distance(found, by_higher("ConvNetD2W6", given, batches)) < 1e-10


@pytest.mark.parametrize("soft", [False, True], ids=["classes", "logits"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("steps", [1, 4, 12])
def test_tesla_equals_its_formula(name, soft, steps):
    given, batches = problem(name, soft), batches_of(steps)
    found = trajectory_gradient(Student(network_of(name), TEMPERATURE), *given, batches, "tesla")
    assert distance(found, by_teslas_formula(name, given, batches)) < 1e-10


@pytest.mark.parametrize("soft", [False, True], ids=["classes", "logits"])
def test_tesla_is_the_gradient_at_one_step_and_not_at_more(soft):
    given, student = problem("ConvNetD2W6", soft), Student(network_of("ConvNetD2W6"), TEMPERATURE)
    errors = []
    for steps in (1, 4, 12):
        batches = batches_of(steps)
        exact = trajectory_gradient(student, *given, batches, "exact")
        tesla = trajectory_gradient(student, *given, batches, "tesla")
        assert tesla.loss == exact.loss
        errors.append(float((tesla.images - exact.images).norm() / exact.images.norm()))
    assert errors[0] < 1e-10
    assert 0.01 < errors[1] < errors[2]


def test_tesla_is_right_for_images_that_only_the_last_step_sees():
    given, student = problem("ConvNetD2W6", False), Student(network_of("ConvNetD2W6"), TEMPERATURE)

    def batch(indices):
        return lambda images, labels: (images[indices], labels[indices])

    batches = [batch(torch.arange(4)), batch(torch.arange(4)), batch(torch.arange(4, 8))]
    exact, tesla = (trajectory_gradient(student, *given, batches, kind).images for kind in ("exact", "tesla"))
    torch.testing.assert_close(tesla[4:], exact[4:], rtol=1e-12, atol=0)
    assert float((tesla[:4] - exact[:4]).norm() / exact[:4].norm()) > 0.01


@pytest.mark.parametrize("kind", ["exact", "tesla", "unrolled"])
def test_arguments_are_left_as_they_were(kind):
    given = problem("ConvNetD2W6BN", True)
    before = [tensor.clone() for tensor in given]
    trajectory_gradient(Student(network_of("ConvNetD2W6BN")), *given, batches_of(2), kind)
    for tensor, kept in zip(given, before, strict=True):
        assert torch.equal(tensor, kept) and not tensor.requires_grad


def most_alive(kind, steps):
    """The most augmented batches, with the graphs they hang on, that are alive when another is made."""
    made, most = [], [0]

    def counted(batch):
        def watched(images, labels):
            most[0] = max(most[0], sum(reference() is not None for reference in made))
            augmented, classes = batch(images, labels)
            made.append(weakref.ref(augmented))
            return augmented, classes

        return watched

    given, student = problem("ConvNetD2W6", True), Student(network_of("ConvNetD2W6"))
    trajectory_gradient(student, *given, [counted(batch) for batch in batches_of(steps)], kind)
    return most[0]


def test_a_steps_graph_is_let_go_before_the_next_but_one():
    assert most_alive("exact", 12) == most_alive("exact", 3) <= 1
    assert most_alive("tesla", 12) == most_alive("tesla", 3) <= 1
    assert most_alive("unrolled", 12) == 11


def test_attention_has_second_derivatives_too():
    network = build_network("ViT", SHAPE, CLASSES, generator("network")).double()
    start = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    given = (start, start + 0.01 * random(len(start), name="target"), *problem("perceptron", False)[2:])
    exact, unrolled = (
        trajectory_gradient(Student(network), *given, batches_of(2), kind) for kind in ("exact", "unrolled")
    )
    assert distance(exact, unrolled) < 1e-10


def compiled_distance(name, soft):
    """How far compiled derivatives are from higher's and TESLA's formula, as relative differences."""
    given, compiled = problem(name, soft), Student(network_of(name), TEMPERATURE, compiled=True)
    found = [
        distance(trajectory_gradient(compiled, *given, batches_of(steps), kind), oracle(name, given, batches_of(steps)))
        for steps in (1, 4, 12)
        for kind, oracle in (("exact", by_higher), ("tesla", by_teslas_formula))
    ]
    assert len(torch._dynamo.utils.counters["stats"]) > 0, "nothing was compiled"
    return max(found)


@pytest.mark.slow
@pytest.mark.parametrize("soft", [False, True], ids=["classes", "logits"])
@pytest.mark.parametrize("name", ["ConvNetD2W6", "ConvNetD2W6BN"])
def test_compiled_derivatives_are_the_same(name, soft):
    # in a process of its own: the compiler does not go through the checks of shapes that tests put into every function
    code = f"import test_trajectory_gradient as t; print(t.compiled_distance({name!r}, {soft}))"
    search = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": search}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-8


@pytest.mark.parametrize("name", ["ConvNetD2W6", "ConvNetD2W6BN"])
def test_the_first_step_asks_for_no_product_with_the_hessian_and_nothing_changes(name):
    given = problem(name, True)

    def of(with_all):
        student, asked = Student(network_of(name)), []
        along = student.derivatives_along

        def watched(*arguments):
            asked.append(arguments[-1])
            return along(*arguments[:-1], with_all or arguments[-1])

        student.derivatives_along = watched
        return trajectory_gradient(student, *given, batches_of(4), "exact"), asked

    (ours, asked), (whole, _) = of(False), of(True)
    assert asked == [True, True, True, False]
    assert distance(ours, whole) < 1e-12


def by_autograd(name, given, batches, momentum, waypoints, scale):
    """L and its gradients of heavy-ball steps with waypoints, through all of them."""
    start, target, images, labels, rate = given
    loss_of = Student(network_of(name), TEMPERATURE).loss
    leaves = [images.clone().requires_grad_(), labels.clone().requires_grad_(labels.is_floating_point())]
    slope, theta, velocity, total = rate.clone().requires_grad_(), start.clone().requires_grad_(), 0, 0
    points = [*waypoints, (len(batches), target, 1.0)]
    for number, batch in enumerate(batches, 1):
        (g,) = torch.autograd.grad(loss_of(theta, *batch(*leaves)), theta, create_graph=True)
        velocity = momentum * velocity + scale * g
        theta = theta - slope * velocity
        for after, where, weight in points:
            if after == number:
                total = total + weight * (theta - where).square().sum() / (start - where).square().sum()
    floats = [leaf for leaf in leaves if leaf.requires_grad]
    *parts, of_rate = torch.autograd.grad(total, [*floats, slope])
    return WindowGradient(total.detach(), parts[0], parts[1] if len(parts) > 1 else None, of_rate)


@pytest.mark.parametrize("soft", [False, True], ids=["classes", "logits"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weights", [(), (1.0, 1.0), (1 / 3, 2 / 3)], ids=["end", "equal", "rising"])
def test_momentum_and_waypoints_equal_autograd(soft, momentum, weights):
    name, batches = "ConvNetD2W6", batches_of(7)
    given = problem(name, soft)
    waypoints = [
        Waypoint(2 * k, given[0] + 0.05 * random(len(given[0]), name=f"waypoint {k}"), weight)
        for k, weight in enumerate(weights, 1)
    ]
    expected = by_autograd(name, given, batches, momentum, waypoints, 1.3)
    for kind in ("exact", "unrolled"):
        found = trajectory_gradient(
            Student(network_of(name), TEMPERATURE),
            *given,
            batches,
            kind,
            momentum=momentum,
            waypoints=waypoints,
            scale=1.3,
        )
        assert distance(found, expected) < 1e-10


def test_of_one_step_the_gradient_does_not_depend_on_momentum():
    given, student = problem("ConvNetD2W6", False), Student(network_of("ConvNetD2W6"), TEMPERATURE)
    without, with_it = (trajectory_gradient(student, *given, batches_of(1), momentum=m) for m in (0.0, 0.9))
    assert distance(with_it, without) < 1e-12


def test_a_loss_times_w_at_a_rate_is_the_loss_at_w_times_the_rate():
    *given, rate = problem("ConvNetD2W6", False)
    student, batches = Student(network_of("ConvNetD2W6"), TEMPERATURE), batches_of(4)
    scaled = trajectory_gradient(student, *given, rate, batches, momentum=0.9, scale=1.7)
    quick = trajectory_gradient(student, *given, 1.7 * rate, batches, momentum=0.9)
    assert float((scaled.images - quick.images).norm() / quick.images.norm()) < 1e-12
    assert float(scaled.learning_rate) == pytest.approx(1.7 * float(quick.learning_rate), rel=1e-12)


def test_tesla_with_momentum_or_waypoints_is_refused():
    given, student = problem("ConvNetD2W6", False), Student(network_of("ConvNetD2W6"))
    for options in ({"momentum": 0.9}, {"waypoints": [Waypoint(1, given[1] + 1, 1.0)]}):
        with pytest.raises(ValueError, match="TESLA's gradient"):
            trajectory_gradient(student, *given, batches_of(2), "tesla", **options)
