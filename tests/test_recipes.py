import pytest

from distill_bench.errors import UsageError
from distill_bench.recipes import PAPER, Recipe, list_recipes, load_recipe, parse_values
from distill_bench.synthesizers import load_method

RECIPE = Recipe.model_validate(
    {
        "title": "t",
        "synthesizer": "s",
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
    recipe = Recipe(title="t", synthesizer="s", defaults=defaults, preset=preset)
    found = recipe.resolve("digits", 1, "cpu", parse_values(["t.c.e=2", "t.f=text"]))
    assert found == {"t": {"a": 0, "b": 1, "c": {"d": 0, "e": 2}, "f": "text"}}
    assert recipe.resolve("digits", 1, "cpu", {})["t"]["c"] == {"d": 0, "e": 1}
    assert recipe.resolve("digits", 1, PAPER, {}) == defaults


def test_a_datasets_table_holds_at_every_ipc():
    recipe = Recipe(title="t", synthesizer="s", defaults={"a": 0, "b": 0, "c": 0}, ipc={"1": {"a": 1}},
                    dataset={"mnist": {"a": 2, "b": 2, "c": 2}}, cell={"mnist": {"5": {"c": 3}}},
                    preset={"cpu": {"dataset": {"mnist": {"b": 4}}}})  # fmt: skip
    assert recipe.resolve("mnist", 5, "cpu", {}) == {"a": 2, "b": 4, "c": 3}
    assert recipe.resolve("mnist", 1, PAPER, {}) == {"a": 2, "b": 2, "c": 2}
    assert recipe.resolve("digits", 5, "cpu", {}) == {"a": 1, "b": 0, "c": 0}
    assert ("mnist", 1) in recipe.tabulated(PAPER)


def test_an_ipc_takes_the_nearest_table_below():
    method = load_method("dc")
    loops = {ipc: method.fields("cifar10", ipc) for ipc in (1, 2, 9, 10, 15, 25, 50, 100)}
    assert [(f.outer_loop, f.inner_loop) for f in loops.values()] == [  # methods of the paper's get_loops
        (1, 1), (1, 1), (1, 1), (10, 50), (10, 50), (20, 25), (50, 10), (50, 10),
    ]  # fmt: skip


def test_the_papers_values():
    dc, dsa, dm = (load_method(name).fields("cifar10", 10) for name in ("dc", "dsa", "dm"))
    assert (dc.init, dc.augment, dc.iterations, dc.image_lr, dc.real_batch) == ("noise", "none", 1000, 0.1, 256)
    assert (dsa.init, dsa.augment, dsa.iterations, dsa.image_lr) == ("real", "dsa", 1000, 0.1)
    assert (dm.init, dm.augment, dm.iterations, dm.image_lr, dm.image_momentum) == ("real", "dsa", 20000, 1.0, 0.5)
    assert load_method("dm").fields("cifar10", 500).image_lr == 10.0
    ours, released = (load_method(name).fields("cifar10", 10) for name in ("datadam", "datadam-released"))
    assert (ours.power, ours.network, ours.iterations, ours.zca_input) == (4, "ConvNet", 8000, "unit")
    assert (released.power, released.network, released.iterations, released.real_batch) == (1, "ConvNetBN", 20000, 64)
    assert released.zca_input == "normalized"
    for fields in (ours, released):
        assert (fields.pixel_space, fields.image_lr, fields.task_balance) == ("zca", 1.0, 0.01)
    assert [load_method("datadam").fields("cifar10", ipc).image_lr for ipc in (50, 51, 100)] == [1.0, 10.0, 10.0]


@pytest.mark.parametrize("name", ["dc", "dsa", "dm", "datadam"])
@pytest.mark.parametrize("preset", [PAPER, "cpu"])
@pytest.mark.parametrize("ipc", [1, 10])
def test_fyi_is_the_flip_and_nothing_else(name, preset, ipc):
    plain, flipped = (load_method(method).fields("cifar10", ipc, preset) for method in (name, f"fyi-{name}"))
    assert flipped == plain.model_copy(update={"flip": True})


@pytest.mark.parametrize("name", ["dsa", "dm"])
def test_the_changed_augmentation_of_fyis_code_is_a_field_of_its_own(name):
    plain = load_method(name).fields("cifar10", 10, "cpu")
    changed = load_method(f"{name}-always-flip").fields("cifar10", 10, "cpu")
    both = load_method(f"fyi-{name}-released").fields("cifar10", 10, "cpu")
    assert changed == plain.model_copy(update={"always_flip": True})
    assert both == plain.model_copy(update={"always_flip": True, "flip": True})


def test_a_recipe_is_laid_over_its_base(tmp_path):
    (tmp_path / "below.toml").write_text(
        "title = 'below'\nsynthesizer = 's'\n[defaults]\na = 1\nb = 1\n[cell.mnist.1]\nc = 1\n[preset.cpu.ipc.1]\nd = 1"
    )
    (tmp_path / "above.toml").write_text(
        f"title = 'above'\nbase = '{tmp_path}/below.toml'\n[defaults]\nb = 2\nc = 2\n[cell.mnist.1]\ne = 2\n"
        "[preset.cpu]\nf = 2"
    )
    recipe = load_recipe(str(tmp_path / "above.toml"))
    assert (recipe.title, recipe.synthesizer) == ("above", "s")
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
        for dataset, ipc in recipe.tabulated(preset):
            load_method(name).fields(dataset, ipc, preset)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("title = ", "not valid TOML"),
        ("title = 't'", "synthesizer: Field required"),
        ("title = 't'\nsynthesizer = 'distribution_matching'\ntypo = 1", "typo: Extra inputs are not permitted"),
        ("title = 't'\nsynthesizer = 'distribution_matching'\n[cell.mnist.one]\na = 1", "cell.mnist.one"),
        ("title = 't'\ntitle = 'u'", "not valid TOML"),
        ("title = 't'\nsynthesizer = 's'\n[preset.cpu.ipc.one]\na = 1", "preset.cpu.ipc.one"),
        ("title = 't'\nsynthesizer = 's'\n[preset.cpu.cell.mnist.1]\na = 1979-05-27", "preset.cpu.cell.mnist.1.a"),
        ("title = 't'\nsynthesizer = 's'\n[preset.cpu]\na = 1979-05-27", "preset.cpu.a"),
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
        load_method("dm").fields("digits", 1, "fast")
    with pytest.raises(UsageError, match=r"no field imagelr.*image_lr"):
        load_method("dm").fields("digits", 1, imagelr=1)
    with pytest.raises(UsageError, match="image_lr: Input should be greater than 0"):
        load_method("dm").fields("digits", 1, image_lr=-1)
    with pytest.raises(UsageError, match="cannot load the method 'nowhere:f'"):
        load_method("nowhere:f")


def test_no_hyper_parameter_is_taken_for_an_argument():
    for name in ("ipc", "dataset", "preset", "self"):
        with pytest.raises(UsageError, match=rf"dm has no field {name}\. Its fields: always_flip, augment"):
            load_method("dm").fields("digits", 1, PAPER, **{name: 3})
    with pytest.raises(UsageError, match="zca_eps: Input should be greater than 0"):
        load_method("random").fields("digits", 1, zca_eps=-1)


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
