"""The one SGD loop against the update rule written out in float64."""

import math

import pytest
import torch
from torch import nn

from distill_bench.errors import RunFailed
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.seeds import generator
from distill_bench.training.train import TEST_BATCH, Plan, TrainState, accuracy, table_batches, train

COUNT, CLASSES = 10, 3
IMAGES = torch.randn(COUNT, 1, 2, 2, generator=generator("images"), dtype=torch.float64)
LABELS = torch.arange(COUNT) % CLASSES
SOFT = torch.rand(COUNT, CLASSES, generator=generator("soft"), dtype=torch.float64).softmax(dim=1)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES)).double()


def by_hand(targets, plan, draws, augment=None):
    """(weights, last epoch's mean loss): a two-layer network, its loss and SGD, spelled out."""
    weights = [p.detach().clone().requires_grad_() for p in network().parameters()]
    steps, taken = plan.epochs * math.ceil(COUNT / plan.batch_size), 0
    velocity, rate, loss_of_epoch = [None] * len(weights), plan.learning_rate, math.nan
    momentum = plan.momentum
    if targets.ndim == 1:
        targets = torch.eye(CLASSES, dtype=torch.float64)[targets]
    for epoch in range(plan.epochs):
        if plan.decay_after is not None and epoch in [plan.decay_after * k for k in range(1, plan.decays + 1)]:
            rate = rate * plan.decay_factor
            if plan.reset_momentum:
                velocity = [None] * len(weights)
                momentum = momentum if plan.decayed_momentum is None else plan.decayed_momentum
        order, loss_of_epoch = torch.randperm(COUNT, generator=draws).tolist(), 0.0
        for start in range(0, COUNT, plan.batch_size):
            chosen = order[start : start + plan.batch_size]
            images = IMAGES[chosen] if augment is None else augment(IMAGES[chosen], draws)
            logits = (images.flatten(1) @ weights[0].mT + weights[1]).tanh() @ weights[2].mT + weights[3]
            logits = logits / plan.temperature
            log_probabilities = logits - logits.exp().sum(dim=1, keepdim=True).log()
            loss = -(targets[chosen] * log_probabilities).sum() / len(chosen)
            loss_of_epoch += loss.item() * len(chosen) / COUNT
            with torch.no_grad():
                if plan.annealing:  # CosineAnnealingLR(T_max=steps, eta_min=floor)
                    rate = plan.floor + (plan.learning_rate - plan.floor) * (1 + math.cos(math.pi * taken / steps)) / 2
                taken += 1
                for index, gradient in enumerate(torch.autograd.grad(loss, weights)):
                    step = gradient + plan.weight_decay * weights[index]
                    old = velocity[index]
                    velocity[index] = step if old is None else momentum * old + step
                    ahead = step + momentum * velocity[index] if plan.nesterov else velocity[index]
                    weights[index] -= rate * ahead
    return weights, loss_of_epoch


def add_noise(images, draws):
    return images + 0.1 * torch.randn(images.shape, generator=draws, dtype=images.dtype)


ROWS, NOISY = (table_batches(IMAGES.__getitem__, LABELS, augment) for augment in (None, add_noise))
BASE = {"epochs": 5, "batch_size": 4, "learning_rate": 0.3}
PLANS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "weight decay": {"weight_decay": 0.1},
    "all": {"momentum": 0.9, "weight_decay": 0.1, "decay_after": 2},
    "reset": {"momentum": 0.9, "weight_decay": 0.1, "decay_after": 2, "reset_momentum": True},
    "other momentum": {"momentum": 0.9, "decay_after": 2, "reset_momentum": True, "decayed_momentum": 0.5},
    "other factor": {"momentum": 0.5, "decay_after": 3, "decay_factor": 0.5},
    "three decays": {"decay_after": 1, "decay_factor": 0.5, "decays": 3},
    "decay at once": {"decay_after": 0},
    "decay never reached": {"decay_after": 5},
    "one batch": {"batch_size": 256, "momentum": 0.9},
    "temperature": {"temperature": 4.0},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "cosine by steps": {"annealing": 1.0, "anneal_every": "step"},
    "floor": {"annealing": 1.0, "anneal_every": "step", "floor": 0.05},
}


