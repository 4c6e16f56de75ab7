"""Sets of a fraction of the training split: which images, as what they are stored, and who makes none."""

import dataclasses

import pytest
import torch

from distill_bench import Config, SynthesisResult, load_distilled, method, synthesize
from distill_bench.datasets.pixel_space import Transform
from distill_bench.distilled.budget import Budget
from distill_bench.distilled.card import INDICES
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.playback import training_images
from distill_bench.errors import DataError, RunFailed, UsageError
from distill_bench.evaluation import score_key
from distill_bench.methods import load_method, make_set, synthesis_key
from distill_bench.methods.recipe import TEST
from distill_bench.methods.selection.selection import _by_class, selected

SIZES = (142, 146, 142, 146, 145, 146, 145, 143, 139, 144)
TEACHER = {"teacher": {"epochs": 1}}


def test_addresses_files_and_scores_of_ipc_budgets_are_where_they_were(digits):
    pinned = {
        "random": "a9d0c50c23c690f624c445ff481a6931",
        "random-soft": "6076d85964a643f2ab9b06feb2b947a8",
        "dm": "303baa204b69f57f1baaab807ef674ee",
        "herding": "821cd22329beb718be6feb1beae80ea6",
        "sre2l": "7ac53b850b33ac496ac77f2df7e0f752",
    }
    loaded = {name: load_method(name) for name in pinned}
    keys = {
        name: synthesis_key(digits, one, one.config_on(digits, Budget(1), "cpu"), Budget(1), "cpu", 0)
        for name, one in loaded.items()
    }
    assert keys == pinned
    made = synthesize(digits, "random", 1, "cpu")
    assert made.sha256 == "a64dd9ec4fccd32ad292088670c66b4ed947f0bcd2fd9eb8cd16b3e3b55f8de3"
    assert score_key(digits, "quick-v1", made) == "83b7f6dc6ee2d7e7e22b71371be0860a"
    assert score_key(digits, "full-v1", None) == "a2ed87c45eb45bf1d6bcac39678c7377"


def test_a_fraction_is_another_address_than_the_ipc_it_comes_to(digits):
    one = load_method("random")
    budgets = [Budget(14), Budget(fraction=0.1), Budget(fraction=0.1001)]
    keys = {synthesis_key(digits, one, one.config_on(digits, each), each, "paper", 0) for each in budgets}
    assert len(keys) == 3


def test_random_takes_its_share_of_every_class_as_pictures_with_their_indices(digits, tmp_path):
    assert digits.class_sizes == SIZES
    made = synthesize(digits, "random", fraction=0.1)
    assert made.labels.bincount().tolist() == [14, 15, 14, 15, 15, 15, 15, 14, 14, 14]
    indices = made.stored[INDICES].long()
    assert made.images.dtype == torch.uint8 and torch.equal(made.images, digits.train.images(indices))
    assert torch.equal(made.labels, digits.train.labels[indices])
    assert made.nbytes == len(indices) * (64 + 8 + 4)
    assert (made.card.ipc, made.card.fraction, made.card.budget) == (15, 0.1, Budget(fraction=0.1))
    made.save(tmp_path / "set.safetensors")
    assert load_distilled(tmp_path / "set.safetensors").card == made.card
    again, other = (synthesize(digits, "random", fraction=0.1, seed=seed) for seed in (0, 1))
    assert again.sha256 == made.sha256 != other.sha256
    assert torch.equal(synthesize(digits, "random", 14).images[:14], training_images(made)[:14])  # the same draws


def test_what_networks_see_of_pictures_is_what_an_ipc_has_to_the_bit(digits):
    for space in ("unit", "normalized"):
        made = synthesize(digits, "random", fraction=1.0, pixel_space=space)
        assert len(made.images) == len(digits.train) == len(made.stored[INDICES].unique())
        wanted = Transform(made.card.pixel_space, None).encode(digits.train.images(made.stored[INDICES].long()))
        assert torch.equal(training_images(made), wanted)


@pytest.mark.parametrize("name", ["herding", "k-center", "k-means"])
def test_selections_by_features_take_unequal_counts(digits, name):
    made = synthesize(digits, name, preset=TEST, fraction=0.03, **TEACHER)
    assert made.labels.bincount().tolist() == [4, 4, 4, 4, 4, 4, 4, 4, 4, 4] and made.images.dtype == torch.uint8
    of_one = synthesize(digits, name, 4, TEST, **TEACHER)
    assert torch.equal(training_images(made), of_one.images)
    uneven = synthesize(digits, name, preset=TEST, fraction=0.0246, **TEACHER)
    assert uneven.labels.bincount().tolist() == [3, 4, 3, 4, 4, 4, 4, 4, 3, 4]


