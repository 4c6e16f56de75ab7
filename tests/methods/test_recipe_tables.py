"""Which of a recipe's tables apply: by IPC, by the images' size; and that recipe and protocol are of one source."""

from pathlib import Path

import pytest
import torch

from distill_bench import synthesize
from distill_bench.benchmark.leaderboard.claims import network_norm
from distill_bench.benchmark.results import read_results
from distill_bench.datasets import Dataset, Split
from distill_bench.evaluation import load_protocol
from distill_bench.methods import load_method
from distill_bench.methods.recipe import PAPER, Recipe, list_recipes, load_recipe


def own_data(*shape: int) -> Dataset:
    """Data of one's own: two classes of two images of a shape."""
    pixels = torch.zeros(4, *shape, dtype=torch.uint8)
    return Dataset("folder:mine", ("a", "b"), lambda: Split(pixels, torch.tensor([0, 0, 1, 1])), None, False)


# ---- IPCs


@pytest.mark.parametrize(
    ("preset", "dataset", "ipc", "expected"),
    [
        (PAPER, "mnist", 1, "none"), (PAPER, "mnist", 2, "cell 2"), (PAPER, "mnist", 4, "cell 2"),
        (PAPER, "mnist", 5, "ipc 5"), (PAPER, "mnist", 7, "cell 7"), (PAPER, "mnist", 500, "cell 7"),
        (PAPER, "other", 4, "none"), (PAPER, "other", 7, "ipc 5"),
        # a preset's tables are told apart from those below them
        ("cpu", "mnist", 2, "cell 2"), ("cpu", "mnist", 6, "cpu ipc 6"), ("cpu", "mnist", 7, "cpu ipc 6"),
        ("cpu", "mnist", 8, "cpu cell 8"), ("cpu", "mnist", 1000, "cpu cell 8"), ("cpu", "other", 8, "cpu ipc 6"),
    ],
)  # fmt: skip
def test_of_tables_by_ipc_those_of_all_datasets_and_of_one_alike_the_nearest_below_counts(
    preset, dataset, ipc, expected
):
    recipe = Recipe.model_validate({
        "title": "t", "function": "s", "defaults": {"a": "none"}, "ipc": {"5": {"a": "ipc 5"}},
        "cell": {"mnist": {"2": {"a": "cell 2"}, "7": {"a": "cell 7"}}},
        "preset": {"cpu": {"ipc": {"6": {"a": "cpu ipc 6"}}, "cell": {"mnist": {"8": {"a": "cpu cell 8"}}}}},
    })  # fmt: skip
    assert recipe.resolve(dataset, ipc, preset, {}) == {"a": expected}


@pytest.mark.parametrize(
    ("method", "dataset", "tabulated", "between"),
    [
        ("dm", "cifar10", 100, (125, 150)), ("dm", "cifar10", 200, (300,)), ("dm", "cifar10", 500, (600, 999)),
        ("fyi-dm", "cifar10", 1250, (2000,)), ("fyi-dc", "cifar100", 50, (60, 500)),
        ("mtt", "cifar10", 10, (20, 49)), ("mtt", "cifar100", 1, (2, 9)), ("mtt", "tiny_imagenet", 50, (100,)),
        ("mtt", "imagenette", 1, (5,)), ("ftd", "cifar100", 10, (30,)), ("tesla", "cifar100", 50, (100,)),
        ("datm", "cifar10", 500, (600,)), ("datm", "tiny_imagenet", 50, (100,)), ("dsa", "svhn", 20, (25,)),
    ],
)  # fmt: skip
def test_an_ipc_between_those_that_authors_tell_takes_the_values_of_the_nearest_below(
    method, dataset, tabulated, between
):
    chosen = load_method(method)
    for ipc in between:
        assert chosen.config(dataset, ipc) == chosen.config(dataset, tabulated)


def test_dms_image_rate_never_falls_back_between_the_tabulated_ipcs():
    dm = load_method("dm")
    assert [dm.config("cifar10", ipc).image_lr for ipc in (1, 50, 99)] == [1, 1, 1]
    assert {dm.config("cifar10", ipc).image_lr for ipc in (100, 125, 150, 300, 600, 1000, 5000)} == {10}


def committed_recipes():
    """(method, dataset, IPC, preset) of the committed results, with the hyper-parameters they were made with."""
    found = {}
    for result in read_results(Path(__file__).parents[2] / "results"):
        if result.recipe and result.method in list_recipes():  # not those that a suite named itself
            ipc = result.ipc or result.images // 10  # of fractions as many a class
            found[result.method, result.dataset, ipc, result.preset] = result.recipe
    assert len(found) > 100
    return found


def test_what_committed_results_were_made_with_is_what_their_recipes_still_say():
    committed = committed_recipes()
    assert len(committed) > 100
    for (method, *cell), recipe in committed.items():
        now = load_method(method).config(*cell).model_dump(mode="json")
        # of before these fields were there
        absent = {"flip": False, "always_flip": False, "flip_any_source": False, "chunk": 0}
        assert now == {name: absent[name] for name in absent.keys() & now.keys()} | recipe, (method, *cell)


# ---- the images' size