@pytest.mark.parametrize("augment", [None, add_noise], ids=["plain", "augmented"])
@pytest.mark.parametrize("targets", [LABELS, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("options", PLANS.values(), ids=PLANS)
def test_training_is_sgd_written_out(options, targets, augment):
    plan, trained = Plan(**BASE | options), network()
    loss = train(trained, table_batches(IMAGES.__getitem__, targets, augment), COUNT, plan, generator("order"))
    expected, expected_loss = by_hand(targets, plan, generator("order"), augment)
    assert loss == pytest.approx(expected_loss, rel=1e-6)  # summed in float32
    for found, wanted in zip(trained.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted.detach(), rtol=1e-10, atol=1e-12)


def test_the_options_that_the_reference_is_compared_on_make_a_difference():
    ends = [by_hand(LABELS, Plan(**BASE | options), generator("order"))[0][0] for options in PLANS.values()]
    same = {("plain", "decay never reached")}
    for i, first in enumerate(PLANS):
        for j, second in list(enumerate(PLANS))[i + 1 :]:
            assert torch.allclose(ends[i], ends[j], rtol=0, atol=1e-9) == ((first, second) in same), (first, second)


def test_the_order_of_the_images_is_the_generators_and_the_last_batch_has_the_rest():
    fetched = []

    def fetch(indices):
        fetched.append(indices.tolist())
        return IMAGES[indices]

    plan = Plan(epochs=2, batch_size=4, learning_rate=0.1)
    train(network(), table_batches(fetch, LABELS), COUNT, plan, generator("order"))
    assert [len(batch) for batch in fetched] == [4, 4, 2] * 2
    draws = generator("order")
    for epoch in (fetched[:3], fetched[3:]):
        assert [i for batch in epoch for i in batch] == torch.randperm(COUNT, generator=draws).tolist()


def test_augmentation_is_handed_every_batch_and_the_generator_of_the_training():
    seen, draws = [], generator("order")

    def augment(images, given):
        seen.append((len(images), given))
        return images

    batches = table_batches(IMAGES.__getitem__, LABELS, augment)
    train(network(), batches, COUNT, Plan(epochs=1, batch_size=4, learning_rate=0.1), draws)
    assert seen == [(4, draws), (4, draws), (2, draws)]


def test_after_epoch_is_called_once_an_epoch():
    calls = []
    plan = Plan(epochs=7, batch_size=4, learning_rate=0.1)
    train(network(), ROWS, COUNT, plan, generator("order"), after_epoch=lambda: calls.append(1))
    assert len(calls) == 7


def test_divergence_is_reported_with_its_epoch_and_the_learning_rate():
    reads = []

    def fetch(indices):
        reads.append(indices)
        return IMAGES[indices] * (math.nan if len(reads) > 6 else 1)  # from the third epoch's first batch on

    with pytest.raises(RunFailed, match=r"loss is nan after epoch 3 of 5 at learning rate 0\.3") as error:
        train(network(), table_batches(fetch, LABELS), COUNT, Plan(**BASE), generator("order"))
    assert error.value.exit_code == 1


def test_a_rate_far_too_high_is_found_out():
    # a linear network: the logits grow without bound
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, CLASSES)).double()
    plan = Plan(epochs=2000, batch_size=4, learning_rate=1e30, momentum=0.9, weight_decay=1.0)
    with pytest.raises(RunFailed, match=r"at learning rate 1e\+30"):
        train(linear, ROWS, COUNT, plan, generator("order"))


