"""What goes into the page: rows of all suites, recipes with their sources, commands, and nothing that is HTML."""

import base64
import io
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import set_pictures
import torch
import typer
from PIL import Image
from result_files import claim, failure, full, score, write

from distill_bench.benchmark.leaderboard import Source, merged_rows, render_page
from distill_bench.benchmark.leaderboard.board import sources_of
from distill_bench.benchmark.leaderboard.colours import FLIPPED, OTHER, PALETTE, TAUGHT, style_of, told_apart
from distill_bench.benchmark.leaderboard.page.commands import commands
from distill_bench.benchmark.leaderboard.page.pictures import pictures_of
from distill_bench.benchmark.leaderboard.page.recipes import about_method, sourced
from distill_bench.benchmark.leaderboard.page.render import page
from distill_bench.benchmark.leaderboard.page.rows import page_data
from distill_bench.cli.commands import app
from distill_bench.datasets import load_dataset
from distill_bench.distilled.card import Origin
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.evaluation.result import LINES
from distill_bench.methods.recipe import list_recipes, load_recipe

DM = load_recipe("dm").resolve("digits", 1, "cpu", {}, 8)


def rows_of(*results, claims=()):
    return merged_rows([Source("checkout", results)], claims)


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


# --- one board a dataset


def test_a_set_that_several_suites_scored_alike_stands_in_one_row_with_all_seeds():
    first = [score(seed=seed, suite="digits") for seed in (0, 1)]
    (row,) = rows_of(*first, score(seed=1, suite="other"), score(seed=2, suite="other"))
    assert (row["suites"], row["seeds"], len(row["results"])) == (["digits", "other"], 3, 3)
    assert list(row["accuracies"]) == ["0", "1", "2"]


@pytest.mark.parametrize("differing", [{"set_sha256": "x"}, {"recipe": {"iterations": 1}}])
def test_what_suites_found_differently_is_told_apart_by_their_names(differing):
    rows = rows_of(score(), score(suite="other", **differing))
    assert sorted(row["preset"] for row in rows) == ["cpu (digits)", "cpu (other)"]


def test_rows_of_two_folders_stay_apart_and_rank_together_each_beside_its_own_random():
    here = [score(accuracies=(70.0, 71.5)), score("random", accuracies=(10.0, 11.0))]
    checkout = [score(accuracies=(90.0, 91.0)), score("random", accuracies=(20.0, 21.0)), full()]
    rows = merged_rows([Source("here", here), Source("checkout", checkout)])
    dm = {row["origin"]: row for row in rows if row["method"] == "dm"}
    assert (dm["here"]["random"], dm["checkout"]["random"]) == (10.5, 20.5)
    assert dm["here"]["full"] == 98.0  # which its own folder has not
    assert [row["place"].rank for row in (dm["checkout"], dm["here"])] == [1, 2]


def test_the_whole_split_on_another_network_is_no_reference():
    for network, gap in (("ConvNetD2W64", 9.0), ("ConvNetD2W32", None)):
        (row,) = [each for each in rows_of(score(), full(network=network)) if each["method"] == "dm"]
        assert (row["gap"] and row["gap"].difference) == (None if gap is None else pytest.approx(gap))


def test_settings_of_a_study_stand_last_without_a_rank():
    best = {"suite": "recovery", "accuracies": (95.0, 96.0)}
    rows = rows_of(score("sre2l"), score("sre2l real start", **best), score("dm", accuracies=(80.0, 81.0)))
    assert [row["method"] for row in rows if row["method"] != "full"] == ["sre2l", "dm", "sre2l real start"]
    assert [row["place"] and row["place"].rank for row in rows][-1] is None
    (own,) = rows_of(score("My set", preset=None, synthesis=None))
    assert own["place"].rank == 1, "a name with a space that no suite gave"


def test_what_studies_varied_is_left_out_of_the_page_unless_there_is_nothing_else(tmp_path):
    varied = score("sre2l real start", suite="recovery")
    own = score("dm flipped", suite="mine")  # of a suite that is no study of this project

    def shown(*results):
        render_page([Source("checkout", results)], tmp_path / "page.html")
        return {row["method"] for row in data_of((tmp_path / "page.html").read_text())["rows"]}

    assert shown(varied, own, score("sre2l", suite="recovery")) == {"dm flipped", "sre2l"}
    assert shown(varied) == {"sre2l real start"}
    assert shown(varied, score("sre2l real start", suite="mine")) == {"sre2l real start"}


