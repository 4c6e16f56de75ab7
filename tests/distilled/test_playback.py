"""Sets in a training loop of one's own: what networks are shown there is what the evaluator shows them."""

import pytest
import torch
from forms_table import KINDS, made, pixels, projected, recorded, taught
from torch.nn import functional as F

from distill_bench import DistilledSet, Playback, stored_projector, stored_teacher
from distill_bench.datasets.pixel_space import Transform, pixel_space_of
from distill_bench.distilled.playback import training_images
from distill_bench.distilled.recorded_labels import RecordedLabels
from distill_bench.errors import UsageError
from distill_bench.evaluation import PROTOCOLS, load_protocol
from distill_bench.evaluation.inputs import train_inputs
from distill_bench.evaluation.scoring import train_network
from distill_bench.evaluation.setup import setup_evaluation
from distill_bench.networks import build_network
from distill_bench.runtime.seeds import generator
from distill_bench.training.train import accuracy

BATCH = 7
WITHOUT = ("a stored teacher", "a stored projector", "recorded", "targets")


def eight_bit(digits, top=0):
    one = recorded(digits, top)
    return DistilledSet(pixels(), one.labels, one.card, stored=one.stored)


RECORDED = {
    "all logits": recorded,
    "the largest three logits": lambda digits: recorded(digits, 3),
    "8-bit pixels": eight_bit,
}


@pytest.mark.parametrize("kind", RECORDED)
def test_a_recording_plays_back_what_the_evaluator_trains_with(digits, kind):
    one = RECORDED[kind](digits)
    given = train_inputs(one, setup_evaluation(digits, load_protocol("quick-v1"), one.card.pixel_space), "stored")
    playback = Playback.of(one)
    recording = RecordedLabels.stored(one.stored, 10)
    encoded = one.images.dtype == torch.uint8
    images = Transform(one.card.pixel_space, digits.train).encode(one.images) if encoded else one.images.float()
    assert playback.epochs == 3
    for epoch in range(5):  # after the third the first comes again
        for indices in torch.randperm(20, generator=generator("order", epoch)).split(BATCH):
            views, probabilities = playback(epoch, indices)
            wanted = given.batches(epoch, indices, generator("unused"))
            assert torch.equal(views, wanted[0]) and torch.equal(probabilities, wanted[1])
            said = recording.logits(epoch % 3, indices) / one.card.temperature
            assert torch.equal(views, recording.replay(images, epoch % 3, indices))
            assert torch.equal(probabilities, said.softmax(dim=1))
    assert not torch.equal(playback(0, torch.arange(20))[0], playback(1, torch.arange(20))[0])


@pytest.mark.usefixtures("global_rng_untouched")
def test_a_loop_of_ones_own_trains_the_network_that_the_evaluator_trains(digits, monkeypatch):
    short = {"epochs": 4, "network": "MLP", "batch_size": BATCH, "decay_after": 99, "weight_decay": 0.0}
    monkeypatch.setitem(PROTOCOLS, "quick-v1", load_protocol("quick-v1").model_copy(update=short))
    one = recorded(digits)
    exam = setup_evaluation(digits, load_protocol("quick-v1"), one.card.pixel_space, networks=1)
    theirs = train_network(exam, 0, train_inputs(one, exam, "stored"), lambda: None)

    seeds = (digits.kind, "quick-v1", 0)
    network = build_network("MLP", digits.train.shape, 10, generator(*seeds, "weights")).train()
    rules, draws, playback = exam.rules, generator(*seeds, "training"), Playback.of(one)
    optimizer = torch.optim.SGD(network.parameters(), lr=rules.learning_rate, momentum=rules.momentum)
    for epoch in range(4):
        for indices in torch.randperm(20, generator=draws).split(BATCH):
            views, probabilities = playback(epoch, indices)
            optimizer.zero_grad()
            F.cross_entropy(network(views) / playback.temperature, probabilities).backward()
            optimizer.step()
    for ours, wanted in zip(network.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours, wanted)
    test = exam.transform.fetch(digits.test, torch.device("cpu"))
    assert accuracy(network, test, digits.test.labels) == accuracy(theirs, test, digits.test.labels)


