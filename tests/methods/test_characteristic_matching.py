"""NCFM in float64: the discrepancy against complex exponentials and closed forms, its steps against slow ones."""

import math

import pytest
import torch
from matching_oracles import CLASSES, IPC, REAL, check_slopes, draws_of, network_of, run_of, start
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from distill_bench import synthesize
from distill_bench.augmentations import dsa
from distill_bench.errors import UsageError
from distill_bench.methods import load_method
from distill_bench.methods.mean_matching import characteristic_matching as NCFM
from distill_bench.methods.mean_matching import pool as POOL
from distill_bench.methods.mean_matching.characteristic import FrequencyNetwork, ascend, discrepancy, waves
from distill_bench.methods.mean_matching.mean_matching import class_means
from distill_bench.networks.initialise import initialise
from distill_bench.runtime.seeds import generator

NAME = "ConvNetD1W4ASwish"
WIDTH = 4 * 3 * 3


def random(*shape, name="values"):
    return torch.randn(*shape, generator=generator("characteristic", name), dtype=torch.float64)


def apart(synthetic, real, frequencies, amplitude=0.5):
    """The discrepancy of two sets of one class."""
    means = [[part.mean(dim=0, keepdim=True) for part in waves(each, frequencies)] for each in (synthetic, real)]
    return discrepancy(*means, amplitude)


def by_complex_numbers(synthetic, real, frequencies, amplitude):
    """Eq. 6 as it is written."""
    ours, theirs = (torch.exp(1j * (rows @ frequencies.mT)).mean(dim=0) for rows in (synthetic, real))
    lengths = (theirs.abs() - ours.abs()) ** 2
    phases = 2 * (theirs.abs() * ours.abs() - (theirs * ours.conj()).real)
    return torch.sqrt(amplitude * lengths + (1 - amplitude) * phases).mean()