def test_of_tables_by_side_the_nearest_below_counts_and_named_ones_go_before_them():
    recipe = Recipe.model_validate({
        "title": "t", "function": "s", "defaults": {"a": 0, "b": 0, "c": 0},
        "side": {"64": {"a": 64, "b": 64, "c": 64}, "128": {"a": 128}}, "ipc": {"1": {"b": 1}},
        "preset": {"cpu": {"side": {"100": {"c": 100}}}},
    })  # fmt: skip
    found = {side: recipe.resolve("own", 1, PAPER, {}, side) for side in (None, 8, 63, 64, 127, 128, 1000)}
    small, middle, large = {"a": 0, "b": 1, "c": 0}, {"a": 64, "b": 1, "c": 64}, {"a": 128, "b": 1, "c": 0}
    assert list(found.values()) == [small, small, small, middle, middle, large, large]
    assert recipe.resolve("own", 1, "cpu", {}, 100) == {"a": 64, "b": 1, "c": 100}
    assert (recipe.sides(PAPER), recipe.sides("cpu")) == ([64, 128], [64, 100, 128])


# crop, iterations, jitter, rates of images and batch norm, temperature; of VILA-Lab/SRe2L 8d00cba
SMALL = (False, 1000, 4, 0.25, 0.01, 30)  # "*small_dataset": recover_cifar.sh, relabel_cifar.py
TINY = (True, 4000, 4, 0.1, 1.0, 20)  # "*small_dataset": recover_tiny.sh
LARGE = (True, 4000, 32, 0.25, 0.01, 20)  # recover/recover.sh
CDA_TINY = (True, 4000, 4, 0.4, 0.05)  # CDA's readme, recover_cda_tiny.py
CDA_LARGE = (True, 4000, 32, 0.25, 0.01)


@pytest.mark.parametrize(
    ("dataset", "side", "sre2l", "cda"),
    [
        ("digits", None, SMALL, (*CDA_TINY, 30)), ("mnist", None, SMALL, (*CDA_TINY, 30)),
        ("fashion_mnist", None, SMALL, (*CDA_TINY, 30)), ("svhn", None, SMALL, (*CDA_TINY, 30)),
        ("cifar10", None, SMALL, (*CDA_TINY, 30)), ("cifar100", None, SMALL, (*CDA_TINY, 30)),
        ("folder:mine", 28, SMALL, (*CDA_TINY, 30)), ("npz:mine.npz", 48, SMALL, (*CDA_TINY, 30)),
        ("folder:mine", 64, TINY, (*CDA_TINY, 20)), ("tiny_imagenet", None, TINY, (*CDA_TINY, 20)),
        ("imagenet", 64, TINY, (*CDA_TINY, 20)), ("mnist", 64, TINY, (*CDA_TINY, 20)),
        ("folder:mine", 224, LARGE, (*CDA_LARGE, 20)), ("imagenet", None, LARGE, (*CDA_LARGE, 20)),
        ("imagenette", None, LARGE, (*CDA_LARGE, 20)), ("tiny_imagenet", 128, LARGE, (*CDA_LARGE, 20)),
    ],
)  # fmt: skip
def test_sre2l_and_cda_go_by_the_images_size_on_data_without_a_table_too(dataset, side, sre2l, cda):
    for method, expected in (("sre2l", sre2l), ("cda", cda)):
        f = load_method(method).config(dataset, 10, PAPER, side)
        assert (f.crop, f.iterations, f.jitter, f.image_lr, f.bn_weight, f.temperature) == expected
        assert f.jitter_both_ways == (method == "sre2l" and expected == TINY)


@pytest.mark.parametrize(("side", "balance"), [(32, 0.01), (64, 0.01), (127, 0.01), (128, 0.02), (224, 0.02)])
def test_datadams_balance_goes_by_the_resolution_and_the_released_calls_does_not(side, balance):
    for dataset in ("folder:mine", "imagenet", "imagenette"):
        assert load_method("datadam").config(dataset, 1, PAPER, side).task_balance == balance
        assert load_method("datadam-released").config(dataset, 1, PAPER, side).task_balance == 0.01


@pytest.mark.parametrize(
    ("shape", "crop", "jitter"),
    [((28, 28), False, 4), ((64, 64), True, 4), ((64, 28), False, 4), ((28, 64), False, 4), ((150, 200), True, 32)],
)
def test_a_set_of_ones_own_data_is_made_with_the_values_of_its_shorter_side(shape, crop, jitter, monkeypatch):
    made = []

    def not_made(source, method, fields, *rest, **options):
        made.append(fields)
        raise KeyboardInterrupt

    monkeypatch.setattr("distill_bench.methods.synthesis.make_set", not_made)
    for given in ({}, {"jitter": 5}):
        with pytest.raises(KeyboardInterrupt):
            synthesize(own_data(1, *shape), "sre2l", 1, **given)
    assert [(fields.crop, fields.jitter) for fields in made] == [(crop, jitter), (crop, 5)]


# ---- recipe and protocol


@pytest.mark.parametrize("method", ["datadam", "datadam-released", "fyi-datadam", "dm", "dsa", "dc", "mtt", "datm"])
def test_the_norm_that_a_recipe_matches_with_is_that_of_its_protocol(method):
    network = load_method(method).config("cifar10", 10).network
    assert network_norm(network) == network_norm(load_protocol(load_recipe(method).protocol).network)


def test_datadam_is_the_papers_and_datadam_released_the_codes():
    assert load_recipe("datadam").protocol == "dsa-v1"
    assert load_recipe("datadam-released").protocol == "datadam-v1"
    assert load_method("datadam-released").config("tiny_imagenet", 1).network == "ConvNetD3BN"
