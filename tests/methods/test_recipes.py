from itertools import product

import pytest
import torch
from safetensors.torch import save_file

from distill_bench.errors import UsageError
from distill_bench.methods import load_method, variant
from distill_bench.methods.recipe import PAPER, Recipe, list_recipes, load_recipe, parse_values, recipe_file

RECIPE = Recipe.model_validate(
    {
        "title": "t",
        "function": "s",
        "defaults": {"a": 0, "b": 0, "c": 0, "d": 0, "e": 0, "f": 0, "g": 0},
        "ipc": {"5": {"b": 1, "c": 1, "d": 1, "e": 1, "f": 1, "g": 1}},
        "cell": {"mnist": {"7": {"c": 2, "d": 2, "e": 2, "f": 2, "g": 2}}},
        "preset": {
            "cpu": {
                "d": 3,
                "e": 3,
                "f": 3,
                "g": 3,
                "ipc": {"6": {"e": 4, "f": 4, "g": 4}},
                "cell": {"mnist": {"7": {"f": 5, "g": 5}}},
            }
        },
    }
)


def test_later_tables_win():
    assert list(RECIPE.resolve("mnist", 7, "cpu", {"g": 6}).values()) == [0, 1, 2, 3, 4, 5, 6]
    assert list(RECIPE.resolve("mnist", 7, PAPER, {}).values()) == [0, 1, 2, 2, 2, 2, 2]
    assert list(RECIPE.resolve("other", 4, PAPER, {}).values()) == [0] * 7


def test_of_a_table_within_a_table_later_ones_replace_what_they_name():
    defaults, preset = {"t": {"a": 0, "b": 0, "c": {"d": 0, "e": 0}}}, {"cpu": {"t": {"b": 1, "c": {"e": 1}}}}
    recipe = Recipe(title="t", function="s", defaults=defaults, preset=preset)
    found = recipe.resolve("digits", 1, "cpu", parse_values(["t.c.e=2", "t.f=text"]))
    assert found == {"t": {"a": 0, "b": 1, "c": {"d": 0, "e": 2}, "f": "text"}}
    assert recipe.resolve("digits", 1, "cpu", {})["t"]["c"] == {"d": 0, "e": 1}
    assert recipe.resolve("digits", 1, PAPER, {}) == defaults


def test_a_datasets_table_holds_at_every_ipc():
    recipe = Recipe(title="t", function="s", defaults={"a": 0, "b": 0, "c": 0}, ipc={"1": {"a": 1}},
                    dataset={"mnist": {"a": 2, "b": 2, "c": 2}}, cell={"mnist": {"5": {"c": 3}}},
                    preset={"cpu": {"dataset": {"mnist": {"b": 4}}}})  # fmt: skip
    assert recipe.resolve("mnist", 5, "cpu", {}) == {"a": 2, "b": 4, "c": 3}
    assert recipe.resolve("mnist", 1, PAPER, {}) == {"a": 2, "b": 2, "c": 2}
    assert recipe.resolve("digits", 5, "cpu", {}) == {"a": 1, "b": 0, "c": 0}
    assert ("mnist", 1) in recipe.tabulated(PAPER)


def test_an_ipc_takes_the_nearest_table_below():
    method = load_method("dc")
    loops = {ipc: method.config("cifar10", ipc) for ipc in (1, 2, 9, 10, 15, 25, 50, 100)}
    assert [(f.outer_loop, f.inner_loop) for f in loops.values()] == [  # methods of the paper's get_loops
        (1, 1), (1, 1), (1, 1), (10, 50), (10, 50), (20, 25), (50, 10), (50, 10),
    ]  # fmt: skip


