"""Steps of optimisers against torch.optim, and the gradient through a window against autograd written out."""

import weakref
from functools import cache

import pytest
import torch
from torch import nn

from distill_bench.networks import build_network
from distill_bench.runtime.seeds import generator
from distill_bench.training.steps import SGD, Adam, advance
from distill_bench.training.student import Student
from distill_bench.training.window import MetaLoss, window_gradient

SHAPE, CLASSES, COUNT, SIZE, BURN, WINDOW = (3, 8, 8), 4, 20, 12, 2, 4
RULES = {
    "plain": SGD(),
    "plain, decay": SGD(weight_decay=5e-3),
    "momentum": SGD(0.9),
    "momentum, decay": SGD(0.9, weight_decay=5e-3),
    "Nesterov": SGD(0.9, nesterov=True, weight_decay=5e-3),
    "Adam": Adam(),
    "Adam, inside": Adam(inside=True),
    "Adam, decay": Adam(epsilon=1e-4, weight_decay=5e-3),
    "Adam, inside, decay": Adam(epsilon=1e-3, inside=True, weight_decay=5e-3),
    "AdamW": Adam(decoupled_decay=0.05),
}


def values(*shape, name="values"):
    return torch.randn(shape, generator=generator(name), dtype=torch.float64)


@cache
def network_of(name):
    if name == "MLP":
        network = nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.Tanh(), nn.Linear(7, CLASSES))
    else:
        network = build_network(name, SHAPE, CLASSES, generator("network"))
    network = network.double()
    for number, parameter in enumerate(network.parameters()):
        noise = 0.2 * values(*parameter.shape, name=f"weights {number}")
        parameter.data = noise if name == "MLP" else parameter.data + noise * (parameter.ndim == 1)
    return network


@cache
def student_of(name, labels="classes"):
    return Student(network_of(name), label_form="weights" if labels == "weights" else "logits")


@cache
def start_of(name):
    return torch.cat([parameter.detach().flatten() for parameter in network_of(name).parameters()])


@cache
def batches_of(steps):
    """Overlapping mini-batches, each with an augmentation of its own that is not linear."""

    def batch(number):
        indices = torch.randperm(COUNT, generator=generator("batch", number))[:SIZE]
        return lambda images, labels: ((images[indices] * (0.5 + 0.2 * number)).sin(), labels[indices])

    return [batch(number) for number in range(steps)]


@cache
def labels_of(kind):
    if kind == "classes":
        return torch.arange(COUNT) % CLASSES
    return values(COUNT, CLASSES, name="labels").abs() if kind == "weights" else values(COUNT, CLASSES, name="labels")


@cache
def real_loss(name):
    """The loss on other images, as a function of parameters."""
    network, images = network_of(name), values(9, *SHAPE, name="real")
    shapes = {key: parameter.shape for key, parameter in network.named_parameters()}

    def loss(theta):
        parts = theta.split([shape.numel() for shape in shapes.values()])
        named = {key: part.view(shape) for (key, shape), part in zip(shapes.items(), parts, strict=True)}
        logits = torch.func.functional_call(network, named, (images,))
        return nn.functional.cross_entropy(logits, torch.arange(9) % CLASSES)

    return loss


def move(rule, theta, state, gradient, rate, number):
    """A step, written from the optimisers' definitions."""
    g = gradient + rule.weight_decay * theta
    if isinstance(rule, SGD):
        b = g if state is None else rule.momentum * state + g
        return theta - rate * (g + rule.momentum * b if rule.nesterov else b), b
    m, v = (0, 0) if state is None else state
    first, second = rule.betas
    m, v = first * m + (1 - first) * g, second * v + (1 - second) * g * g
    corrected = v / (1 - second**number)
    divisor = torch.sqrt(corrected + rule.epsilon) if rule.inside else torch.sqrt(corrected) + rule.epsilon
    return theta * (1 - rate * rule.decoupled_decay) - rate * m / (1 - first**number) / divisor, (m, v)


