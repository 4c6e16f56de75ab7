"""What a release says of its set: which data an accuracy is on, which result speaks for it, how it is used."""

import ast
import json
import tomllib

import pytest
import torch
from folders import images_folder
from safetensors import safe_open
from safetensors.torch import save_file
from short_protocol import short_quick_v1

import distill_bench
from distill_bench import DataError, DistilledSet, UsageError, load_dataset, load_distilled
from distill_bench.api.released import export, import_sets, verify
from distill_bench.cli.claims import judged
from distill_bench.evaluation import evaluate
from distill_bench.hub.publish import release
from distill_bench.hub.registry.registry import Entry


@pytest.fixture(scope="module", autouse=True)
def _short(tmp_path_factory):
    with short_quick_v1(tmp_path_factory.mktemp("home"), epochs=1):
        yield


def custom(dataset, **fields):
    draws = torch.Generator().manual_seed(len(fields))
    fields = {"protocol": "quick-v1"} | fields
    count = fields.pop("count", 1) * 10
    return DistilledSet.from_tensors(
        torch.randn(count, 1, 8, 8, generator=draws), torch.arange(count) % 10, dataset, **fields
    )


def written(folder, name, found):
    (folder / name).write_text(found.model_dump_json())
    return folder / name


def entry_of(ready):
    (table,) = tomllib.loads(ready.files["registry-entry.toml"].decode()).values()
    return Entry.model_validate(table)


@pytest.fixture
def held(tmp_path):
    """A set made with a holdout, with its results on what was held out and on the test split."""
    data = load_dataset("digits", holdout=0.2)
    made = custom(data)
    made.save(tmp_path / "held.safetensors")
    on = {
        "held": evaluate(made, data, "quick-v1"),
        "test": evaluate(made, load_dataset("digits").with_holdout(0.2, own_test=True), "quick-v1"),
    }
    return (
        tmp_path / "held.safetensors",
        on,
        {name: written(tmp_path, f"{name}.json", found) for name, found in on.items()},
    )


def test_a_held_out_accuracy_is_published_and_claimed_as_one(held):
    file, on, paths = held
    ready = release(file, [paths["held"]])
    assert entry_of(ready).claim.data == "digits holdout 0.2"
    assert "| digits holdout 0.2 | quick-v1 |" in ready.files["README.md"].decode()
    assert judged(entry_of(ready), [on["held"]])[0].startswith(("holds", "not resolved"))
    assert judged(entry_of(ready), [on["test"]]) == ["no verdict: the claim is on digits holdout 0.2"]


def test_both_go_into_one_folder(held):
    file, _, paths = held
    names = [name for name in release(file, [*paths.values()]).files if name.startswith("results/")]
    assert len(names) == 2 and sum("holdout-0.2" in name for name in names) == 1


@pytest.mark.parametrize("rate", [0.05, float(torch.tensor(0.01)), 0.01])
def test_the_claim_is_the_result_as_the_set_is_stored_and_none_takes_the_place_of_another(digits, tmp_path, rate):
    made = custom(digits, learning_rate=rate)
    made.save(tmp_path / "r.safetensors")
    found = {use: evaluate(made, digits, "quick-v1", labels=use) for use in ("stored", "hard")}
    ready = release(tmp_path / "r.safetensors", [written(tmp_path, f"{use}.json", each) for use, each in found.items()])
    filed = {name: json.loads(text) for name, text in ready.files.items() if name.startswith("results/")}
    assert sorted(each["strict"] for each in filed.values()) == [False, True]
    assert filed[entry_of(ready).claim.source]["strict"] is False


def test_what_is_no_protocol_of_one_network_is_published_too(digits, tmp_path):
    targets = {"label_kind": "targets", "protocol": "probe-v1"}
    images = torch.randn(10, 1, 8, 8)
    made = custom(digits)
    card = made.card.model_copy(update=targets)
    DistilledSet(images, torch.arange(10), card, stored={"target.features": torch.randn(10, 4)}).save(
        tmp_path / "t.safetensors"
    )
    assert entry_of(release(tmp_path / "t.safetensors")).protocol == "probe-v1"
    custom(digits, protocol="strange:own").save(tmp_path / "s.safetensors")
    assert entry_of(release(tmp_path / "s.safetensors")).protocol == "standard-v1"