def test_the_papers_values():
    dc, dsa, dm = (load_method(name).config("cifar10", 10) for name in ("dc", "dsa", "dm"))
    assert (dc.init, dc.augment, dc.iterations, dc.image_lr, dc.real_batch) == ("noise", "none", 1000, 0.1, 256)
    assert (dsa.init, dsa.augment, dsa.iterations, dsa.image_lr) == ("real", "dsa", 1000, 0.1)
    assert (dm.init, dm.augment, dm.iterations, dm.image_lr, dm.image_momentum) == ("real", "dsa", 20000, 1.0, 0.5)
    assert load_method("dm").config("cifar10", 500).image_lr == 10.0
    ours, released = (load_method(name).config("cifar10", 10) for name in ("datadam", "datadam-released"))
    assert (ours.power, ours.network, ours.iterations, ours.zca_input) == (4, "ConvNet", 8000, "unit")
    assert (released.power, released.network, released.iterations, released.real_batch) == (1, "ConvNetD3BN", 20000, 64)
    assert released.zca_input == "normalized"
    assert [fields.pixel_space for fields in (ours, released)] == ["zca", "normalized"]
    for fields in (ours, released):
        assert (fields.image_lr, fields.task_balance) == (1.0, 0.01)
    rates = {name: [load_method(name).config("cifar10", ipc).image_lr for ipc in (1, 50, 51, 99, 100)]
             for name in ("datadam", "datadam-released")}  # fmt: skip
    assert rates == {"datadam": [1, 1, 10, 10, 10], "datadam-released": [1, 1, 1, 1, 10]}


# dataset, IPC: student steps, segment's epochs, latest start, mini-batch (0: all), rates of images, of the rate, and at
# the start, pixel space. Of MTT's commands (DC-BENCH, methods/tm/readme.md); of FTD's, with alpha and the decay
SUBSETS = ("imagenette", "imagewoof", "imagemeow", "imagesquawk", "imagefruit", "imageyellow")
MTT = {
    ("cifar10", 1): (50, 2, 2, 0, 100, 1e-7, 0.01, "zca"),
    ("cifar10", 10): (30, 2, 20, 0, 100, 1e-5, 0.001, "zca"),
    ("cifar10", 50): (30, 2, 40, 0, 1000, 1e-5, 0.001, "normalized"),
    ("cifar100", 1): (20, 3, 20, 0, 1000, 1e-5, 0.01, "zca"),
    ("cifar100", 10): (20, 2, 20, 0, 1000, 1e-5, 0.01, "normalized"),
    ("cifar100", 50): (80, 2, 40, 125, 1000, 1e-5, 0.01, "zca"),
    ("tiny_imagenet", 1): (10, 2, 10, 0, 10000, 1e-4, 0.01, "normalized"),
    ("tiny_imagenet", 10): (20, 2, 40, 200, 10000, 1e-4, 0.01, "normalized"),
    ("tiny_imagenet", 50): (20, 2, 40, 300, 10000, 1e-4, 0.01, "normalized"),
} | {(subset, 1): (20, 2, 10, 0, 1000, 1e-6, 0.01, "normalized") for subset in SUBSETS}
FTD = {
    ("cifar10", 1): (50, 2, 2, 0, 100, 1e-7, 0.01, "zca", 0.3, 0.9999),
    ("cifar10", 10): (30, 2, 20, 0, 100, 1e-5, 0.001, "zca", 0.3, 0.9995),
    ("cifar10", 50): (30, 2, 40, 0, 1000, 1e-5, 0.01, "normalized", 1, 0.999),
    ("cifar100", 1): (40, 3, 20, 0, 1000, 1e-5, 0.01, "zca", 1, 0.9995),
    ("cifar100", 10): (20, 2, 40, 0, 1000, 1e-5, 0.01, "normalized", 1, 0.9995),
    ("cifar100", 50): (80, 2, 40, 1000, 1000, 1e-5, 0.01, "zca", 1, 0.999),
    ("tiny_imagenet", 1): (30, 2, 10, 0, 10000, 1e-4, 0.01, "normalized", 1, 0.999),
    ("tiny_imagenet", 10): (20, 2, 40, 500, 10000, 1e-4, 0.01, "normalized", 1, 0.999),
}
# DATM's configs at 97ae510: student steps, segment's epochs, T⁻, T, T⁺, iterations of its growth (1: none), mini-batch,
# rates of images, of labels, and of the rate, gate, start
DATM = {
    ("cifar10", 1): (80, 2, 0, 4, 4, 1, 10, 100, 5, 1e-7, 1.1, "correct"),
    ("cifar10", 10): (80, 2, 0, 10, 20, 1000, 100, 100, 2, 1e-5, 1.0, "correct"),
    ("cifar10", 50): (80, 2, 0, 20, 40, 2000, 500, 1000, 2, 1e-5, 1.0, "correct"),
    ("cifar10", 500): (40, 2, 40, 60, 60, 1, 1000, 50, 10, 1e-5, 1.0, "correct"),
    ("cifar10", 1000): (100, 2, 40, 60, 60, 1, 1000, 50, 10, 1e-5, 1.0, "correct"),
    ("cifar100", 1): (40, 3, 0, 10, 20, 1000, 0, 1000, 10, 1e-5, 1.0, "correct"),
    ("cifar100", 10): (80, 2, 0, 30, 50, 2000, 1000, 1000, 10, 1e-5, 1.0, "correct"),
    ("cifar100", 50): (80, 2, 20, 70, 70, 1, 1000, 1000, 10, 1e-5, 1.0, "real"),
    ("cifar100", 100): (80, 2, 30, 70, 70, 1, 1000, 50, 10, 1e-5, 1.0, "correct"),
    ("tiny_imagenet", 1): (40, 2, 0, 15, 20, 2000, 200, 10000, 10, 1e-4, 1.0, "correct"),
    ("tiny_imagenet", 10): (40, 2, 10, 50, 50, 1, 500, 100, 10, 1e-4, 1.0, "correct"),
    ("tiny_imagenet", 50): (20, 2, 40, 70, 70, 1, 1000, 100, 10, 1e-4, 1.0, "correct"),
}