@pytest.mark.parametrize("amplitude", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_the_discrepancy_is_that_of_complex_exponentials(amplitude):
    ours, theirs, frequencies = random(4, 5, name="ours"), random(7, 5), random(6, 5, name="t")
    wanted = by_complex_numbers(ours, theirs, frequencies, amplitude)
    torch.testing.assert_close(apart(ours, theirs, frequencies, amplitude), wanted, rtol=1e-6, atol=0)
    both = [torch.cat([a, b]) for a, b in ((ours, theirs), (theirs, ours))]
    means = [[class_means(part, sizes) for part in waves(rows, frequencies)]
             for rows, sizes in zip(both, ((4, 7), (7, 4)), strict=True)]  # fmt: skip
    torch.testing.assert_close(discrepancy(*means, amplitude), 2 * wanted, rtol=1e-6, atol=0)  # summed over classes


def test_at_a_half_it_is_the_distance_over_the_root_of_two():
    ours, theirs, frequencies = random(4, 5, name="ours"), random(7, 5), random(6, 5, name="t")
    difference = torch.exp(1j * (ours @ frequencies.mT)).mean(dim=0) - torch.exp(1j * (theirs @ frequencies.mT)).mean(
        dim=0
    )
    wanted = (difference.abs().square() / 2 + 1e-12).sqrt().mean()
    torch.testing.assert_close(apart(ours, theirs, frequencies), wanted, rtol=1e-14, atol=0)


@pytest.mark.parametrize("amplitude", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_sets_are_as_far_apart_as_the_smoothing_with_a_finite_slope(amplitude, dtype):
    rows, frequencies = random(6, 5).to(dtype), random(40, 5, name="t").to(dtype)
    leaf = rows.clone().requires_grad_()
    loss = apart(leaf, rows, frequencies, amplitude)
    assert loss.item() == pytest.approx(1e-6, rel=1e-3)
    assert torch.autograd.grad(loss, leaf)[0].isfinite().all()
    spread = torch.full((1, 40), 0.0, dtype=dtype).requires_grad_()  # Φ̃ = 0, whose length has no slope
    loss = discrepancy([spread, spread], [part.mean(0, keepdim=True) for part in waves(rows, frequencies)], amplitude)
    assert torch.autograd.grad(loss, spread)[0].isfinite().all()


def test_over_normal_frequencies_the_mean_square_is_the_gaussian_kernels_discrepancy():
    ours, theirs = F.normalize(random(4, 8, name="ours"), dim=1), F.normalize(random(6, 8), dim=1)
    frequencies = random(200_000, 8, name="t")
    a, b = ([part.mean(dim=0) for part in waves(rows, frequencies)] for rows in (ours, theirs))
    squares = sum((one - other).square() for one, other in zip(a, b, strict=True))

    def kernel(one, other):
        return torch.exp(-torch.cdist(one, other).square() / 2).mean()

    wanted = kernel(ours, ours) + kernel(theirs, theirs) - 2 * kernel(ours, theirs)
    assert abs(squares.mean() - wanted) < 4 * squares.std() / len(squares) ** 0.5
    assert squares.std() / len(squares) ** 0.5 < 0.01 * wanted


def test_of_normal_samples_it_is_the_known_function():
    middle, count = torch.tensor([0.5, -1.0, 0.25], dtype=torch.float64), 40_000
    frequencies = random(20, 3, name="t")
    real, imaginary = (part.mean(dim=0) for part in waves(middle + random(count, 3), frequencies))
    wanted = torch.exp(1j * (frequencies @ middle) - frequencies.square().sum(dim=1) / 2)
    assert (torch.complex(real, imaginary) - wanted).abs().max() < 2 / math.sqrt(count) * 1.5


def test_a_shift_changes_phases_alone():
    rows, frequencies, by = random(7, 5), random(9, 5, name="t"), random(5, name="shift")
    assert apart(rows + by, rows, frequencies, 1.0).item() < 1.1e-6
    lengths = torch.exp(1j * (rows @ frequencies.mT)).mean(dim=0).abs()
    wanted = (2 * lengths.square() * (1 - (frequencies @ by).cos())).sqrt().mean()
    torch.testing.assert_close(apart(rows + by, rows, frequencies, 0.0), wanted, rtol=1e-8, atol=0)


def test_its_slope_through_the_normalisation_is_right():
    theirs, frequencies = F.normalize(random(6, 5), dim=1), random(7, 5, name="t")

    def loss(rows):
        return apart(F.normalize(rows, dim=1), theirs, frequencies, 0.7)

    assert torch.autograd.gradcheck(loss, (random(3, 5, name="ours").requires_grad_(),))


def test_neither_order_nor_copies_of_a_set_matter():
    ours, theirs, frequencies = random(4, 5, name="ours"), random(7, 5), random(6, 5, name="t")
    value = apart(ours, theirs, frequencies)
    for same in (ours.flip(0), ours.repeat(3, 1)):
        torch.testing.assert_close(apart(same, theirs, frequencies), value, rtol=1e-13, atol=0)


# --- where they are compared


def frequency_network(width=6):
    return initialise(FrequencyNetwork(width), generator("frequency network")).double()


def test_frequencies_are_a_scale_mixture_of_normals_whose_scales_have_a_mean_square_of_one():
    network, noise = frequency_network(), random(3, 6, name="noise")
    directions = random(11, 6, name="z")
    scales = network(noise, torch.ones(3, 6, dtype=torch.float64))
    assert scales.square().mean().item() == pytest.approx(1)
    assert scales.std(dim=0).min() > 0
    rows = [scales[k % 3] * directions[k] for k in range(11)]
    torch.testing.assert_close(network(noise, directions), torch.stack(rows))
    with torch.no_grad():
        network.layers[6].weight *= 5  # saturated: still no larger
    assert network(noise, torch.ones(3, 6, dtype=torch.float64)).square().mean().item() == pytest.approx(1)


@pytest.mark.parametrize("amplitude", [0.5, 0.9])
def test_the_networks_step_raises_the_discrepancy_by_rate_times_the_squared_slope(amplitude):
    network, noise, directions = frequency_network(), random(3, 6, name="noise"), random(40, 6, name="z")
    ours = [F.normalize(random(count, 6, name=f"ours {count}"), dim=1) for count in (2, 3)]
    theirs = [F.normalize(random(count, 6, name=f"real {count}"), dim=1) for count in (5, 4)]
    before = [rows.clone() for rows in (*ours, *theirs)]

    def value():
        return sum(apart(a, b, network(noise, directions), amplitude) for a, b in zip(ours, theirs, strict=True))

    slope = torch.autograd.grad(first := value(), list(network.parameters()))
    steepness = sum(part.square().sum() for part in slope)
    for rate in (1e-5, 1e-6):
        network = frequency_network()
        ascend(network, noise, directions, ours, theirs, amplitude, rate)
        torch.testing.assert_close((value() - first) / rate, steepness, rtol=1e4 * rate, atol=0)
    assert steepness > 0
    assert all(torch.equal(*pair) for pair in zip(before, (*ours, *theirs), strict=True))
    assert all(parameter.grad is None for parameter in network.parameters())


# --- a step


class Ends:
    """Two experts of two snapshots each."""

    epochs = 1

    def __len__(self):
        return 2

    def snapshot(self, expert, epoch):
        return parameters_to_vector(network_of(NAME, 10 * expert + epoch).parameters()).detach()


@pytest.fixture
def objective(monkeypatch):
    """From fields to the objective of a small run in float64, and the run."""
    monkeypatch.setattr(POOL, "experts_asked_for", lambda run: Ends())

    def make(images=None, **fields):
        common = {"iterations": 4, "image_lr": 0.1, "real_batch": REAL, "frequencies": 32, "formation": 2}
        job = run_of(NCFM.CharacteristicConfig(**common | {"network": NAME, "augment": "dsa"} | fields))
        images = start() if images is None else images
        made = NCFM.CharacteristicMatching(job, images, torch.optim.SGD([images], lr=0.1))
        drawn = made._draws
        made._draws = lambda step: tuple(each.double() for each in drawn(step))
        if made._net is not None:
            made._net.double()
        return made, job

    return make


def mixed_by_hand(job, step):
    draws = job.generator("pool", step)
    expert, share = int(torch.randint(2, (), generator=draws)), float(torch.rand((), generator=draws))
    share = {"uniform": share, "random": 1.0, "trained": 0.0}[job.config.mixture]
    ends = [network_of(NAME, 10 * expert + epoch) for epoch in (0, -1)]
    mixed = network_of(NAME)
    with torch.no_grad():
        for own, first, last in zip(*(network.parameters() for network in (mixed, *ends)), strict=True):
            own.copy_(share * first + (1 - share) * last)
    return mixed, ends[1]


def shown_by_hand(images):
    parts = [image[:, y : y + 3, x : x + 3] for image in images for y in (0, 3) for x in (0, 3)]
    return F.interpolate(torch.stack(parts), size=6, mode="bilinear", align_corners=False)


def loss_by_hand(made, job, step, images, order=range(CLASSES)):
    """The step's loss, class by class in any order, in complex numbers."""
    config, (network, trained) = job.config, mixed_by_hand(job, step)
    frequencies, drawn = made._frequencies(step), [*draws_of(job, step)]
    total = 0.0
    for label in order:
        real, sample = drawn[label]
        own = shown_by_hand(images[label * IPC : (label + 1) * IPC])
        own = torch.cat([own, own[..., torch.arange(5, -1, -1)]]) if config.flip else own
        seen = [network.embed(dsa.apply(sample, each)) for each in (own, real)]
        if config.distance == "mean":
            total = total + (seen[0].mean(dim=0) - seen[1].mean(dim=0)).square().sum()
        else:
            unit = [each / each.norm(dim=1, keepdim=True) for each in seen]
            total = total + config.loss_scale * by_complex_numbers(*unit, frequencies, config.amplitude)
        if config.calibration:
            draws, names = job.generator(f"calibrate {label}", step), dsa.usual_operations(True)
            augmented = dsa.apply(dsa.sample(names, len(own), images.shape[1:], draws), own)
            picked = trained(augmented).log_softmax(dim=1)[:, label]
            total = total - config.calibration * picked.mean()
    return total


VARIANTS = {
    "uniform": {"amplitude": 0.7},
    "random end, no calibration": {"mixture": "random", "calibration": 0.0},
    "trained end, frequency network": {"mixture": "trained", "frequency_net": True, "calibration": 3.0},
    "chunks": {"chunk": 5, "frequency_net": True},
    "means": {"distance": "mean"},
    "mirrored": {"flip": True, "calibration": 3.0},
}


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_the_gradient_of_a_step_is_that_of_the_loss_by_hand_in_any_order_of_classes(objective, fields):
    made, job = objective(**fields)
    images = start()
    wanted = loss_by_hand(made, job, 2, images, reversed(range(CLASSES)))
    expected = lambda pixels: loss_by_hand(fresh, job, 2, pixels)  # noqa: E731 (the network moves in the step)
    fresh, _ = objective(**fields)
    loss, gradients = made.loss_and_grads(2)
    torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=0)
    check_slopes(expected, images, gradients["images"])


def test_mirror_images_count_in_the_memory_of_the_calibration(digits):
    """Of a large IPC beside few real images the calibration is what takes most."""
    fields = {"iterations": 1, "image_lr": 0.1, "real_batch": 1, "frequencies": 1, "chunk": 1, "network": "ConvNetD1"}
    plain, mirrored = (NCFM.CharacteristicConfig(**fields, flip=flip).step_bytes(digits, 500) for flip in (False, True))
    assert 1.9 < mirrored / plain <= 2


def test_a_step_moves_the_frequency_network_on_the_features_it_saw_and_chunks_change_nothing(objective):
    states = []
    for chunk in (0, 5, 7):
        made, job = objective(frequency_net=True, chunk=chunk, frequency_lr=0.01, loss_scale=3.0)
        before = made._net.layers[0].weight.clone()
        loss, gradients = made.loss_and_grads(1)
        states.append((loss, gradients["images"], *made._net.parameters()))
        assert not torch.equal(before, made._net.layers[0].weight)
    for other in states[1:]:
        for ours, theirs in zip(states[0], other, strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-10, atol=1e-12)
    network, _ = mixed_by_hand(job, 1)
    drawn = [*draws_of(job, 1)]
    parts = start().split(IPC)
    ours = [dsa.apply(sample, shown_by_hand(own)) for own, (_, sample) in zip(parts, drawn, strict=True)]
    theirs = [dsa.apply(sample, real) for real, sample in drawn]
    ours, theirs = ([F.normalize(network.embed(own), dim=1).detach() for own in each] for each in (ours, theirs))
    by_hand, _ = objective(frequency_net=True)
    ascend(by_hand._net, *made._draws(1), ours, theirs, 0.5, 3 * 0.01)
    for moved, wanted in zip(made._net.parameters(), by_hand._net.parameters(), strict=True):
        torch.testing.assert_close(moved, wanted, rtol=1e-10, atol=1e-12)


def test_both_ends_of_a_mixture_are_the_snapshots_to_the_bit():
    first, last = random(50, name="first").float(), random(50, name="last").float()
    assert torch.equal(POOL.mix(first, last, 1.0), first) and torch.equal(POOL.mix(first, last, 0.0), last)


def test_the_rate_falls_as_torchs_scheduler_lets_it(objective):
    losses = [3.0, 2.0, 2.5, 2.0, 1.99995, 2.1, 1.0, 1.5, 1.2, 1.1, 1.05, 1.3, 1.4, 0.5]
    made, job = objective(plateau_patience=2)
    other = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(other, factor=0.5, patience=2)
    rates = []
    for loss in losses:
        job.history.append(loss)
        made._wait_for_plateau()
        scheduler.step(loss)
        rates.append(made._optimizer.param_groups[0]["lr"])
        assert rates[-1] == pytest.approx(other.param_groups[0]["lr"], rel=1e-12)
    assert len(set(rates)) == 4


def test_steps_wait_for_the_plateau_and_the_images_decay_as_the_recipe_says(objective, monkeypatch):
    made, job = objective(plateau_patience=1)
    for step in range(4):
        made.loss_and_grads(step)
        job.history.append(1.0)
    assert made._optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    taken = {}
    monkeypatch.setattr(
        NCFM, "optimise", lambda run, objective, learnables, optimizers, steps: taken.update(optimizers)
    )
    for optimizer in ("adamw", "sgd"):
        _, job = objective(optimizer=optimizer, weight_decay=0.25)
        NCFM.characteristic_matching(job)
        assert taken["images"].param_groups[0]["weight_decay"] == 0.25


@pytest.mark.parametrize("stop", [5, 9])
def test_a_resumed_run_waits_for_the_plateau_where_it_was(objective, stop):
    losses, rates = [3.0, 2.0, 2.5, 2.2, 2.1, 2.3, 2.4, 1.9, 2.0, 2.0, 2.0], []
    for resumed in (False, True):
        made, job = objective(plateau_patience=2)
        for step, loss in enumerate(losses):
            if resumed and step == stop:
                rate, state = made._optimizer.param_groups[0]["lr"], made.state()
                made, job = objective(plateau_patience=2)
                made.restore(state)
                made._optimizer.param_groups[0]["lr"] = rate  # which the optimiser's own state has
            job.history.append(loss)
            made._wait_for_plateau()
        rates.append(made._optimizer.param_groups[0]["lr"])
    assert rates[0] == rates[1] < 0.1


def test_pixels_stay_in_the_range_of_real_ones(digits):
    made = synthesize(digits, "ncfm", ipc=1, preset="test", image_lr=10.0)
    pixels = made.images * torch.tensor(digits.std) + torch.tensor(digits.mean)
    assert pixels.min() > -1e-6 and pixels.max() < 1 + 1e-6


def test_what_has_no_meaning_is_refused_and_a_network_of_frequencies_needs_two_rows():
    with pytest.raises(UsageError, match="give frequencies = 32 or more"):
        load_method("ncfm").config("digits", 1, "test", frequencies=31)
    with pytest.raises(UsageError, match="leave one out"):
        load_method("ncfm").config("digits", 1, "test", distance="mean")
    with pytest.raises(UsageError, match="amplitude"):
        load_method("ncfm").config("digits", 1, "test", amplitude=1.5)


@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar100", "tiny_imagenet"])
@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_the_scaled_down_rate_is_of_the_optimiser_it_was_chosen_for(name, ipc):
    found = load_method("ncfm").config(name, ipc, "cpu")
    assert (found.optimizer, found.image_lr) == ("adamw", 0.02)