@pytest.mark.parametrize(
    ("method", "labels"),
    [
        ("random", {}),
        ("random-targets", {}),
        *(("random-soft", {"labels": kind}) for kind in ("recorded", "teacher", "soft")),
    ],
)
def test_the_python_of_a_card_runs(digits, tmp_path, monkeypatch, method, labels):
    made = distill_bench.synthesize(digits, method, 1, preset="test", **labels)
    made.save(tmp_path / "x.safetensors")
    ready = release(tmp_path / "x.safetensors", name="x")
    monkeypatch.chdir(tmp_path)
    code = ready.files["README.md"].decode().split("```python\n")[1].split("```")[0]
    ast.parse(code)
    exec(code, {})


def test_smaller_images_in_each_are_said(digits, tmp_path):
    custom(digits, formation=2).save(tmp_path / "f.safetensors")
    card = release(tmp_path / "f.safetensors").files["README.md"].decode()
    assert "| every image holds | 2×2 smaller ones |" in card and "Every picture holds 2 × 2 smaller images" in card


def test_what_an_export_loses_and_how_it_is_read_back_say_so_too(command, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    custom(digits, formation=2).save("f.safetensors")
    code, said, error = command("export", "f.safetensors", "--to", "mtt", "--lossy", "--out", "back")
    assert code == 0 and "lost: that each image holds 2×2 smaller ones" in said, error
    assert "read back by" not in said


def test_an_imported_set_is_published_without_a_warning(command, digits, tmp_path, caplog):
    import numpy

    numpy.savez(
        tmp_path / "im.npz",
        images=numpy.random.default_rng(0).integers(0, 255, (10, 1, 8, 8), dtype=numpy.uint8),
        labels=numpy.arange(10),
    )
    assert command("import", tmp_path / "im.npz", "--dataset", "digits", "--out", tmp_path / "im.safetensors")[0] == 0
    release(tmp_path / "im.safetensors")
    assert "is not what it should be" not in caplog.text


def test_a_prefix_is_verified_from_the_whole_sets_file_and_published_with_none(digits, tmp_path):
    made = custom(digits, count=4, prefixes=(1, 2))
    made.save(tmp_path / "pre.safetensors")
    path = written(tmp_path, "r.json", evaluate(made.prefix(1), digits, "quick-v1"))
    assert verify(tmp_path / "pre.safetensors", path, progress=False).holds
    with pytest.raises(UsageError, match="first 1 images per class"):
        release(tmp_path / "pre.safetensors", [path])


def test_of_lines_with_results_of_prefixes_those_of_the_whole_set_count(digits, tmp_path):
    made = custom(digits, count=4, prefixes=(1, 2))
    made.save(tmp_path / "pre.safetensors")
    found = [evaluate(each, digits, "quick-v1") for each in (made.prefix(1), made, made.prefix(2))]
    (tmp_path / "all.jsonl").write_text("".join(each.model_dump_json() + "\n" for each in found))
    (tmp_path / "one.jsonl").write_text(found[0].model_dump_json() + "\n")
    names = [
        name for name in release(tmp_path / "pre.safetensors", [tmp_path / "all.jsonl"]).files if "results/" in name
    ]
    assert len(names) == 1
    for name, of in (("all", found[1]), ("one", found[0])):
        verdict = verify(tmp_path / "pre.safetensors", tmp_path / f"{name}.jsonl", progress=False)
        assert verdict.holds and verdict.claimed == pytest.approx(of.accuracy)


def test_a_release_does_not_lie_among_the_images_from_python_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images_folder(tmp_path / "pets")
    distill_bench.synthesize("folder:pets", "random", ipc=1).save("x.safetensors")
    with pytest.raises(UsageError, match=r"`out=pets/train/release` lies in a folder of pets/train"):
        distill_bench.publish("x.safetensors", "pets/train/release", licence="cc0-1.0")


def test_a_file_that_others_wrote_is_the_set_that_its_results_name(command, digits, tmp_path):
    custom(digits).save(tmp_path / "ours.safetensors")
    with safe_open(tmp_path / "ours.safetensors", framework="pt") as file:
        tensors, card = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()["distill_bench"]  # noqa: SIM118
    save_file(tensors, tmp_path / "own.safetensors", metadata={"distill_bench": json.dumps(json.loads(card), indent=1)})
    made = load_distilled(tmp_path / "own.safetensors")
    path = written(tmp_path, "own.json", evaluate(made, digits, "quick-v1"))
    assert verify(tmp_path / "own.safetensors", path, progress=False).holds
    assert release(tmp_path / "own.safetensors", [path]).files
    shown = json.loads(command("info", tmp_path / "own.safetensors")[1])
    assert shown["sha256"] == made.sha256 != shown["file_sha256"]
    assert "file_sha256" not in json.loads(command("info", tmp_path / "ours.safetensors")[1])


def test_a_whitened_set_is_exported_with_its_own_sources_pixels_by_name_too(tmp_path):
    data = load_dataset("digits", holdout=0.5)
    images = (data.train.images(torch.arange(10)).float()).to(torch.uint8)
    made = DistilledSet.from_tensors(images, torch.arange(10), data, pixel_space="zca")
    for out, dataset in (("a", None), ("b", "digits"), ("c", data)):
        export(made, "mtt", tmp_path / out, dataset=dataset)
    first, *others = (torch.load(tmp_path / out / "images_best.pt") for out in "abc")
    assert all(torch.equal(first, other) for other in others)


def test_a_saved_set_takes_the_place_of_one_that_was_made(digits, tmp_path, command):
    path = tmp_path / "dm.safetensors"
    assert command("synthesize", "random", "--dataset", "digits", "--ipc", 1, "--out", path)[0] == 0
    made = load_distilled(path)
    made.save(path)
    assert (tmp_path / "dm.run.json").exists()  # the same bytes
    custom(digits).save(path)
    assert load_distilled(path).card.method == "custom" and not (tmp_path / "dm.run.json").exists()


@pytest.mark.parametrize("wrong", [{"labels": "foo"}, {"label": "logits"}, {"fraction": 2}])
def test_options_of_an_import_are_checked_in_python_too(tmp_path, wrong):
    with pytest.raises(UsageError, match="import: "):
        import_sets(tmp_path / "x.npz", "digits", **wrong)


def test_grey_images_without_a_channel_have_none_that_comes_last(digits, tmp_path):
    import numpy

    pixels = numpy.random.default_rng(0).integers(0, 255, (10, 8, 8), dtype=numpy.uint8)
    numpy.savez(tmp_path / "grey.npz", images=pixels, labels=numpy.arange(10))
    (made,) = import_sets(tmp_path / "grey.npz", "digits", layout="nhwc").sets
    assert torch.equal(made.images[:, 0], torch.tensor(pixels))


def test_more_images_than_a_budget_and_images_of_another_size_are_refused(digits):
    with pytest.raises(DataError, match="ipc is 1: 10 images of 10 classes, and 50 are here"):
        custom(digits, count=5, ipc=1)
    assert custom(digits, count=5, ipc=7).card.ipc == 7
    with pytest.raises(DataError, match=r"images are of shape \(1, 16, 16\), and digits has \(1, 8, 8\)"):
        DistilledSet.from_tensors(torch.randn(10, 1, 16, 16), torch.arange(10), digits)


def test_a_bench_in_python_hears_a_request_of_any_monitor(tmp_path):
    class Stops:
        stop_requested = True

        def stage(self, title, total, done=0):
            from distill_bench.runtime.progress import SILENT

            return SILENT.stage(title, total, done)

    with pytest.raises(distill_bench.Interrupted):
        distill_bench.bench(
            "digits",
            "method=random,ipc=1,seed=0,protocol=quick-v1",
            executor="in-process",
            results=tmp_path / "results",
            monitor=Stops(),
        )