@pytest.mark.parametrize(
    ("method", "cell", "values"),
    [(method, *row) for method, table in (("mtt", MTT), ("ftd", FTD)) for row in table.items()],
)
def test_the_commands_of_mtt_and_ftd(method, cell, values):
    f = load_method(method).config(*cell)
    found = (
        f.student_steps, f.segment_epochs, f.segment[2], f.student_batch, f.image_lr, f.rate_lr, f.student_lr,
        f.pixel_space, f.expert.alpha, f.ema_decay,
    )  # fmt: skip
    assert found[: len(values)] == values
    assert f.segment[:2] == (0, values[2])
    flat = (0.01, 50) if method == "ftd" else (0.0, 50)
    assert (f.expert.rho, f.expert.epochs, f.experts, f.expert.learning_rate) == (*flat, 100, 0.01)


@pytest.mark.parametrize("method", ["datm", "datm-tesla"])
@pytest.mark.parametrize(("cell", "values"), DATM.items())
def test_the_configs_of_datm(method, cell, values):
    f = load_method(method).config(*cell)
    growth = f.segment_growth if f.segment[1] < f.segment[2] else 1
    assert values == (
        f.student_steps, f.segment_epochs, *f.segment, growth, f.student_batch, f.image_lr, f.label_lr,
        f.rate_lr, f.loss_gate, f.init,
    )  # fmt: skip
    assert (f.student_lr, f.pixel_space, f.label_momentum, f.expert.epochs) == (0.01, "zca", 0.9, 100)


def test_the_pixel_space_holds_between_the_tables_too():
    for method in ("datm", "datadam"):
        for dataset in ("cifar10", "cifar100"):
            assert {load_method(method).config(dataset, ipc).pixel_space for ipc in (1, 2, 10, 20, 50)} == {"zca"}
    assert {load_method("datadam").config("cifar10", ipc, "cpu").pixel_space for ipc in (1, 10, 50)} == {"normalized"}
    sides = {load_method("datadam").config(name, 1).task_balance for name in SUBSETS}
    assert sides == {0.02} and load_method("datadam").config("tiny_imagenet", 1).task_balance == 0.01


