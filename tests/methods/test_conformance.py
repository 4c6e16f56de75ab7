"""What every method keeps to. The rows are all recipes, as their ``[preset.test]`` makes them quick on digits."""

import dataclasses
import functools
import re

import pytest
import torch
from killing import Kill, kill_after
from safetensors.torch import load as load_tensors
from stopping import StopsAfter

from distill_bench import Dataset, Split, load_dataset, synthesize
from distill_bench.distilled.budget import Budget
from distill_bench.distilled.distilled_set import load_distilled
from distill_bench.errors import Interrupted, UsageError
from distill_bench.methods import Checkpoint, load_method
from distill_bench.methods.limits import check_budget
from distill_bench.methods.recipe import TEST, list_recipes, load_recipe, recipe_file
from distill_bench.runtime.progress import SilentMonitor

RECIPES = {name: load_recipe(name) for name in list_recipes()}
CONFIGS = {
    name: load_method(name).config("digits", 1, TEST) for name, recipe in RECIPES.items() if TEST in recipe.preset
}
TABLE = [name for name in CONFIGS if recipe_file(name).stem == name]
VARIANTS = [name for name in CONFIGS if recipe_file(name).stem != name]
OPTIMISED = [name for name in TABLE if hasattr(CONFIGS[name], "iterations")]
MATCHED = [name for name in OPTIMISED if hasattr(CONFIGS[name], "network")]


def no_test_split() -> Split:
    raise AssertionError("a method asked for the test split")


@pytest.fixture(scope="module")
def source() -> Dataset:
    """Digits whose test split raises when it is touched."""
    return dataclasses.replace(load_dataset("digits"), load_test=no_test_split)


def test_no_row_is_missing():
    """Rows come from the recipes: a field that is renamed would leave a table empty, and its tests with it."""
    tables = (RECIPES, TABLE, VARIANTS, OPTIMISED, MATCHED, CASES)
    assert all(len(table) >= least for table, least in zip(tables, (31, 16, 15, 10, 8, 33), strict=True))
    assert sum(name.endswith(", recorded") for name in CASES) >= 4


@pytest.mark.parametrize("method", RECIPES)
def test_every_recipe_has_a_test_preset(method):
    assert TEST in RECIPES[method].preset, f"{method}.toml: give it [preset.test], what makes it quick on digits"


def refusal(source: Dataset, method: str, ipc: int, **fields: object) -> str | None:
    """Why a method makes no set of an IPC with some fields; None if it makes one."""
    chosen = load_method(method)
    config = chosen.config("digits", ipc, TEST, **fields)
    try:
        check_budget(source, method, chosen.function, config, Budget(ipc))
        config.check(source)
    except UsageError as error:
        return str(error)
    return None


@pytest.mark.parametrize("method", TABLE)
@pytest.mark.parametrize(
    ("ipc", "space"), [pytest.param(1, "unit", marks=pytest.mark.slow), (1, "zca"), (3, "normalized")]
)
def test_shapes_labels_card_and_file_in_every_pixel_space_or_a_refusal(source, method, ipc, space, tmp_path):
    if (reason := refusal(source, method, ipc, pixel_space=space)) and space != "normalized":
        with pytest.raises(UsageError, match=re.escape(reason)):
            synthesize(source, method, ipc, TEST, pixel_space=space)
        return
    made = synthesize(source, method, ipc, TEST, pixel_space=space)
    held = CONFIGS[method].images_a_class(ipc, 10)
    assert made.images.shape == (10 * held, 1, 8, 8) and made.card.ipc == ipc
    assert made.images.dtype == torch.float32
    assert made.labels.tolist() == [label for label in range(10) for _ in range(held)]
    assert made.card.class_names == source.class_names
    assert made.card.source.train_fingerprint == source.train.fingerprint
    assert made.card.recipe == load_method(method).config("digits", ipc, TEST, pixel_space=space).model_dump(
        mode="json"
    )
    assert made.card.pixel_space.kind == space
    made.save(tmp_path / "set.safetensors")
    assert load_distilled(tmp_path / "set.safetensors").to_bytes() == made.to_bytes()


@pytest.mark.unchecked
@pytest.mark.parametrize("method", TABLE)
def test_a_seed_gives_the_same_bytes_another_gives_others_and_the_global_generator_is_left_alone(source, method):
    state = torch.random.get_rng_state()
    first = synthesize(source, method, 2, TEST, seed=3)
    torch.manual_seed(123)
    again = synthesize(source, method, 2, TEST, seed=3)
    torch.random.set_rng_state(state)
    other = synthesize(source, method, 2, TEST, seed=4)
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.to_bytes() == again.to_bytes()
    assert not torch.equal(first.images, other.images)


RECORDED = {"labels": "recorded", "record": {"epochs": 3}}
CASES = {name: {} for name, config in CONFIGS.items() if config.memory_fields}
CASES |= {
    f"{name}, recorded": RECORDED
    for name in TABLE
    if hasattr(CONFIGS[name], "record") and refusal(load_dataset("digits"), name, 2, **RECORDED) is None
}