def by_autograd(name, rule, images, labels, kind, rate, batches, weights, burn=BURN):
    """L and its gradients by autograd through the steps after the first ``burn``."""
    loss_of = student_of(name, kind).loss
    leaves = [images.clone().requires_grad_(), labels.clone().requires_grad_(labels.is_floating_point())]
    slope, theta, state, total = rate.clone().requires_grad_(), start_of(name).clone().requires_grad_(), None, 0
    for number, batch in enumerate(batches, 1):
        inside = number > burn
        x, y = batch(*(leaves if inside else [leaf.detach() for leaf in leaves]))
        (g,) = torch.autograd.grad(loss_of(theta, x, y), theta, create_graph=inside)
        theta, state = move(rule, theta, state, g, slope if inside else rate, number)
        if not inside:
            theta = theta.detach().requires_grad_()
            state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        if number - burn in weights:
            total = total + weights[number - burn] * real_loss(name)(theta)
    floats = [leaf for leaf in leaves if leaf.requires_grad]
    return total.detach(), *torch.autograd.grad(total, [*floats, slope])


def burnt_in(student, rule, name, images, labels, rate, batches):
    """Parameters and state after some steps."""
    theta = start_of(name)
    state = rule.begin(theta)
    for number, batch in enumerate(batches, 1):
        theta, step = advance(rule, theta, state, student.gradient(theta, *batch(images, labels)), rate, number)
        state = step.state
    return theta, state


def found(name, rule, kind, weights, how="exact", done=BURN):
    images, labels, rate = values(COUNT, *SHAPE), labels_of(kind), rate_of(rule)
    batches, student = batches_of(BURN + WINDOW), student_of(name, kind)
    theta, state = burnt_in(student, rule, name, images, labels, rate, batches[:BURN])
    losses = {after: MetaLoss(real_loss(name), weight) for after, weight in weights.items()}
    given = (theta, state, done, images, labels, rate, batches[BURN:], losses, how)
    return [part for part in window_gradient(student, rule, *given) if part is not None]


def rate_of(rule):
    return torch.tensor(0.1 if isinstance(rule, SGD) else 0.01, dtype=torch.float64)


def distance(ours, expected):
    assert len(ours) == len(expected)
    assert all(a.shape == b.shape and b.norm() > 0 for a, b in zip(ours, expected, strict=True))
    return max(float((a - b).norm() / b.norm()) for a, b in zip(ours, expected, strict=True))


CONVOLUTIONS, END, THREE = "ConvNetD2W6NNASwish", {WINDOW: 1.0}, {1: 0.5, 3: 2.0, WINDOW: 1.0}


@pytest.mark.parametrize(
    ("name", "kind", "weights", "kinds"),
    [
        (CONVOLUTIONS, "logits", THREE, ("exact",)),
        ("MLP", "classes", END, ("exact", "unrolled")),
        ("MLP", "weights", THREE, ("exact", "unrolled")),
    ],
    ids=["convolutions, logits, three losses", "MLP, classes, one loss", "MLP, weights, three losses"],
)
@pytest.mark.parametrize("rule", RULES)
def test_the_window_equals_autograd(rule, name, kind, weights, kinds):
    """Of every rule with every form of labels, and with one and several losses."""
    rule = RULES[rule]
    given = (values(COUNT, *SHAPE), labels_of(kind), kind, rate_of(rule), batches_of(BURN + WINDOW), weights)
    expected = by_autograd(name, rule, *given)
    for how in kinds:
        assert distance(found(name, rule, kind, weights, how), expected) < 1e-10


def test_an_unrolled_window_of_convolutions_equals_the_exact_one():
    ours, other = (found(CONVOLUTIONS, RULES["AdamW"], "logits", THREE, how) for how in ("exact", "unrolled"))
    assert distance(ours, other) < 1e-10


@pytest.mark.parametrize(
    ("rule", "optimizer"),
    [
        (SGD(), lambda p: torch.optim.SGD(p, lr=0.05)),
        (SGD(0.9, weight_decay=0.1), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1)),
        (SGD(0.9, nesterov=True), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True)),
        (Adam(weight_decay=0.1), lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1)),
        (Adam(decoupled_decay=0.1), lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1)),
    ],
    ids=["plain", "momentum", "Nesterov", "Adam", "AdamW"],
)
def test_steps_are_those_of_torch(rule, optimizer):
    theta = values(30)
    theirs = nn.Parameter(theta.clone())
    optimizer, state = optimizer([theirs]), rule.begin(theta)
    for number in range(1, 9):
        gradient = values(30, name=f"gradient {number}") + theta
        theirs.grad = gradient.clone()
        optimizer.step()
        theta, step = advance(rule, theta, state, gradient, torch.tensor(0.05, dtype=torch.float64), number)
        state = step.state
        torch.testing.assert_close(theta, theirs.detach(), rtol=1e-12, atol=1e-12)


