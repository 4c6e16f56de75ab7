"""Hostile and broken files, drawn by Hypothesis: a strategy for every kind of file that the command opens."""

import json

import makers
from arena import Case
from common import EXPERTS, RECIPE_CHECK, importing, placed
from own_data import array_cases, making, named_source_cases, picture_cases, table_cases
from own_format import LOOK, USE, broken_set_cases, card_cases, lying_set_cases, set_case, wrong_set_cases
from releases import broken_pt_cases, lying_pt_cases, pickle_cases, wrong_value_cases
from texts import DOWNLOAD, ENTRY, RECIPE, RESULT, SUITE, archive_cases, registry_cases, result_cases, toml_cases

ALL = {
    "malicious pickles": pickle_cases(),
    "broken releases": broken_pt_cases(),
    "lying .pt files": lying_pt_cases(),
    "wrong values": wrong_value_cases(),
    "broken sets": broken_set_cases(),
    "lying sets": lying_set_cases(),
    "wrong sets": wrong_set_cases(),
    "cards": card_cases(),
    "arrays": array_cases(),
    "tables": table_cases(),
    "pictures": picture_cases(),
    "named sources": named_source_cases(),
    "TOML": toml_cases(),
    "results": result_cases(),
    "registries": registry_cases(),
    "archives": archive_cases(),
}


def sound_cases() -> list[Case]:
    """Of every kind a file that nothing is wrong with: what the others are changes of."""
    cases = [
        Case("sound", form, placed(files), importing(files, *more), (0,))
        for form, (files, more) in makers.released().items()
    ]
    cases += [set_case("sound", kind, makers.sound_set(kind), LOOK, (0,)) for kind in makers.KINDS]
    cases += [
        Case("sound", f"use of {kind}", placed({"set.safetensors": makers.sound_set(kind)}), USE, (0,), makes_set=False)
        for kind in makers.KINDS
    ]
    pictures = {f"new{k // 2:03d}/{k % 2}.png": makers.picture(each) for k, each in enumerate(makers.pixels())}
    arrays = {"data.npz": makers.npz(**makers.data_npz())}
    archive = makers.zip_of((f"set/{name}", content) for name, content in pictures.items())
    suite = ("bench", "{root}/in/mine.toml", "--dry-run", "--quiet")
    replay = {"replay_buffer_0.pt": makers.pt(makers.replay_buffer())}
    entry = {"r.toml": ENTRY.replace("PAGE", "sound").encode(), "pictures.zip": archive}
    results = {"out/results/digits/digits/dm/ipc1-seed0.quick-v1.json": json.dumps(RESULT).encode()}
    board = ("leaderboard", "--results", "{root}/out/results")
    return [
        *cases,
        Case("sound", "arrays", placed(arrays), making("npz:{root}/in/data.npz"), (0,)),
        Case(
            "sound", "table", placed({"t.parquet": makers.sound_parquet()}), making("parquet:{root}/in/t.parquet"), (0,)
        ),
        Case(
            "sound",
            "folder",
            placed({f"d/train/{k}": v for k, v in pictures.items()}),
            making("folder:{root}/in/d"),
            (0,),
        ),
        Case("sound", "released folder", placed({f"d/{k}": v for k, v in pictures.items()}), importing(["d"]), (0,)),
        Case("sound", "mnist", makers.mnist_files(), making("mnist"), (0,)),
        Case("sound", "experts", placed(replay), EXPERTS, (0,), makes_set=False),
        Case("sound", "suite", placed({"mine.toml": SUITE.encode()}), suite, (0,), makes_set=False),
        Case("sound", "recipe", placed({"mine.toml": RECIPE.encode()}), RECIPE_CHECK, (0,), makes_set=False),
        Case("sound", "results", results, board, (0,), makes_set=False),
        Case("sound", "archive", placed(entry), DOWNLOAD, (0,), makes_set=False),
    ]