def test_the_loops_of_fyis_own_are_fyis():
    loops = {name: load_method(name).config("cifar100", 50) for name in ("dc", "dsa", "fyi-dc", "fyi-dsa")}
    assert {name: (f.outer_loop, f.inner_loop) for name, f in loops.items()} == {
        "dc": (50, 10), "dsa": (50, 10), "fyi-dc": (10, 10), "fyi-dsa": (10, 10),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["dc", "dsa", "dm", "datadam", "mtt", "tesla", "ftd", "datm"])
@pytest.mark.parametrize("preset", [PAPER, "cpu"])
@pytest.mark.parametrize("ipc", [1, 10])
def test_fyi_is_the_flip_and_nothing_else(name, preset, ipc):
    plain, flipped = (load_method(method).config("cifar10", ipc, preset) for method in (name, f"fyi-{name}"))
    assert flipped == plain.model_copy(update={"flip": True})


@pytest.mark.parametrize("name", ["dsa", "dm"])
def test_the_changed_augmentation_of_fyis_code_is_a_field_of_its_own(name):
    plain = load_method(name).config("cifar10", 10, "cpu")
    changed = load_method(f"{name}-always-flip").config("cifar10", 10, "cpu")
    both = load_method(f"fyi-{name}-released").config("cifar10", 10, "cpu")
    assert changed == plain.model_copy(update={"always_flip": True})
    assert both == plain.model_copy(update={"always_flip": True, "flip": True})


def test_a_recipe_is_laid_over_its_base(tmp_path):
    (tmp_path / "below.toml").write_text(
        "title = 'below'\nfunction = 's'\n[defaults]\na = 1\nb = 1\n[cell.mnist.1]\nc = 1\n[preset.cpu.ipc.1]\nd = 1"
    )
    (tmp_path / "above.toml").write_text(
        f"title = 'above'\nbase = '{tmp_path}/below.toml'\n[defaults]\nb = 2\nc = 2\n[cell.mnist.1]\ne = 2\n"
        "[preset.cpu]\nf = 2"
    )
    recipe = load_recipe(str(tmp_path / "above.toml"))
    assert (recipe.title, recipe.function) == ("above", "s")
    assert recipe.resolve("mnist", 1, "cpu", {}) == {"a": 1, "b": 2, "c": 1, "e": 2, "d": 1, "f": 2}
    assert recipe.resolve("other", 1, PAPER, {}) == {"a": 1, "b": 2, "c": 2}


def test_a_base_that_leads_nowhere_or_back_is_refused(tmp_path):
    loop = tmp_path / "loop.toml"
    loop.write_text(f"title = 't'\nbase = '{loop}'")
    with pytest.raises(UsageError, match="one that is not based on this"):
        load_recipe(str(loop))
    loop.write_text("title = 't'\nbase = 'nothing'")
    with pytest.raises(UsageError, match="unknown method 'nothing'"):
        load_recipe(str(loop))
    loop.write_text("title = 't'\nbase = 1")
    with pytest.raises(UsageError, match="must name another recipe"):
        load_recipe(str(loop))