def test_adam_counts_from_the_start_of_the_training_not_of_the_window():
    given = (values(COUNT, *SHAPE), labels_of("classes"), "classes", rate_of(Adam()), batches_of(BURN + WINDOW))
    expected = by_autograd("MLP", Adam(), *given, {WINDOW: 1.0})
    assert distance(found("MLP", Adam(), "classes", {WINDOW: 1.0}), expected) < 1e-10
    assert distance(found("MLP", Adam(), "classes", {WINDOW: 1.0}, done=0), expected) > 1e-3


@pytest.mark.parametrize(
    ("rule", "factor"),
    [
        (Adam((0.0, 0.0), epsilon=1e12), 1e12),
        (Adam((0.0, 0.0), epsilon=1e24, inside=True), 1e12),
        (SGD(1e-200), 1.0),
        (SGD(1e-200, nesterov=True), 1.0),
    ],
    ids=["Adam of a large epsilon", "Adam of a large epsilon inside", "momentum that vanishes", "Nesterov's"],
)
def test_other_rules_come_to_plain_steps(rule, factor):
    batches, student = batches_of(WINDOW), student_of("MLP")
    losses, theta = {WINDOW: MetaLoss(real_loss("MLP"))}, start_of("MLP")
    rest = (values(COUNT, *SHAPE), labels_of("classes"))
    rate = torch.tensor(0.1, dtype=torch.float64)
    plain = window_gradient(student, SGD(), theta, (), 0, *rest, rate, batches, losses)
    other = window_gradient(student, rule, theta, rule.begin(theta), 0, *rest, rate * factor, batches, losses)
    assert rule.begin(theta)  # another way through the code
    torch.testing.assert_close(other.images, plain.images, rtol=1e-8, atol=1e-14)
    torch.testing.assert_close(other.learning_rate * factor, plain.learning_rate, rtol=1e-8, atol=0)


def most_alive(how, steps, rule):
    """The most augmented batches, with the graphs they hang on, that are alive when another is made."""
    alive, most = weakref.WeakSet(), 0

    def batch(images, labels):
        nonlocal most
        most = max(most, len(alive))
        shown = images.sin()
        alive.add(shown)
        return shown, labels

    student, theta, loss = student_of("MLP"), start_of("MLP"), MetaLoss(real_loss("MLP"))
    given = (theta, rule.begin(theta), 0, values(COUNT, *SHAPE), labels_of("classes"), rate_of(rule))
    window_gradient(student, rule, *given, [batch] * steps, {steps: loss}, how)
    return most


@pytest.mark.parametrize("rule", [SGD(0.9), Adam()], ids=["momentum", "Adam"])
def test_one_steps_graph_is_alive_at_a_time_however_long_the_window(rule):
    assert most_alive("exact", 9, rule) == most_alive("exact", 3, rule) <= 1
    assert most_alive("unrolled", 9, rule) == 8


def test_one_plain_step_is_a_product_of_gradients():
    """∂L/∂x = −η ∇_x⟨g, ∇L(θ′)⟩, by finite differences of x."""
    student, rate, images = student_of("MLP"), torch.tensor(0.1, dtype=torch.float64), values(COUNT, *SHAPE)
    loss, labels, theta = real_loss("MLP"), labels_of("classes"), start_of("MLP")
    batches = [lambda x, y: (x, y)]
    ours = window_gradient(student, SGD(), theta, (), 0, images, labels, rate, batches, {1: MetaLoss(loss)}).images

    def after(x):
        return loss(theta - rate * student.gradient(theta, x, labels))

    way, small = values(COUNT, *SHAPE, name="way"), 1e-5
    slope = (after(images + small * way) - after(images - small * way)) / (2 * small)
    assert float((ours * way).sum()) == pytest.approx(float(slope), rel=1e-7)


