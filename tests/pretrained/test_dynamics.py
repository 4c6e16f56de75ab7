"""Training dynamics: what a network made of the images then; kept once, and resumed to the same bytes."""

import dataclasses

import pytest
import torch
from pretraining import StopsAfter, data

from distill_bench import Interrupted, UsageError
from distill_bench.networks import build_network
from distill_bench.pretrained.dynamics import KIND, get_or_record_dynamics, outcomes
from distill_bench.pretrained.store import list_stored
from distill_bench.pretrained.teachers import TeacherRecipe, get_or_train_teacher
from distill_bench.runtime.seeds import generator
from distill_bench.training.train import TrainState, table_batches, train

QUICK = TeacherRecipe(network="ConvNetD1W4", epochs=3, learning_rate=0.05, augment="none")
NAMES = ("correct", "true", "other", "error")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def record(digits, when="epoch", recipe=QUICK, seed=0, number=0, **how):
    return get_or_record_dynamics(data(digits), recipe, seed, number, when, **how)


def by_hand(digits, when):
    """The same training, and what it shows of every image in every epoch."""
    training = data(digits)
    network = build_network("ConvNetD1W4", training.shape, 10, generator(0, "dynamics", 0, "weights"))
    images, labels = training.images(torch.arange(len(training))), training.labels
    plain, rows = table_batches(images.__getitem__, labels), [torch.zeros(4, len(training)) for _ in range(3)]

    def batches(epoch, indices, draws):
        if when == "visit":
            with torch.no_grad():
                rows[epoch][:, indices] = outcomes(network(images[indices]), labels[indices])
        return plain(epoch, indices, draws)

    def after_epoch():
        if when == "epoch":
            with torch.no_grad():
                rows[state.epoch - 1][:] = outcomes(network(images), labels)

    state, draws = TrainState(), generator(0, "dynamics", 0, "training")
    train(network, batches, len(training), QUICK.plan(len(training)), draws, after_epoch, state)
    return network, torch.stack(rows, dim=1)


@pytest.mark.parametrize("when", ["visit", "epoch"])
def test_rows_are_what_the_network_made_of_every_image_at_that_moment(digits, when):
    dynamics = record(digits, when)
    network, rows = by_hand(digits, when)
    for name, tensor in dynamics.teacher.network.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name])
    assert torch.equal(dynamics.correct, rows[0].bool())
    for name, expected in zip(NAMES[1:], rows[1:], strict=True):
        found = getattr(dynamics, name)
        assert found.dtype == torch.float16 and found.shape == (3, len(digits.train))
        torch.testing.assert_close(found.float(), expected, atol=1e-3, rtol=1e-3)


def test_a_network_of_the_epochs_is_asked_without_augmentation_and_of_visits_with_it(digits):
    augmented = QUICK.model_copy(update={"augment": "dsa"})
    visit, epoch = (record(digits, when, augmented) for when in ("visit", "epoch"))
    assert not torch.equal(visit.error, epoch.error)
    with torch.inference_mode():
        training = data(digits)
        seen = outcomes(epoch.teacher.network(training.images(torch.arange(len(training)))), training.labels)
    torch.testing.assert_close(epoch.error[-1].float(), seen[3], atol=1e-3, rtol=1e-3)
    assert float((visit.error[-1].float() - seen[3]).abs().max()) > 0.1


def test_everything_dynamics_depend_on_is_in_their_address(digits):
    renamed = dataclasses.replace(digits, class_names=tuple("abcdefghij"), _cache={})
    others = [
        {"when": "visit"},
        {"seed": 1},
        {"number": 1},
        {"recipe": QUICK.model_copy(update={"epochs": 2})},
    ]
    keys = [record(digits, **other).teacher.pretrained.key for other in [{}, *others, {}]]
    keys += [record(source).teacher.pretrained.key for source in (digits.with_holdout(0.2), renamed)]
    assert len(set(keys)) == len(keys) - 1 == len(list_stored(KIND))
    piece = record(digits, "visit").teacher.pretrained
    assert (piece.identity["when"], piece.identity["index"], piece.history["dataset"]) == ("visit", 0, "digits")
    assert len(list_stored(KIND)) == len(set(keys))


@pytest.mark.parametrize("when", ["visit", "epoch"])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_stopped_between_epochs_they_have_the_same_bytes(digits, when, epoch, tmp_path, monkeypatch):
    recipe = QUICK.model_copy(update={"network": "ConvNetD1W4BN", "augment": "dsa"})
    whole = record(digits, when, recipe).teacher.pretrained.path.read_bytes()
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "another"))
    with pytest.raises(Interrupted, match=f"{epoch} of 3 epochs of training dynamics"):
        record(digits, when, recipe, monitor=StopsAfter(epoch))
    assert list_stored(KIND) == []
    assert record(digits, when, recipe).teacher.pretrained.path.read_bytes() == whole


def test_recording_does_not_change_the_training(digits):
    """Batch norm sees the images that are asked about after an epoch, and must not learn from them."""
    recipe = QUICK.model_copy(update={"network": "ConvNetD1W4BN"})
    visit, epoch = (record(digits, when, recipe).teacher.network.state_dict() for when in ("visit", "epoch"))
    assert all(torch.equal(visit[name], epoch[name]) for name in visit)


def test_networks_of_a_seed_and_its_teacher_are_different(digits):
    networks = [record(digits, number=number).teacher.network for number in (0, 1)]
    networks.append(get_or_train_teacher(data(digits), QUICK, 0).network)
    first = [network.classifier.weight for network in networks]
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])


def test_weights_from_elsewhere_have_no_dynamics(digits):
    weights = TeacherRecipe(weights="torchvision:ResNet18_Weights.IMAGENET1K_V1")
    with pytest.raises(UsageError, match="weights from elsewhere come without their training"):
        record(digits, recipe=weights)
