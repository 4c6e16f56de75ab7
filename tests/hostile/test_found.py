"""What the harness found, each by itself and in this process."""

import json

import makers
import numpy
import pytest
import releases
import texts
import torch
from makers import COUNT, LABELS, Raw, images

from distill_bench import DataError, UsageError, load_dataset, load_distilled
from distill_bench.benchmark import load_suite
from distill_bench.benchmark.results import read_results
from distill_bench.datasets.decode import allocate
from distill_bench.hub import import_release, load_pickled
from distill_bench.methods.recipe import load_recipe, parse_values


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def endless():
    ring = [1.0]
    ring.append(ring)
    return ring


PAIR = [torch.zeros(4000, 1, 8, 8), torch.zeros(4000, dtype=torch.int64)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"data": [[images(), LABELS]], "more": releases.laughs(25)}, "again and again"),
        ({"data": [[images(), LABELS]], "more": releases.laughs(100)}, "lists in lists"),
        ({"data": [PAIR] * 500}, "again and again"),
        (Raw(b"cbuiltins\nbytearray\n" + releases.short((10**9,)) + b"R"), "asks for bytearray"),
        (releases.meta_tensor((20, 1, 8, 8)), "a meta tensor .*; only plain ones"),
        (images().to(torch.complex64), "a cpu tensor .complex64.*; only plain ones"),
    ],
)
def test_pickles_that_claim_more_than_they_hold(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        load_pickled(written(tmp_path / "x.pt", makers.pt(content)))


def test_a_pickle_that_holds_itself(tmp_path):
    torch.save(endless(), tmp_path / "x.pt")
    with pytest.raises(DataError, match="without end"):
        load_pickled(tmp_path / "x.pt")


def test_records_that_lie_over_one_another(tmp_path):
    keys = [f"archive/data/{k}" for k in range(1, 100)]
    data = makers.raw_zip([*makers.records_of(images()), ("archive/data/0", bytes(10**5))], aliases=keys)
    with pytest.raises(DataError, match="lie over one another"):
        load_pickled(written(tmp_path / "x.pt", data))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
def test_stored_accuracies_are_finite(tmp_path, digits, value):
    content = {"data": [[images(), LABELS]], "accs_all_exps": {"ConvNet": [value, 0.1]}}
    with pytest.raises(DataError, match="does not have the format res"):
        import_release([written(tmp_path / "res_DC_digits.pt", makers.pt(content))], digits)


def test_a_release_without_images_is_no_bug(tmp_path, digits):
    content = {"data": [[torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)]]}
    with pytest.raises(DataError, match="holds no image"):
        import_release([written(tmp_path / "res_DC_digits.pt", makers.pt(content))], digits)


@pytest.mark.parametrize(
    "changes",
    [
        {"ipc": 0},
        {"temperature": float("inf")},
        {"pixel_space": makers.card()["pixel_space"] | {"std": [float("nan")]}},
        {"recipe": {"x": "\ud800"}},
        {"origin": {"form": "res", "files": {}, "stored_accuracies": {"ConvNet": [float("nan")]}}},
    ],
)
def test_cards_that_mean_nothing(tmp_path, changes):
    data = makers.distilled(makers.tensors(), makers.card(**changes))
    with pytest.raises(DataError, match="card is invalid"):
        load_distilled(written(tmp_path / "x.safetensors", data))


@pytest.mark.parametrize("depth", [900, 10**5])
def test_a_card_without_end(tmp_path, depth):
    text = json.dumps(makers.card())[:-1] + ', "recipe": {"x": ' + "[" * depth + "]" * depth + "}}"
    with pytest.raises(DataError, match="card is invalid"):
        load_distilled(written(tmp_path / "x.safetensors", makers.distilled(makers.tensors(), text)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("partners", COUNT),
        ("partners", -1),
        ("weights", 2.0),
        ("weights", float("nan")),
        ("crops", 0),
        ("tiles", 1),
        ("logits", float("inf")),
    ],
)
def test_recordings_lead_nowhere_else(tmp_path, name, value):
    content = makers.tensors("recorded")
    content[f"relabel.{name}"].view(-1)[-1] = value
    data = makers.distilled(content, makers.card_of("recorded"))
    with pytest.raises(DataError, match=f"relabel.{name} (is|has values)"):
        load_distilled(written(tmp_path / "x.safetensors", data))


@pytest.mark.parametrize("name", ["ConvNetD1W99999", "ConvNetD1W9999999", "ConvNetD1W5", "nothing"])
def test_a_teacher_of_another_size_is_refused_before_it_is_built(tmp_path, command, name):
    data = makers.distilled(makers.tensors("teacher"), makers.card_of("teacher") | {"teacher": name})
    file = written(tmp_path / "x.safetensors", data)
    code, _, err = command("evaluate", file, "--networks", 1, "--protocol", "quick-v1", "--quiet")
    assert code == 3
    assert "the stored teacher" in err