def test_parameters_without_a_gradient_leave_adams_finite_and_right():
    """Units that never fire: autograd divides by the root of 0; the recursion and finite differences do not."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Linear(6, CLASSES)).double()
    for number, parameter in enumerate(network.parameters()):
        parameter.data = 0.2 * values(*parameter.shape, name=f"dead {number}")
    network[1].bias.data[:2] = -1e3
    theta = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    student, rule, rate = Student(network), Adam(), torch.tensor(0.01, dtype=torch.float64)
    images, labels, real = values(COUNT, *SHAPE), labels_of("classes"), values(9, *SHAPE, name="real")
    loss = MetaLoss(lambda t: student.loss(t, real, torch.arange(9) % CLASSES))

    def of(x, how="exact"):
        batches = [lambda x, y: (x, y)] * 3
        return window_gradient(student, rule, theta, rule.begin(theta), 0, x, labels, rate, batches, {3: loss}, how)

    ours, way, small = of(images), values(COUNT, *SHAPE, name="way"), 1e-6
    slope = (of(images + small * way).loss - of(images - small * way).loss) / (2 * small)
    assert ours.images.isfinite().all() and not of(images, "unrolled").images.isfinite().all()
    assert float((ours.images * way).sum()) == pytest.approx(float(slope), rel=1e-5)


@pytest.mark.parametrize("rule", [SGD(0.9, weight_decay=5e-3), Adam(decoupled_decay=0.05)], ids=["momentum", "AdamW"])
def test_two_windows_chained_are_one(rule):
    """What the later window says of θ, and of the state, is a loss of where the earlier one ends."""
    images, labels, rate = values(COUNT, *SHAPE), labels_of("classes"), rate_of(rule)
    student, batches, theta = student_of("MLP"), batches_of(4), start_of("MLP")
    loss = MetaLoss(real_loss("MLP"))
    given = (images, labels, rate)
    whole = window_gradient(student, rule, theta, rule.begin(theta), 0, *given, batches, {4: loss})
    taken, state = [], rule.begin(theta)
    for number, batch in enumerate(batches, 1):
        theta, step = advance(rule, theta, state, student.gradient(theta, *batch(images, labels)), rate, number)
        state = step.state
        taken.append(step)
    (adjoint,) = torch.func.grad(real_loss("MLP"), argnums=(0,))(theta)
    cotangents, total = rule.begin(theta), torch.zeros_like(images)
    for batch, step in reversed(list(zip(batches, taken, strict=True))):
        tangent, cotangents = rule.pull_back(step, adjoint, cotangents)
        leaf = images.clone().requires_grad_()
        x, y = batch(leaf, labels)
        inner = student.derivatives_along(step.theta, x.detach(), y, tangent, True)
        total = total - rate * torch.autograd.grad(x, leaf, inner.batch[0])[0]
        kept = adjoint * (1 - rate * rule.decoupled_decay)
        adjoint = kept - rate * (inner.parameters + rule.weight_decay * tangent)
    assert distance([total], [whole.images]) < 1e-12


def test_weights_of_labels_scale_every_plain_step():
    """c·y multiplies each gradient by c, as the rate does."""
    images, labels, batches = values(COUNT, *SHAPE), labels_of("weights"), batches_of(WINDOW)
    student, theta, rate = student_of("MLP", "weights"), start_of("MLP"), torch.tensor(0.1, dtype=torch.float64)
    losses = {WINDOW: MetaLoss(real_loss("MLP"))}
    heavy = window_gradient(student, SGD(), theta, (), 0, images, 3 * labels, rate, batches, losses)
    quick = window_gradient(student, SGD(), theta, (), 0, images, labels, 3 * rate, batches, losses)
    scaled = window_gradient(student, SGD(), theta, (), 0, images, labels, rate, batches, losses, scale=3.0)
    assert distance([heavy.images], [quick.images]) < 1e-12
    assert distance([scaled.images, scaled.learning_rate], [quick.images, 3 * quick.learning_rate]) < 1e-12


def test_losses_outside_of_the_window_and_teslas_gradient_of_momentum_are_refused():
    given = (start_of("MLP"), (), 0, values(COUNT, *SHAPE), labels_of("classes"), rate_of(SGD()), batches_of(2))
    loss = MetaLoss(real_loss("MLP"))
    for losses in ({}, {0: loss}, {3: loss}):
        with pytest.raises(ValueError, match="losses after steps"):
            window_gradient(student_of("MLP"), SGD(), *given, losses)
    for rule, losses in ((SGD(0.9), {2: loss}), (SGD(weight_decay=0.1), {2: loss}), (SGD(), {1: loss, 2: loss})):
        with pytest.raises(ValueError, match="TESLA's gradient"):
            window_gradient(student_of("MLP"), rule, *given, losses, "tesla")