def test_a_selection_that_was_cut_off_goes_on_with_the_classes_that_were_chosen():
    counts, chosen = (2, 1, 3), torch.tensor([5, 6, 7, 8, 9, 10])
    for done, kept in enumerate([0, 2, 3, 6]):
        assert [each.tolist() for each in _by_class(chosen[:kept], counts)] == [[5, 6], [7], [8, 9, 10]][:done]


@pytest.mark.parametrize("labels", ["soft", "teacher", "recorded"])
def test_any_kind_of_labels_goes_with_a_fraction(digits, labels):
    record = {"epochs": 2, "batch_size": 16, "views": {"crop": "padded"}}
    made = synthesize(digits, "random-soft", preset=TEST, fraction=0.02, labels=labels, record=record, **TEACHER)
    plain = synthesize(digits, "random", fraction=0.02)
    assert torch.equal(made.images, plain.images) and torch.equal(made.stored[INDICES], plain.stored[INDICES])
    kinds = {"soft": "logits", "teacher": "teacher", "recorded": "recorded"}
    assert made.card.label_kind == kinds[labels] and made.card.fraction == 0.02


@pytest.mark.parametrize("name", ["dm", "mtt", "sre2l", "rded"])
def test_methods_that_make_images_are_refused(digits, name):
    with pytest.raises(UsageError, match=rf"^{name} makes equally many images of every class.* give `ipc`"):
        synthesize(digits, name, preset=TEST, fraction=0.1)


def test_so_is_a_method_from_outside_that_does_not_say_that_it_selects(digits, monkeypatch):
    monkeypatch.setattr(load_method("random").function, "selects", False)
    with pytest.raises(UsageError, match="random makes equally many images"):
        synthesize(digits, "random", fraction=0.1)


class AmongAll(Config):
    """Of a selection that looks at all classes together."""

    leave_out: int = -1
    backwards: bool = False

    @property
    def balanced(self):
        return False


@method(AmongAll, selects=True)
def among_all(run):
    """The first images of the split that are not of one class, in class order."""
    kept = (run.training.labels != run.config.leave_out).nonzero().flatten()[: run.total]
    order = run.training.labels[kept].argsort(stable=True, descending=run.config.backwards)
    return selected(run, kept[order])


def make(digits, fraction=None, ipc=None, **values):
    budget, own = Budget(ipc, fraction), dataclasses.replace(load_method("random"), name="among", function=among_all)
    return make_set(digits, own, own.config_on(digits, budget, **values), budget)


def test_a_selection_among_all_classes_has_the_fraction_of_all_and_its_own_counts(digits):
    made = make(digits, 0.1)
    counts = digits.train.labels[:144].bincount()
    assert len(made.images) == 144 and made.labels.bincount().tolist() == counts.tolist()
    assert made.card.ipc == int(counts.max())


def test_a_class_that_comes_out_empty_is_named_with_the_numbers(digits):
    with pytest.raises(UsageError, match=r"chose 144 of 1438 training images, and none of 1 of 10 classes \('7'\)"):
        make(digits, 0.1, leave_out=7)
    with pytest.raises(UsageError, match=r"`fraction=0.005` of the 1438 .* is 7, and there are 10 classes.*=0.007"):
        make(digits, 0.005)


def test_among_all_classes_there_is_no_ipc_and_class_order_is_demanded(digits):
    with pytest.raises(UsageError, match=r"among chooses among all classes together.*give `fraction`"):
        make(digits, ipc=1)
    with pytest.raises(RunFailed, match="not in class order"):
        make(digits, 0.1, backwards=True)


@pytest.mark.parametrize(
    ("indices", "said"),
    [
        (torch.arange(3, dtype=torch.int32), r"torch.int32 \(3,\); they must be int32 \(30,\)"),
        (torch.arange(30), r"torch.int64"),
        (torch.zeros(30, dtype=torch.int32), "each that of another training image"),
        (torch.arange(-1, 29, dtype=torch.int32), "0 or more"),
    ],
)
def test_indices_that_are_none_are_refused(digits, indices, said):
    made = synthesize(digits, "random", fraction=0.02)
    with pytest.raises(DataError, match=said):
        DistilledSet(made.images, made.labels, made.card, stored={INDICES: indices})


def test_a_set_says_its_fraction_only_where_it_has_one(digits):
    made = synthesize(digits, "random", 1)
    assert "fraction" not in made.card.model_dump(mode="json") and "alpha" not in made.card.model_dump(mode="json")
    assert isinstance(SynthesisResult(made.images, made.labels).alpha, float)