def test_a_failure_in_one_suite_takes_no_row_of_another_away():
    rows = rows_of(score("mtt", cell_key="a"), failure("mtt", suite="other", cell_key="b"))
    assert [row["status"] for row in rows] == ["done", "failed"]


# --- recipes


def test_a_value_comes_with_its_table_and_the_tables_with_what_stands_above_them():
    found = sourced("dm", "digits", 1, "cpu", 8, DM | {"image_lr": 3.0})
    fields = {
        key: (value, None if place is None else found["tables"][place][0]) for key, value, place in found["fields"]
    }
    assert fields["iterations"] == (300, "preset.cpu")
    assert fields["init"] == ("real", "defaults")
    assert fields["image_lr"] == (3.0, None)  # set by hand
    sources = dict(map(tuple, found["tables"]))
    assert sources["defaults"] == "main_DM.py and readme of VICO-UoE/DatasetCondensation 53f63a6"
    assert "held out" in sources["preset.cpu"]


def test_tables_of_a_base_and_of_several_datasets_have_their_sources():
    values = load_recipe("sre2l").resolve("mnist", 10, "cpu", {}, 28)
    sources = dict(map(tuple, sourced("sre2l", "mnist", 10, "cpu", 28, values)["tables"]))
    assert sources["defaults"].startswith("VILA-Lab/SRe2L")
    assert sources["preset.cpu.dataset.mnist"].startswith("fewer steps")


def test_what_is_no_built_in_recipe_has_no_sources_and_is_not_imported():
    found = sourced("os:system", "digits", 1, "cpu", None, {"a": {"b": float("nan")}})
    assert found == {"tables": [], "fields": [["a.b", "nan", None]]}
    assert about_method("os:system") == {"title": None, "paper": None, "link": None}
    assert about_method("dm")["link"] == "https://arxiv.org/abs/2110.04181"


# --- commands


def options_of(line):
    """What the command line makes of it: raises where an option or an argument is wrong."""
    program, name, *words = shlex.split(line)
    assert program == "distill-bench"
    command = typer.main.get_command(app).commands[name]
    return name, command.make_context(name, words, resilient_parsing=False).params


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (score(seed=1), "bench digits --only method=dm,ipc=1,seed=1,protocol=quick-v1"),
        (
            score(networks=2, accuracies=[1.0, 2.0]),
            "bench digits --only method=dm,ipc=1,seed=0,protocol=quick-v1 --networks 2",
        ),
        (full(98.0, 98.2, 97.8), "bench digits --only method=full"),
        (full(), "bench digits --only method=full --networks 1"),
        (
            score("rded", suite="mine", preset="cpu", protocol="quick-v1+MLP", networks=3, accuracies=[1.0, 2.0, 3.0]),
            "evaluate rded-digits-ipc1-seed0.safetensors --protocol quick-v1+MLP",
        ),
        (
            score("rded", suite="mine", preset="cpu", protocol="probe-v1", networks=3, accuracies=[1.0, 2.0, 3.0]),
            "evaluate rded-digits-ipc1-seed0.safetensors --protocol probe-v1 --networks 3",
        ),
        (
            score(suite="own", dataset="folder:my photos", size=32, holdout=0.2, preset="cpu"),
            "bench own --only method=dm,ipc=1,seed=0 --dataset 'folder:my photos' --size 32 --holdout 0.2",
        ),
        (
            score(suite="mine", recipe=DM | {"image_lr": 3.0}, strict=True),
            "synthesize dm --dataset digits --ipc 1 --preset cpu --set image_lr=3.0 "
            "--out dm-digits-ipc1-seed0.safetensors",
        ),
        (
            score("theirs", suite="evaluated", seed=None, origin=Origin(form="npz", files={"a b.npz": "0"})),
            "import 'a b.npz' --dataset digits --method theirs --space normalized "
            "--out theirs-digits-ipc1.safetensors",
        ),
    ],
)  # fmt: skip
def test_the_command_that_makes_a_row_again(result, expected):
    (row,) = rows_of(result)
    lines = commands(row)
    assert lines[0] == f"distill-bench {expected}"
    for line in lines:
        options_of(line)
    if result.strict:
        assert options_of(lines[1])[1]["labels"] == "hard"