def test_a_stored_teacher_can_be_asked(digits):
    one = taught(digits)
    given = train_inputs(one, setup_evaluation(digits, load_protocol("dc-v1"), one.card.pixel_space), "stored")
    images, wanted = given.batches(0, torch.arange(20), generator("unused"))  # dc-v1 shows digits as they are
    assert torch.equal(images, one.images)
    assert torch.equal((stored_teacher(one)(images) / one.card.temperature).softmax(dim=1), wanted)


def test_a_stored_projector_is_encoder_head_and_what_is_added_to_both(digits):
    """Logits as the stored tensors say, layer by layer, in float64; and they are what the evaluator trains with."""
    one = projected(digits)
    own = {name.removeprefix("projector."): each.double() for name, each in one.stored.items()}
    images = one.images.double()
    kernel = own["encoder.features.0.weight"] + (own["features.0.a"] @ own["features.0.b"]).view(4, 1, 3, 3)
    maps = F.conv2d(images, kernel, own["encoder.features.0.bias"], padding=1)
    norm = own["encoder.features.1.weight"], own["encoder.features.1.bias"]
    features = F.avg_pool2d(F.group_norm(maps, 4, *norm).relu(), 2).flatten(1)
    features = features / features.norm(dim=1, keepdim=True)
    expected = 20 * features @ (own["prototypes"] + own["head.a"] @ own["head.b"]).T
    torch.testing.assert_close(stored_projector(one)(one.images).double(), expected, rtol=1e-4, atol=1e-4)
    given = train_inputs(one, setup_evaluation(digits, load_protocol("dc-v1"), one.card.pixel_space), "stored")
    images, wanted = given.batches(0, torch.arange(20), generator("unused"))
    torch.testing.assert_close(wanted.double(), (expected / 4).softmax(dim=1), rtol=1e-4, atol=1e-5)
    assert given.labels == "projector" and not wanted.requires_grad


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith(WITHOUT)])
def test_a_dataset_of_every_other_kind_has_the_images_and_labels_that_networks_are_trained_on(digits, kind):
    one = KINDS[kind](digits)
    images, labels = one.to_dataset().tensors
    given = train_inputs(one, setup_evaluation(digits, load_protocol("dc-v1"), one.card.pixel_space), "stored")
    assert images.dtype == torch.float32
    # the source's own transform: a set of a holdout is whitened, and tested, as its source is
    if one.card.source.holdout is None:
        assert torch.equal(images, given.batches(0, torch.arange(len(images)), generator("unused"))[0])
    if one.soft_labels is None:
        assert torch.equal(labels, given.batches(0, torch.arange(len(images)), generator("unused"))[1])
    elif one.card.label_kind == "logits":
        assert torch.equal(
            (labels.float() / one.card.temperature).softmax(dim=1),
            given.batches(0, torch.arange(len(images)), generator("unused"))[1],
        )
    else:
        assert torch.equal(labels, given.batches(0, torch.arange(len(images)), generator("unused"))[1])


def test_8_bit_pixels_are_encoded_into_the_space_of_the_card(digits):
    for space in ("unit", "normalized", "zca"):
        one = made(digits, pixels(), pixel_space=space)
        right = Transform(pixel_space_of(digits, space), digits.train).encode(pixels())
        assert torch.equal(one.to_dataset()[:][0], right) and torch.equal(training_images(one, digits), right)


@pytest.mark.parametrize(
    ("make", "way"), [(recorded, "Playback.of"), (taught, "stored_teacher"), (projected, "stored_projector")]
)
def test_hard_labels_are_not_passed_off_as_the_labels_of_a_set_that_has_others(digits, make, way):
    with pytest.raises(UsageError, match=way):
        make(digits).to_dataset()


def test_what_a_set_does_not_have_is_not_played(digits):
    with pytest.raises(UsageError, match="'hard'; only recorded ones play back"):
        Playback.of(made(digits))
    for one in (made(digits), recorded(digits)):
        with pytest.raises(UsageError, match="holds no teacher"):
            stored_teacher(one)
        with pytest.raises(UsageError, match="holds no projector"):
            stored_projector(one)