@pytest.mark.parametrize("name", list_recipes())
def test_every_table_of_every_recipe_is_valid(name):
    recipe = load_recipe(name)
    for preset in [PAPER, *recipe.preset]:
        tabulated = recipe.tabulated(preset)
        assert tabulated
        for (dataset, ipc), side in product(tabulated, [None, *recipe.sides(preset)]):
            load_method(name).config(dataset, ipc, preset, side)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("title = ", "not valid TOML"),
        ("title = 't'", "function: Field required"),
        (
            "title = 't'\nfunction = 'm:f'\ntypo = 1",
            "typo: Extra inputs are not permitted",
        ),
        (
            "title = 't'\nfunction = 'm:f'\n[cell.mnist.one]\na = 1",
            "cell.mnist.one",
        ),
        ("title = 't'\ntitle = 'u'", "not valid TOML"),
        ("title = 't'\nfunction = 's'\n[preset.cpu.ipc.one]\na = 1", "preset.cpu.ipc.one"),
        ("title = 't'\nfunction = 's'\n[side.small]\na = 1", "side.small"),
        ("title = 't'\nfunction = 's'\n[preset.cpu.cell.mnist.1]\na = 1979-05-27", "preset.cpu.cell.mnist.1.a"),
        ("title = 't'\nfunction = 's'\n[preset.cpu]\na = 1979-05-27", "preset.cpu.a"),
        (
            "title = 't'\nfunction = 's'\n[preset.paper-b.ipc.1]\niterations = 1",
            "paper-b: iterations is not of pretrained",
        ),
    ],
)
def test_a_bad_recipe_file_is_one_clear_error(tmp_path, text, complaint):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint) as caught:
        load_recipe(str(path))
    assert str(path) in str(caught.value)


def test_unknown_names_say_what_is_known():
    with pytest.raises(UsageError, match=r"Known: .*dc, .*dm, .*dsa, .*random.*; your own: module:function"):
        load_method("dcc")
    with pytest.raises(UsageError, match=r"no preset 'fast'.*paper"):
        load_method("dm").config("digits", 1, "fast")
    with pytest.raises(UsageError, match=r"no field imagelr.*image_lr"):
        load_method("dm").config("digits", 1, imagelr=1)
    with pytest.raises(UsageError, match="image_lr: Input should be greater than 0"):
        load_method("dm").config("digits", 1, image_lr=-1)
    with pytest.raises(UsageError, match="cannot load the method 'nowhere:f'"):
        load_method("nowhere:f")


def test_no_hyper_parameter_is_taken_for_an_argument():
    for name in ("ipc", "dataset", "preset", "self"):
        with pytest.raises(UsageError, match=rf"dm has no field {name}\. Its fields: always_flip, augment"):
            load_method("dm").config("digits", 1, PAPER, **{name: 3})
    with pytest.raises(UsageError, match="zca_eps: Input should be greater than 0"):
        load_method("random").config("digits", 1, zca_eps=-1)


def test_a_folder_is_no_recipe(tmp_path):
    (tmp_path / "x.toml").mkdir()
    with pytest.raises(UsageError, match=r"unknown method .*x.toml"):
        load_recipe(str(tmp_path / "x.toml"))


def test_values_are_toml_or_text():
    assert parse_values(["a=1", "b=0.5", "c=true", "d=noise", 'e="7"', "f=[1, 2]"]) == {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": "noise",
        "e": "7",
        "f": [1, 2],
    }


@pytest.mark.parametrize(
    "pairs",
    [["a={b=1}", "a.b=2"], ["a.b=2", "a={b=1}"], ["a.b=2", "a=5"], ["a=1", "a.b=2"], ["a={b={c=1}}", "a.b=2"]],
)
def test_a_table_and_what_is_in_it_are_not_both_set(pairs):
    with pytest.raises(UsageError, match="more than once"):
        parse_values(pairs)
    assert parse_values(["a={b=1}", "a.c=2"]) == {"a": {"b": 1, "c": 2}}


@pytest.mark.parametrize("pair", ["a..b=1", ".a=1", "a.=1", "=1", "a"])
def test_a_key_without_a_part_is_none(pair):
    with pytest.raises(UsageError, match="is not key=value"):
        parse_values([pair])


def test_further_lines_are_not_dropped():
    assert parse_values(["a=1\nb=2"]) == {"a": "1\nb=2"}


@pytest.mark.parametrize("values", [{"iterations": True}, {"image_lr": True}, {"zca_eps": True}])
def test_truth_is_no_number(values):
    with pytest.raises(UsageError, match="give a number, not true or false"):
        load_method("dm").config("digits", 1, "test", **values)
    assert load_method("dm").config("digits", 1, "test", flip=False).flip is False


