"""A teacher's labels on the images of any selection: pruning with knowledge distillation."""

import contextlib
import importlib
from dataclasses import replace

import pytest
import torch
from stopping import StopsAfter

from distill_bench import synthesize
from distill_bench.distilled.budget import Budget
from distill_bench.distilled.card import INDICES
from distill_bench.distilled.distilled_set import load_distilled
from distill_bench.distilled.playback import training_images
from distill_bench.errors import Interrupted, UsageError
from distill_bench.methods import load_method, new_run, synthesis_key
from distill_bench.methods.decoupled.relabel import predict, teacher_of
from distill_bench.methods.mean_matching.mean_matching import MeanMatching
from distill_bench.methods.recipe import TEST
from distill_bench.methods.run import pretrained_of
from distill_bench.runtime.checkpoint import Checkpoint

RELABELLED = importlib.import_module("distill_bench.methods.selection.relabelled")
FEATURES = {"epochs": 1}


def config(digits, **values):
    return load_method("random-soft").config_on(digits, Budget(fraction=0.02), TEST, **values)


def config_of_one(digits):
    return load_method("random-soft").config_on(digits, Budget(1), TEST)


def key(digits, fields):
    return synthesis_key(digits, load_method("random-soft"), fields, Budget(fraction=0.02), TEST, 0)


@pytest.mark.parametrize("images", ["herding", "k-center", "dm"])
def test_a_preset_that_the_chooser_has_not_is_refused_and_not_the_papers_values(digits, images):
    own = load_method("random-soft")
    with pytest.raises(UsageError, match=f"of {images} from its preset 'small', .* Its presets: paper, cpu"):
        own.config_on(digits, Budget(1), "small", images=images)
    for preset in ("paper", "cpu"):
        assert own.config_on(digits, Budget(1), preset, images=images).chooser.pixel_space == "normalized"


def test_a_chooser_whose_recipe_offers_no_presets_takes_its_own_values_under_any(digits, monkeypatch):
    bare = load_method("k-center")
    bare = replace(bare, recipe=bare.recipe.model_copy(update={"preset": {}}))
    monkeypatch.setattr(RELABELLED, "load_method", lambda name: bare if name == "k-center" else load_method(name))
    fields = load_method("random-soft").config_on(digits, Budget(1), "small", images="k-center")
    assert fields.chooser == bare.config_on(digits, Budget(1))


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_the_images_are_the_selections_and_the_labels_the_teachers(digits, labels):
    options = {"images": "herding", "selection": {"teacher": FEATURES}, "labels": labels}
    made = synthesize(digits, "random-soft", preset=TEST, fraction=0.02, **options)
    alone = synthesize(digits, "herding", preset=TEST, fraction=0.02, teacher=FEATURES)
    assert torch.equal(made.images, alone.images) and torch.equal(made.stored[INDICES], alone.stored[INDICES])
    assert made.card.recipe["selection"] == alone.card.recipe
    if labels == "soft":
        run = new_run(digits, load_method("random-soft"), config(digits, **options), Budget(fraction=0.02))
        wanted = predict(teacher_of(run).network, training_images(made), run.device)
        torch.testing.assert_close(made.soft_labels, wanted)