@pytest.mark.parametrize(("sets", "more"), [(1, ""), (2, " --all-sets")])
def test_a_released_set_goes_by_its_id(sets, more):
    origin = Origin(form="res", files={"anything.pt": "0"}, sets=5)
    fields = {"dataset": "cifar10", "suite": "published", "seed": None, "protocol": "dsa-v1", "origin": origin}
    (row,) = rows_of(*[score("dm", set_sha256=f"of {index}", **fields) for index in range(sets)])
    assert commands(row) == [
        "distill-bench download dm-cifar10-ipc1",
        f"distill-bench evaluate dm-cifar10-ipc1 --protocol dsa-v1 --networks 3{more}",
    ]
    options_of(commands(row)[1])


@pytest.mark.parametrize("name", ["--force", "-x"])
def test_no_name_becomes_an_option(name):
    (row,) = rows_of(score(name, suite="mine", recipe={}))
    assert commands(row) == []


# --- pictures


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A set of eleven images of two classes in the store, and a result of it."""
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path))
    labels = [0] * 11 + [1] * 2
    made = DistilledSet.from_tensors(torch.rand(13, 1, 8, 8), labels, load_dataset("digits").with_classes([3, 5]))
    key = "0123456789abcdef" * 2
    (tmp_path / "store/sets").mkdir(parents=True)
    made.save(tmp_path / "store/sets" / f"{key}.safetensors")
    return score(cell_key=key, set_sha256=made.sha256)


def test_a_set_that_is_here_is_shown_class_by_class(stored):
    (address,) = pictures_of([stored, stored]).values()
    image = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
    assert image.size == (2 * 9 - 1, 10 * 9 - 1)
    assert stored.set_sha256 in page_data(rows_of(stored))["pictures"]


@pytest.mark.parametrize(
    "fields", [{"set_sha256": "0"}, {"cell_key": None}, {"cell_key": "../sets/x"}, {"cell_key": "f" * 32}]
)
def test_no_other_set_is_shown_in_its_place(stored, fields):
    assert pictures_of([stored.model_copy(update=fields)]) == {}


def test_a_picture_lies_with_the_results_where_the_store_has_no_set(stored, tmp_path, monkeypatch):
    folder = tmp_path / "results"
    write(
        folder, [stored.model_copy(update={"seed": 0}), stored.model_copy(update={"seed": 1, "set_sha256": "b" * 64})]
    )
    monkeypatch.setattr(sys, "argv", ["set_pictures.py", str(folder)])
    (folder / "pictures").mkdir()
    (folder / "pictures" / f"{'c' * 64}.png").write_bytes(b"\x89PNG of no result")
    set_pictures.main()
    assert [path.stem for path in (folder / "pictures").iterdir()] == [stored.set_sha256]
    shown = pictures_of([stored])
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "another"))
    assert pictures_of([stored]) == {} and pictures_of([stored], [tmp_path, folder]) == shown
    render_page(sources_of([folder]), tmp_path / "page.html")
    assert data_of((tmp_path / "page.html").read_text())["pictures"] == shown


@pytest.mark.parametrize("name", ["../outside", "b" * 64])
def test_no_other_file_is_shown_as_a_picture(stored, tmp_path, monkeypatch, name):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "another"))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "outside.png").write_bytes(b"\x89PNG")
    (tmp_path / "pictures" / f"{'b' * 64}.png").write_bytes(b"<svg>")
    assert pictures_of([stored.model_copy(update={"set_sha256": name})], [tmp_path]) == {}


def test_pictures_have_little_room(stored, monkeypatch):
    monkeypatch.setattr("distill_bench.benchmark.leaderboard.page.pictures._MOST_BYTES", 50)
    assert pictures_of([stored]) == {}


# --- the file


HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


def test_no_text_of_a_result_is_html(tmp_path):
    fields = {"preset": HOSTILE, "notes": (HOSTILE,), "recipe": {HOSTILE: HOSTILE}, "run": {"torch": HOSTILE}}
    render_page([Source(HOSTILE, [score(HOSTILE, dataset=HOSTILE, **fields)])], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count("</script>") == 2 and "<img" not in text and 'onerror="' not in text
    (row,) = data_of(text)["rows"]
    assert (row["method"], row["dataset"], row["notes"], row["versions"]["torch"]) == (
        HOSTILE,
        HOSTILE,
        [HOSTILE],
        [HOSTILE],
    )


def test_the_page_asks_for_nothing_and_is_small():
    text = page(page_data(rows_of(score(), full())))
    assert "default-src 'none'" in text
    assert not re.search(r'(?:src|href|url)\s*[=(]\s*["\']?(?:https?:)?//', text)
    code = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
    assert not re.search(r"\bfetch\b|XMLHttpRequest|WebSocket|@import|innerHTML|insertAdjacentHTML|eval\(", code)
    assert len(text) < 80_000


def test_what_the_committed_results_make_is_less_than_three_megabytes_and_has_all_datasets(tmp_path):
    from distill_bench.benchmark.results import read_results

    folder = Path(__file__).parents[2] / "results"
    render_page([Source("checkout", read_results(folder))], tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 3e6
    data = data_of((tmp_path / "page.html").read_text())
    assert {"digits", "mnist", "fashion_mnist", "cifar10"} <= set(data["datasets"])
    sets = [row for row in data["rows"] if row["method"] not in LINES]
    assert all(row["commands"] and bool(row["rank"]) is (" " not in row["method"]) for row in sets)
    assert len({row["id"] for row in data["rows"]}) == len(data["rows"])
    named = {name: about for name, about in data["methods"].items() if about["family"] != OTHER}
    for family in data["families"]:
        looks = [look_of(named[name]) for name in named if name in data["random"] or named[name]["family"] == family]
        assert len(set(looks)) == len(looks), family


def test_a_row_of_another_preset_and_other_seeds_is_made_again_as_it_was():
    fields = {"recipe": {"iterations": 1}}
    (row,) = rows_of(*[score(preset="paper", seed=seed, **fields) for seed in (0, 7)])
    (line,) = commands(row)
    assert "--preset paper --seed 0 --seed 7" in line
    (row,) = rows_of(score(seed=2, **fields))
    assert "--preset" not in commands(row)[0] and "--seed" not in commands(row)[0]


def test_bits_per_class_and_the_claim_beside_a_row():
    figure = claim(method="own", protocol="quick-v1", network="ConvNetD2W64", accuracy=89.0, std=0.5, networks=5)
    (row,) = page_data(rows_of(score("own", preset=None), claims=[figure]), [figure])["rows"]
    assert row["bits"] == 2640 * 8 / 10
    assert (row["claim"]["claimed"], row["claim"]["comparable"], row["claim"]["verdict"]) == (89.0, True, "holds")
    (row,) = page_data(rows_of(score(dataset="folder:x")))["rows"]
    assert (row["bits"], row["claim"]) == (None, None)
    (row,) = page_data(rows_of(score(), claims=[claim()]), [claim()])["rows"]
    assert (row["claim"]["comparable"], row["claim"]["why"][0]) == (False, "the claim is under dsa-v1")


# --- colours


def look_of(about):
    return about["colour"], about["dash"], about["shape"]


def test_no_two_lines_of_a_panel_look_alike():
    methods = ["own-1", "own-1", "random", "random-zca", "random-soft", "random-recorded", *["dm"] * 8]
    styles = told_apart(methods)
    assert len({look_of(vars(style)) for style in styles}) == len(styles)
    assert [style.colour for style in styles] == [style_of(method).colour for method in methods]
    assert styles[-8] == style_of("dm")


def test_selections_with_a_teacher_have_the_colours_of_those_without():
    kinds = ["el2n", "el2n-easy", "el2n-kd-0.5", "el2n-kd-1.0", "el2n-easy-kd-0.5", "el2n-easy-kd-1.0"]
    styles = [style_of(kind) for kind in kinds]
    assert {(style.colour, style.shape) for style in styles} == {(styles[0].colour, styles[0].shape)}
    assert {style.family for style in styles[2:]} == {TAUGHT} and len({style.dash for style in styles[2:]}) == 4


def test_every_built_in_method_has_a_place_and_within_a_family_no_two_look_alike():
    styles = {name: style_of(name) for name in list_recipes() if name != "datadam-released"}
    assert OTHER not in {style.family for style in styles.values()}
    looks = [(style.family, style.colour, style.dash, style.shape) for style in styles.values()]
    assert len(set(looks)) == len(looks)
    shapes = {style.family: style.shape for style in styles.values() if not style.family.startswith(FLIPPED)}
    assert len(set(shapes.values())) == len(shapes), "a family's shape is its own"


def test_colours_stand_out_from_their_ground():
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for pair in PALETTE:
        for colour, ground in zip(pair, ("#ffffff", "#14181d"), strict=True):
            light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3