def test_a_strangers_card_does_not_have_folders_gone_through(tmp_path, command, monkeypatch):
    source = makers.card()["source"] | {"name": f"folder:{tmp_path}"}
    written(tmp_path / "train" / "other" / "x.png", makers.picture())
    file = written(tmp_path / "x.safetensors", makers.distilled(makers.tensors(), makers.card(source=source)))
    monkeypatch.setattr("distill_bench.datasets.folder.files_below", lambda path: pytest.fail("it was gone through"))
    code, _, err = command("evaluate", file, "--quiet")
    assert code == 2
    assert "Labels would not mean the same" in err


def test_labels_do_not_make_classes_without_images(tmp_path):
    labels = LABELS.numpy().copy()
    labels[3] = 2**40
    written(tmp_path / "x.npz", makers.npz(images=makers.pixels(), labels=labels))
    with pytest.raises(DataError, match="has the label 1099511627776; labels are 0 to 99,999"):
        load_dataset(f"npz:{tmp_path / 'x.npz'}")
    table = makers.parquet([makers.picture()] * COUNT, labels.tolist(), metadata=b"{}")
    with pytest.raises(DataError, match="has the label 1099511627776; labels are 0 to 99,999"):
        load_dataset(f"parquet:{written(tmp_path / 'x.parquet', table)}")


def test_arrays_that_unfold_are_refused_unread(tmp_path, digits):
    size = 2**28
    head = [("labels.npy", makers.npy(LABELS.numpy()))]
    path = written(tmp_path / "x.npz", makers.raw_zip(head, ("images.npy", size)))
    for refused in (lambda: load_dataset(f"npz:{path}"), lambda: import_release([path], digits, "normalized")):
        with pytest.raises(DataError, match="unfolds to 256 MiB"):
            refused()


@pytest.mark.parametrize(
    "member",
    [
        makers.npy_header("'|u1'", "(" * 3000 + "1" + ")" * 3000),
        makers.npy_header("'<i8'", f"({2**58},)"),
        makers.npy_header("'|V1000000000'", f"({2**40},)"),
    ],
)
def test_headers_that_claim_are_one_clear_error(tmp_path, member):
    data = makers.zip_of([("images.npy", makers.npy(makers.pixels())), ("labels.npy", member)])
    path = written(tmp_path / "x.npz", data)
    with pytest.raises(DataError, match=r"cannot be read as an \.npz file"):
        load_dataset(f"npz:{path}")


def test_more_pictures_than_the_machine_holds_are_refused_at_once():
    with pytest.raises(DataError, match="more than there is: "):
        allocate(10**6, (3, 7000, 7000), "x.png")


@pytest.mark.parametrize("text", ["x = " + "[" * 10**5, "x = " + "9" * 5000, "\x00"])
def test_toml_without_end(tmp_path, text):
    path = str(written(tmp_path / "x.toml", text.encode()))
    for load in (load_suite, load_recipe):
        with pytest.raises(UsageError, match="not valid TOML"):
            load(path)
    assert parse_values([text]) == {"x": text.partition("=")[2]} if "=" in text else True


@pytest.mark.parametrize(
    "changes",
    [{"dataset": ["digits"]}, {"accuracies": [{}]}, {"ipc": "1"}, {"synthesis": {"seconds": "3"}}, {"labels": "x"}],
)
def test_results_of_other_types(tmp_path, changes, caplog):
    written(tmp_path / "x.json", json.dumps(texts.RESULT | changes).encode())
    assert read_results(tmp_path) == []
    assert "not a whole score of evaluate or bench" in caplog.text


def test_a_result_of_a_kind_that_is_no_name_is_another_kind_of_file(tmp_path):
    written(tmp_path / "x.json", json.dumps(texts.RESULT | {"kind": {}}).encode())
    assert read_results(tmp_path) == []


def test_archives_of_published_sets_may_not_unfold(tmp_path):
    from distill_bench.hub.registry.unpack import unpack

    path = written(tmp_path / "x.zip", makers.raw_zip([("a/x.png", makers.picture())], ("a/y.png", 2**29)))
    with pytest.raises(DataError, match="unfolds to more than"):
        unpack(path, ".", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_numpy_is_not_asked_for_objects(tmp_path):
    path = written(tmp_path / "x.npz", makers.npz(images=numpy.array([None] * 4, dtype=object), labels=LABELS.numpy()))
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(f"npz:{path}").train.images(torch.arange(1))