@pytest.mark.parametrize(
    ("method", "values"), [("random-soft", {"teacher": {"epochs": True}}), ("rat-bptt", {"blocks": [True]})]
)
def test_nor_is_it_within_a_table_or_a_list(method, values):
    with pytest.raises(UsageError, match="give a number, not true or false"):
        load_method(method).config("digits", 1, "test", **values)


def test_a_recipes_base_may_lie_beside_it(tmp_path):
    (tmp_path / "slow.toml").write_text('base = "dm"\n[defaults]\nimage_lr = 0.5\n')
    (tmp_path / "slower.toml").write_text('base = "slow.toml"\n[defaults]\niterations = 7\n')
    made = load_recipe(str(tmp_path / "slower.toml"))
    assert (made.defaults["image_lr"], made.defaults["iterations"]) == (0.5, 7)
    (tmp_path / "dm").write_text("no recipe")
    assert load_recipe(str(tmp_path / "slow.toml")) == load_recipe(str(tmp_path / "slow.toml"))
    (tmp_path / "round.toml").write_text(f'base = "../{tmp_path.name}/round.toml"\n')
    with pytest.raises(UsageError, match="not based on this"):
        load_recipe(str(tmp_path / "round.toml"))


def test_a_copy_of_a_built_in_recipe_is_one(tmp_path):
    copy = tmp_path / "mine.toml"
    copy.write_bytes(recipe_file("dm").read_bytes())
    assert load_recipe(str(copy)) == load_recipe("dm")


def test_a_variant_has_a_name_and_values_of_its_own_which_those_of_a_run_replace():
    calm = variant("calm-dm", "dm", image_lr=0.1)
    rates = [calm.config("digits", 1).image_lr, calm.config("digits", 1, image_lr=2.0).image_lr]
    assert (calm.name, rates) == ("calm-dm", [0.1, 2.0])
    with pytest.raises(UsageError, match="calm-dm has no field speed"):
        variant("calm-dm", "dm", speed=1).config("digits", 1)
    with pytest.raises(UsageError, match="the method's name"):
        variant("a\nb", "dm")


OWN = "own.safetensors"


@pytest.mark.parametrize(
    ("method", "values", "said"),
    [
        ("ncfm", {"distance": "mean", "frequencies": 7}, "frequencies go with distance=characteristic"),
        ("ncfm", {"distance": "mean", "loss_scale": 1.0}, "loss_scale go with distance=characteristic"),
        ("ncfm", {"frequency_net": False, "frequency_lr": 1.0}, "frequency_lr goes with frequency_net=true"),
        ("ncfm", {"expert": {"epochs": 30, "decay_after": 40}}, "never come to the fall of their rate after 40"),
        ("mtt", {"expert": {"epochs": 60, "decay_after": 60}}, "never come to the fall of their rate after 60"),
        ("forgetting", {"scores": OWN, "never_learned": "easiest"}, "never_learned is of networks"),
        ("random-soft", {"images": "herding", "selection": {"pixel_space": "unit"}}, "pixel_space, which is the set's"),
        ("margin", {"when": "visit"}, "when goes with el2n, forgetting, aum"),
        ("grand", {"when": "visit"}, "when goes with"),
        ("el2n", {"scores": OWN, "networks": 7}, "networks is of networks that are trained"),
        ("moderate", {"scores": OWN, "teacher": {"epochs": 3}}, "teacher is of networks that are trained"),
    ],
)
def test_values_that_would_do_nothing_are_refused(method, values, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file({"scores": torch.rand(1438)}, OWN)
    with pytest.raises(UsageError, match=said):
        load_method(method).config("digits", 10, PAPER, 8, **values)


def test_values_that_do_something_are_taken():
    for method, values in (
        ("ncfm", {"distance": "mean"}), ("ncfm", {"frequency_net": True, "frequency_lr": 1.0}),
        ("ncfm", {"expert": {"epochs": 60, "decay_after": 40}}), ("el2n", {"when": "visit", "networks": 3}),
    ):  # fmt: skip
        load_method(method).config("digits", 10, PAPER, 8, **values)
