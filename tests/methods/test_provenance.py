"""Every value says which table, file and comment it is from."""

import pytest

from distill_bench.methods import list_methods, load_method
from distill_bench.methods.provenance import CODE, REQUEST, sources, written_values

RECIPE = """
title = "mine"
base = "dm"
# the paper, table 3
[defaults]
iterations = 7
# the code's
image_lr = 2.0
real_batch = 9 # by hand
# for both
[cell."mnist, digits".5]
iterations = 8
[preset.cpu]
iterations = 9
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)
    return path


def test_comments_go_with_their_value_or_their_table(mine):
    assert [(".".join(path), said) for path, _, said in written_values(mine)] == [
        ("title", ""),
        ("base", ""),
        ("defaults.iterations", "the paper, table 3"),
        ("defaults.image_lr", "the code's"),
        ("defaults.real_batch", "by hand"),
        ("cell.mnist, digits.5.iterations", "for both"),
        ("preset.cpu.iterations", ""),
    ]


def test_the_last_table_that_says_a_value_is_its_source(mine):
    found = sources(load_method(str(mine)), "digits", 6, "paper", 8, {"chunk": 2})
    assert found["iterations"] == {"table": "cell.digits.5", "file": "mine.toml", "why": "for both"}
    assert found["image_lr"] == {"table": "defaults", "file": "mine.toml", "why": "the code's"}
    assert found["augment"]["file"] == "dm.toml" and "main_DM.py" in found["augment"]["why"]
    assert found["chunk"] == {"table": REQUEST} and found["pixel_space"] == {"table": CODE}
    assert sources(load_method(str(mine)), "digits", 1, "cpu", 8, {})["iterations"]["table"] == "preset.cpu"
    flipped = sources(load_method("fyi-dm"), "digits", 1, "paper", 8, {})["flip"]
    assert flipped["table"] == "defaults" and "ECCV 2024" in flipped["why"]


def leaves(values, above=""):
    for name, value in values.items():
        yield from leaves(value, f"{above}{name}.") if isinstance(value, dict) and value else [above + name]


@pytest.mark.parametrize("name", list_methods())
def test_every_value_of_every_method_has_a_source(name):
    method = load_method(name)
    for preset in method.recipe.presets:
        if preset == "test":
            continue
        found = sources(method, "cifar10", 1, preset, 32, {})
        assert not {*leaves(method.config("cifar10", 1, preset, 32).model_dump())} - found.keys()
        written = {leaf for table in method.recipe.tables("cifar10", 1, preset, 32).values() for leaf in leaves(table)}
        for value, source in found.items():
            assert value in written or source["table"] == CODE or value.startswith("selection."), value
            assert source["table"] == CODE or value.startswith("selection.") or source.keys() & {"file", "why"}, value
        assert all(found[value]["table"] != CODE for value in written)
        assert not [value for value in found if any(other.startswith(f"{value}.") for other in found)]


def test_without_a_side_it_is_that_of_the_data():
    method = load_method("rat-bptt")
    assert sources(method, "mnist", 1, "cpu", None, {}) == sources(method, "mnist", 1, "cpu", 28, {})
    assert sources(method, "mnist", 1, "cpu", None, {})["network"]["table"] == "preset.cpu.side.28"