FUNCTIONS = {case: load_method(case.partition(",")[0]).function for case in CASES}
FIRST = {(function, CASES[case] is RECORDED): case for case, function in reversed(FUNCTIONS.items())}
TRAJECTORIES = load_method("mtt").function
ENDS = [
    case
    for case, function in FUNCTIONS.items()
    if case in FIRST.values() or (function is TRAJECTORIES and case not in VARIANTS)
]
"""Recipes of one function run the same code and write at the same places, so that the first stands for all; but those
of trajectory matching keep different things. `make test-kills` has them all."""
QUICK_ENDS = [case for case in ENDS if CASES[case] is not RECORDED or case == "cda, recorded"]
ENDINGS = [
    pytest.param(case, end, marks=() if case in QUICK_ENDS[number::2] else pytest.mark.slow)
    for case in ENDS
    for number, end in enumerate(("stopped", "killed"))
]
"""One end of each in turn is quick, with recorded labels of one alone; both ends of all are slow's."""


@functools.cache
def whole_set(case: str) -> tuple[bytes, list[float]]:
    """The bytes of a set that was made without an end between, and its losses."""
    losses: list[float] = []
    fields = CASES.get(case, {})
    made = synthesize(load_dataset("digits"), case.removesuffix(", recorded"), 2, TEST, history=losses, **fields)
    return made.to_bytes(), losses


@pytest.mark.unchecked
@pytest.mark.parametrize("method", VARIANTS)
def test_a_variant_gives_another_set_than_its_base(method):
    base, made = (load_tensors(whole_set(name)[0]) for name in (recipe_file(method).stem, method))
    assert base.keys() != made.keys() or any(not torch.equal(made[name], base[name]) for name in base)


@pytest.mark.unchecked
@pytest.mark.parametrize(("case", "end"), ENDINGS)
def test_work_that_ends_again_and_again_comes_to_the_same_bytes(source, case, end, tmp_path, monkeypatch):
    """Teachers and experts too, which the second home lacks. Killed after some writes, or stopped at every step."""
    method, fields = case.removesuffix(", recorded"), CASES[case]
    whole, losses = whole_set(case)
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path))
    for ends in range(100):
        history: list[float] = []
        kept = Checkpoint(tmp_path / "unfinished.safetensors", every_seconds=0.0 if end == "killed" else 1e9)
        monitor = StopsAfter(1) if end == "stopped" else SilentMonitor()
        try:
            with monkeypatch.context() as patch:
                kill_after(patch, 1 + ends % 3 if end == "killed" else 0)
                made = synthesize(source, method, 2, TEST, monitor=monitor, checkpoint=kept, history=history, **fields)
            break
        except (Kill, Interrupted):
            continue
    assert (made.to_bytes(), history) == (whole, losses)
    assert ends >= 3
    kept.clear()
    assert [path for path in tmp_path.rglob("*unfinished*") if path.is_file()] == []


def test_a_checkpoint_of_another_number_of_threads_or_none_is_said_in_a_line(source, tmp_path, caplog, monkeypatch):
    path = tmp_path / "unfinished.safetensors"

    def stop() -> None:
        with pytest.raises(Interrupted):
            synthesize(source, "dm", 1, TEST, monitor=StopsAfter(2), checkpoint=Checkpoint(path))

    stop()
    stop()
    assert caplog.messages == []
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 7)
        stop()
    (line,) = caplog.messages
    assert "made with threads 1 goes on with threads 7" in line
    path.write_bytes(path.read_bytes()[:100])
    synthesize(source, "dm", 1, TEST, checkpoint=Checkpoint(path))
    assert "unfinished.safetensors cannot be read" in caplog.messages[-1] and len(caplog.messages) == 2


@pytest.mark.parametrize("method", OPTIMISED)
def test_the_images_move_and_the_loss_is_finite(source, method):
    history: list[float] = []
    ipc = 1 if refusal(source, method, 1) is None else 2
    made = synthesize(source, method, ipc, TEST, history=history)
    start = synthesize(source, method, ipc, TEST, **{"iterations": 1, "image_lr": 1e-20})
    assert not torch.allclose(made.shown().images, start.shown().images)
    assert history and all(0 <= loss < 1e9 for loss in history)


@pytest.mark.parametrize("method", TABLE)
def test_more_images_than_a_class_has_are_refused(source, method):
    with pytest.raises(UsageError, match=r"class '\d' has \d+ training images, fewer than the 500 per class"):
        synthesize(source, method, 500, TEST)


@pytest.mark.parametrize("method", MATCHED)
def test_a_batch_norm_network_is_matched_too(source, method):
    made = synthesize(source, method, 2, TEST, **{"network": "ConvNetD2W4BN"})
    assert bool(made.images.isfinite().all())


@pytest.mark.parametrize("method", MATCHED)
def test_an_explosion_stops_with_step_seed_and_a_suggestion(source, method):
    from distill_bench.errors import RunFailed

    with pytest.raises(RunFailed, match=r"seed 7, failed at step \d+ of 6: .*Lower `image_lr=…` \(now 1e\+30\)"):
        synthesize(source, method, 1, TEST, seed=7, **{"image_lr": 1e30})