@pytest.mark.parametrize(
    ("images", "selection"), [("dm", {}), ("mtt", {}), ("datm", {"labels": "hard"}), ("sre2l", {"labels": "hard"})]
)
@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_images_that_another_method_made_are_labelled_too(digits, images, selection, labels):
    made = synthesize(digits, "random-soft", 1, TEST, images=images, selection=selection, labels=labels)
    alone = synthesize(digits, images, 1, TEST, **selection)
    assert torch.equal(made.images, alone.images) and made.learning_rate == alone.learning_rate
    assert made.card.label_kind == ("hard" if labels == "hard" else "logits")
    if labels == "soft":
        run = new_run(digits, load_method("random-soft"), config_of_one(digits), Budget(1))
        torch.testing.assert_close(made.soft_labels, predict(teacher_of(run).network, made.images, run.device))


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("made", ["datm", "random"])
def test_images_of_a_finished_set_are_labelled_anew(digits, made, labels, tmp_path):
    """DATM's labels are left aside, its learned rate is not; the card has the file's content in place of its path."""
    given = synthesize(digits, made, 1, TEST)
    given.save(tmp_path / "given.safetensors")
    new = synthesize(digits, "random-soft", 1, TEST, images=str(tmp_path / "given.safetensors"), labels=labels)
    drawn = synthesize(digits, "random-soft", 1, TEST, labels=labels)
    assert torch.equal(new.images, given.images) and torch.equal(new.labels, drawn.labels)
    assert (new.learning_rate, new.card.label_kind) == (given.learning_rate, drawn.card.label_kind)
    assert new.card.recipe["images"] == f"sha256:{given.sha256}" and INDICES not in new.stored
    if labels == "soft":
        run = new_run(digits, load_method("random-soft"), config_of_one(digits), Budget(1))
        torch.testing.assert_close(new.soft_labels, predict(teacher_of(run).network, given.images, run.device))
    new.save(tmp_path / "given.safetensors")
    assert load_distilled(tmp_path / "given.safetensors").to_bytes() == new.to_bytes()


def test_a_finished_set_that_is_not_such_as_the_run_makes_is_refused(digits, tmp_path):
    path = tmp_path / "given.safetensors"
    synthesize(digits, "random", 2).save(path)
    wrong = rf"images={path}: a set .* Different are its images, labels: it has 10 classes, ipc 2"
    with pytest.raises(UsageError, match=wrong):
        synthesize(digits, "random-soft", 1, TEST, images=str(path))
    with pytest.raises(UsageError, match="Different are its pixel space"):
        synthesize(digits, "random-soft", 2, TEST, images=str(path), pixel_space="unit")
    with pytest.raises(UsageError, match=r"selection has values \(start\)"):
        synthesize(digits, "random-soft", 2, TEST, images=str(path), selection={"start": "mean"})


def test_the_set_that_is_labelled_anew_is_not_written_over(command, digits, tmp_path):
    path = tmp_path / "given.safetensors"
    synthesize(digits, "random", 1).save(path)
    words = ["synthesize", "random-soft", "--dataset", "digits", "--ipc", 1, "--preset", "cpu", "--out", path]
    code, _, error = command(*words, "--set", f"images={path}")
    assert (code, "it would be replaced" in error) == (2, True)