class Says(nn.Module):
    """Gives its input as logits, and notes how it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, logits):
        self.asked.append((self.training, torch.is_inference_mode_enabled(), len(logits)))
        return logits


def test_accuracy_is_the_percentage_of_largest_logits_that_are_the_labels():
    count = 2 * TEST_BATCH + 1
    logits = torch.randn(count, 4, generator=generator("logits"))
    labels = torch.randint(4, (count,), generator=generator("labels"))
    says = Says().train()
    right = sum(max(range(4), key=row.__getitem__) == int(labels[i]) for i, row in enumerate(logits.tolist()))
    assert accuracy(says, logits.__getitem__, labels) == pytest.approx(100 * right / count, rel=1e-12)
    assert says.asked == [(False, True, TEST_BATCH), (False, True, TEST_BATCH), (False, True, 1)]


@pytest.mark.parametrize(("labels", "percent"), [([0, 1, 2], 100.0), ([1, 2, 0], 0.0), ([0, 1, 0], 200 / 3)])
def test_accuracy_by_hand(labels, percent):
    assert accuracy(Says(), torch.eye(3).__getitem__, torch.tensor(labels)) == pytest.approx(percent)


def test_training_is_in_training_mode_and_testing_leaves_running_statistics_alone():
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, CLASSES)).double().eval()
    train(net, ROWS, COUNT, Plan(epochs=1, batch_size=4, learning_rate=0.1), generator("order"))
    after = net[0].running_mean.clone()
    assert net.training and after.abs() > 0
    accuracy(net, IMAGES.__getitem__, LABELS)
    assert torch.equal(net[0].running_mean, after)


@pytest.mark.usefixtures("global_rng_untouched")
def test_the_global_generator_is_left_alone():
    net = network()
    train(net, NOISY, COUNT, Plan(**BASE), generator("order"))
    accuracy(net, IMAGES.__getitem__, LABELS)


@pytest.mark.parametrize("everything", [False, True])
def test_adamw_decays_biases_where_it_is_asked_to(everything):
    def no_slope(net, loss_of):
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        return loss_of()

    net, rates = network(), {"learning_rate": 0.1, "weight_decay": 0.5, "optimizer": "adamw", "decay_all": everything}
    train(net, ROWS, COUNT, Plan(epochs=2, batch_size=COUNT, **rates), generator("order"), gradient=no_slope)
    for found, first in zip(net.parameters(), network().parameters(), strict=True):
        factor = (1 - 0.1 * 0.5) ** 2 if everything or first.ndim > 1 else 1.0
        torch.testing.assert_close(found, first * factor, rtol=0, atol=1e-15)


class Cut(Exception):
    """The process ends here."""


RESUMED = PLANS | {"adamw": {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1, "annealing": 1.0}}


@pytest.mark.parametrize("after", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", ["plain", "momentum", "all", "reset", "adamw", "floor"])
def test_a_training_cut_between_epochs_goes_on_to_the_same_weights(name, after, tmp_path):
    plan, whole, part = Plan(**BASE | RESUMED[name]), network(), network()
    loss = train(whole, NOISY, COUNT, plan, generator("order"))
    state, file = TrainState(), tmp_path / "work.safetensors"

    def cut():
        if state.epoch == after:
            Checkpoint(file).save({"network": part.state_dict(), "training": vars(state)})
            raise Cut

    with pytest.raises(Cut):
        train(part, NOISY, COUNT, plan, generator("order"), cut, state)
    saved, again = Checkpoint(file).load(), network()
    again.load_state_dict(saved["network"])
    unrelated = generator("another stream, at another place")
    assert train(again, NOISY, COUNT, plan, unrelated, state=TrainState(**saved["training"])) == loss
    for found, wanted in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(found, wanted)


def test_a_diverged_epoch_is_never_handed_on():
    plan, calls = Plan(epochs=3, batch_size=4, learning_rate=math.inf), []
    with pytest.raises(RunFailed):
        train(network(), ROWS, COUNT, plan, generator("order"), lambda: calls.append(1))
    assert calls == []