def test_images_that_were_made_are_kept_when_their_labels_are_stopped(digits, tmp_path, monkeypatch):
    """The checkpoint of the one is not taken for that of the other, and nothing is made twice."""
    fields, steps = {"images": "dm", "labels": "recorded", "record": {"epochs": 4}}, list[int]()
    losses: list[float] = []
    whole = synthesize(digits, "random-soft", 1, TEST, history=losses, **fields)
    alone: list[float] = []
    synthesize(digits, "dm", 1, TEST, history=alone)
    assert losses == alone
    loss = MeanMatching.loss_and_grads
    monkeypatch.setattr(MeanMatching, "loss_and_grads", lambda own, step: steps.append(step) or loss(own, step))
    for stop_after in (1, len(alone) // 2, len(alone) + 2):
        steps.clear()
        checkpoint, history = Checkpoint(tmp_path / f"{stop_after}.safetensors", every_seconds=0), list[float]()
        with contextlib.suppress(Interrupted):
            synthesize(digits, "random-soft", 1, TEST, monitor=StopsAfter(stop_after), checkpoint=checkpoint, **fields)
        again = synthesize(digits, "random-soft", 1, TEST, checkpoint=checkpoint, history=history, **fields)
        assert again.to_bytes() == whole.to_bytes() and history == alone
        assert steps == list(range(len(alone)))


@pytest.mark.parametrize(
    ("images", "selection"),
    [
        ("tesla", {}),
        ("datm", {}),
        ("sre2l", {}),
        ("hello", {}),
        ("rat-bptt", {"label_lr": 0.1}),
        ("random-targets", {}),
    ],
)
def test_images_with_labels_of_their_own_are_refused(digits, images, selection):
    with pytest.raises(UsageError, match=f"images={images} has other labels than classes"):
        synthesize(digits, "random-soft", 1, TEST, images=images, selection=selection)


def test_a_fraction_of_images_that_are_made_is_refused(digits):
    with pytest.raises(UsageError, match=r"equally many images of every class.*give `ipc`"):
        synthesize(digits, "random-soft", preset=TEST, fraction=0.02, images="dm")


def test_images_that_hold_several_are_refused(digits):
    with pytest.raises(UsageError, match=r"selection.formation=2"):
        synthesize(digits, "random-soft", 1, TEST, images="dm", selection={"formation": 2})


def test_its_values_are_completed_from_the_recipe_of_the_selection(digits):
    fields = config(digits, images="k-center", selection={"start": "random", "teacher": {"epochs": 2}})
    usual = load_method("k-center").config_on(digits, Budget(fraction=0.02), TEST)
    assert fields.chooser.start == "random" and fields.chooser.teacher.epochs == 2
    assert fields.chooser.teacher.network == usual.teacher.network
    again = config(digits, images="k-center", selection=fields.selection)
    assert again == fields and key(digits, again) == key(digits, fields) != key(digits, config(digits))


def test_a_new_version_of_the_selection_is_another_address(digits, monkeypatch):
    fields = config(digits, images="herding")
    before = key(digits, fields)
    monkeypatch.setattr(load_method("herding").function, "version", 2)
    assert key(digits, fields) != before


def test_both_teachers_are_trained_first(digits):
    fields = config(digits, images="herding")
    run = new_run(digits, load_method("random-soft"), fields, Budget(fraction=0.02))
    assert len(pretrained_of(load_method("random-soft").function)(run)) == 2
    shared = config(digits, images="herding", selection={"teacher": fields.teacher.model_dump()})
    run = new_run(digits, load_method("random-soft"), shared, Budget(fraction=0.02))
    assert len(pretrained_of(load_method("random-soft").function)(run)) == 1


def test_images_are_in_the_pixel_space_of_the_set(digits):
    fields = config(digits, images="random", pixel_space="unit")
    assert fields.selection == {}
    assert config(digits, images="herding", pixel_space="unit").chooser.pixel_space == "unit"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"images": "herdign"}, "herdign.*Did you mean herding.*a finished set's .safetensors file"),
        ({"images": "none.safetensors"}, "none.safetensors: no such file"),
        ({"images": "random-soft"}, "images=random-soft: its images are those of `images=random`"),
        ({"images": "random-top2"}, "images=random-top2: its images"),
        ({"selection": {"start": "mean"}}, r"selection has values \(start\)"),
        ({"images": "herding", "selection": {"start": "mean"}}, "herding has no field start"),
        ({"alpha": 1.5}, "alpha"),
        ({"alpha": -0.1}, "alpha"),
    ],
)
def test_what_cannot_be_composed_is_refused(digits, values, said):
    with pytest.raises(UsageError, match=said):
        config(digits, **values)


def test_a_weight_without_a_teachers_labels_is_refused(digits):
    with pytest.raises(UsageError, match=r"`alpha=0.5` weighs a teacher's labels"):
        synthesize(digits, "random-soft", preset=TEST, fraction=0.02, labels="hard", alpha=0.5)


def test_recorded_views_have_no_reflected_border(digits):
    record = {"views": {"crop": "reflected"}}
    with pytest.raises(UsageError, match="reflected"):
        synthesize(digits, "random-soft", preset=TEST, fraction=0.02, labels="recorded", record=record)


def test_the_weight_stands_on_the_card_and_in_the_address_but_at_one(digits):
    half, whole = (synthesize(digits, "random-soft", preset=TEST, fraction=0.02, alpha=alpha) for alpha in (0.5, 1.0))
    assert half.card.alpha == half.card.recipe["alpha"] == half.card.model_dump(mode="json")["alpha"] == 0.5
    assert "alpha" not in whole.card.model_dump(mode="json") and "alpha" not in whole.card.recipe
    assert key(digits, config(digits, alpha=1.0)) == key(digits, config(digits)) != key(digits, config(digits, alpha=0))


@pytest.mark.parametrize("network", ["ConvNetW32BN", "ConvNetD1W4BN"])
def test_the_teacher_has_any_size(digits, network):
    assert config(digits, teacher={"network": network}).teacher.network == network
