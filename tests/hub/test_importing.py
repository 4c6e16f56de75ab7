"""Sets that others released: read without running anything, never guessed at in silence, and written back exactly."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from distill_bench import evaluate, load_dataset
from distill_bench.datasets.pixel_space import Transform, pixel_space_of
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.distilled.pixel_diagnostics import candidates, diagnose, roughness, training_labels
from distill_bench.errors import DataError, UsageError
from distill_bench.evaluation import PROTOCOLS
from distill_bench.hub import ImportOptions, export, import_release, load_pickled, writable_formats

CLASSES, IPC = 10, 2
LABELS = torch.arange(CLASSES).repeat_interleave(IPC)


def smooth(seed=0, scale=1.0):
    """Images [20, 1, 8, 8] that are no training images."""
    noise = torch.randn(CLASSES * IPC, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=8, mode="bilinear", align_corners=False) * scale


@pytest.fixture
def saved(tmp_path):
    """Save an object as torch.save does; the path."""

    def save(content, name, **options):
        path = tmp_path / name
        torch.save(content, path, **options)
        return path

    return save


def numpy_accuracies(values):
    return [numpy.float64(value) for value in values]


# --- restricted unpickling


class Harmful:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


SLOTS = {
    "alone": lambda bad: bad,
    "in res data": lambda bad: {"data": [[bad, LABELS]], "accs_all_exps": {}},
    "in res labels": lambda bad: {"data": [[smooth(), bad]], "accs_all_exps": {}},
    "in accuracies": lambda bad: {"data": [[smooth(), LABELS]], "accs_all_exps": {"ConvNet": [bad]}},
    "as a key": lambda bad: {"data": [[smooth(), LABELS]], "accs_all_exps": {(bad,): []}},
    "in a pair": lambda bad: [smooth(), bad],
    "deep": lambda bad: {"data": [smooth(), {"x": [1, (2, bad)]}]},
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("slot", SLOTS)
def test_a_malicious_pickle_in_any_slot_runs_nothing_and_is_named(saved, tmp_path, slot, legacy, protocol):
    mark = tmp_path / "ran"
    path = saved(
        SLOTS[slot](Harmful(mark)),
        "evil.pt",
        _use_new_zipfile_serialization=not legacy,
        pickle_protocol=protocol,
    )
    said = r"asks for \S*open" if protocol == 2 else r"pickle protocol is not 2.* Nothing was run"
    with pytest.raises(DataError, match=rf"{said}.*torch\.save\("):
        load_pickled(path)
    assert not mark.exists()


def test_the_mark_would_be_left_by_an_ordinary_load(saved, tmp_path):
    mark = tmp_path / "ran"
    torch.load(saved({"data": Harmful(mark)}, "evil.pt"), weights_only=False)["data"].close()
    assert mark.exists()


def test_a_bare_pickle_runs_nothing(tmp_path):
    mark, path = tmp_path / "ran", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps({"data": Harmful(mark)}))
    with pytest.raises(DataError, match="pickle protocol is not 2"):
        load_pickled(path)
    assert not mark.exists()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_numpy_scalars_are_read_as_floats(saved, legacy):
    content = {"accs": numpy_accuracies([0.25, 0.1]), "small": numpy.float32(0.5)}
    path = saved(content, "res.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(Exception, match="weights_only"):
        torch.load(path, weights_only=True)
    read = load_pickled(path)
    assert read == {"accs": [0.25, 0.1], "small": 0.5}
    assert {type(value) for value in [*read["accs"], read["small"]]} == {float}


@pytest.mark.parametrize("value", [numpy.int64(3), numpy.complex128(1), numpy.datetime64("2020-01-01")])
def test_other_numpy_scalars_are_refused(saved, value):
    with pytest.raises(DataError, match="only f8 and f4 are read"):
        load_pickled(saved(value, "odd.pt"))


def test_a_tensor_that_claims_more_than_it_holds_is_refused(saved):
    huge = torch.zeros(1).expand(10**6, 10**6)
    with pytest.raises(DataError, match="not fully there"):
        load_pickled(saved([huge], "huge.pt"))


def test_a_compressed_record_is_refused_before_it_unfolds(saved, tmp_path):
    plain, bomb = saved(torch.zeros(1000), "plain.pt"), tmp_path / "bomb.pt"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for item in source.infolist():
            packed.writestr(item.filename, source.read(item))
    with pytest.raises(DataError, match="compressed"):
        load_pickled(bomb)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x80\x02}q\x00.", b"hello", b"\x80\x04K\x01."])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "images_best.pt"
    path.write_bytes(content)
    with pytest.raises(DataError, match="images_best"):
        import_release([path], load_dataset("digits"))


def test_a_truncated_file_is_an_error(saved):
    path = saved([smooth(), LABELS], "cut.pt")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="cut"):
        load_pickled(path)


# --- the forms


def test_res_files_give_every_set_with_the_stored_accuracies(saved, digits):
    accuracies = [0.28, 0.29, 0.27, 0.3, 0.31, 0.26]
    content = {
        "data": [[smooth(seed), LABELS] for seed in range(3)],
        "accs_all_exps": {"ConvNet": numpy_accuracies(accuracies)},
    }
    found = import_release([saved(content, "res_DSA_digits_ConvNet_2ipc.pt")], digits)
    assert len(found.sets) == 3
    for index, made in enumerate(found.sets):
        card = made.card
        assert torch.equal(made.images, smooth(index))
        assert (card.method, card.protocol, card.ipc, card.pixel_space.kind) == ("dsa", "dsa-v1", 2, "normalized")
        assert (card.origin.set_index, card.origin.sets, card.origin.form) == (index, 3, "res")
        assert card.origin.stored_accuracies == {"ConvNet": tuple(accuracies)}
        assert made.learning_rate is None


def test_mtt_files_with_and_without_labels_and_rate(saved, digits):
    images, labels = saved(smooth(), "images_best.pt"), saved(LABELS.flip(0), "labels_best.pt")
    rate = saved(torch.tensor(0.02), "lr_best.pt")
    whole = import_release([rate, labels, images], digits, "normalized").sets[0]
    assert torch.equal(whole.labels, LABELS.flip(0))
    assert whole.learning_rate == pytest.approx(0.02)
    assert whole.card.origin.assumptions == ()
    bare = import_release([images], digits, "zca").sets[0]
    assert torch.equal(bare.labels, LABELS)
    assert bare.learning_rate is None
    assert (bare.card.pixel_space.kind, bare.card.pixel_space.eps) == ("zca", 0.1)
    assert [text.split(":")[0] for text in bare.card.origin.assumptions] == [
        "learning rate 0.01",
        "labels in class order",
    ]


def test_datm_triple(saved, digits):
    logits = torch.randn(20, 10, generator=torch.Generator().manual_seed(1))
    logits[torch.arange(20), LABELS] += 5
    logits[3, 7] = 50.0
    files = [saved(smooth(), "images.pt"), saved(logits, "labels.pt"), saved(torch.tensor(0.018), "lr.pt")]
    made = import_release(files, digits, "zca").sets[0]
    assert torch.equal(made.soft_labels, logits)
    assert torch.equal(made.labels, LABELS)
    assert (made.card.label_kind, made.card.protocol) == ("logits", "datm-v1")
    assert "1 of 20 largest soft labels differ" in made.card.origin.assumptions[0]


def test_a_label_matrix_of_unknown_meaning_is_asked_about(saved, digits):
    files = [saved(smooth(), "images.pt"), saved(torch.rand(20, 10), "labels.pt")]
    with pytest.raises(UsageError, match="`labels=logits`"):
        import_release(files, digits, "normalized")
    targets = import_release(files, digits, "normalized", ImportOptions(labels="argmax")).sets[0]
    assert targets.soft_labels is None
    assert torch.equal(targets.labels, torch.load(files[1]).argmax(dim=1))


def test_dcbench_class_numbers_as_floats(saved, digits):
    files = [saved(smooth(), "images.pt"), saved(LABELS.float(), "labels.pt")]
    made = import_release(files, digits, "normalized", method="k-means").sets[0]
    assert made.labels.dtype == torch.int64
    assert torch.equal(made.labels, LABELS)
    assert made.card.origin.form == "dcbench"
    files[1] = saved(LABELS.float() + 0.5, "labels.pt")
    with pytest.raises(DataError, match="not class numbers"):
        import_release(files, digits, "normalized")


def test_datadam(saved, digits):
    path = saved({"data": [smooth(), LABELS.float()]}, "syn_data_digits_ipc_2.pt")
    with pytest.raises(UsageError, match="`space=normalized`"):
        import_release([path], digits)
    made = import_release([path], digits, "normalized").sets[0]
    assert (made.card.method, made.card.origin.form) == ("datadam", "datadam")


@pytest.mark.parametrize("names", ["new{:03d}", "{:05d}", "{}"], ids=["sre2l", "rded", "class names"])
def test_folders_of_pictures(tmp_path, digits, names):
    pictures = torch.randint(0, 256, (20, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    for index, (picture, label) in enumerate(zip(pictures, LABELS.tolist(), strict=True)):
        path = tmp_path / "sets" / names.format(label) / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.numpy()).save(path)
    made = import_release([tmp_path / "sets"], digits).sets[0]
    assert torch.equal(made.images[:, 0], pictures)
    assert torch.equal(made.labels, LABELS)
    assert made.card.pixel_space.kind == "unit"


def test_folders_that_are_not_the_classes(tmp_path, digits):
    (tmp_path / "sets" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="Needed are 10"):
        import_release([tmp_path / "sets"], digits)


def test_channels_last_and_regression_targets_through_options(tmp_path, digits):
    targets = torch.nn.functional.one_hot(LABELS, 10).float() - 0.1
    path = tmp_path / "kip.npz"
    numpy.savez(path, x_proto=smooth().permute(0, 2, 3, 1).numpy(), y_proto=targets.numpy())
    with pytest.raises(DataError, match="`layout=nhwc`"):
        import_release([path], digits, "zca", ImportOptions(labels="argmax"))
    with pytest.raises(UsageError, match=r"`labels=logits`, probabilities, weights .*, or argmax"):
        import_release([path], digits, "zca", ImportOptions(layout="nhwc"))
    made = import_release([path], digits, "zca", ImportOptions(layout="nhwc", labels="argmax")).sets[0]
    assert torch.equal(made.images, smooth())
    assert torch.equal(made.labels, LABELS)


def test_arrays_are_chosen_by_name_where_several_fit(tmp_path, digits):
    path = tmp_path / "sets.npz"
    numpy.savez(path, first=smooth(1).numpy(), second=smooth(2).numpy(), y=LABELS.numpy())
    with pytest.raises(UsageError, match="--images-key NAME"):
        import_release([path], digits, "normalized")
    made = import_release([path], digits, "normalized", ImportOptions(images_key="second")).sets[0]
    assert torch.equal(made.images, smooth(2))


def test_a_bare_pair_is_told_apart_from_idc(saved, digits):
    made = import_release([saved([smooth(), LABELS], "data.pt")], digits, "normalized").sets[0]
    assert "IDC" in made.card.origin.assumptions[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model": {"weight": torch.zeros(3)}}, "no released form"),
        (torch.zeros(5), "a tensor of shape \\(5,\\)"),
        (3.5, "a float"),
        (torch.zeros(20, 3, 8, 8), r"images of \(3, 8, 8\), but digits has \(1, 8, 8\)"),
        (torch.zeros(19, 1, 8, 8), "do not divide among 10 classes"),
        (torch.full((20, 1, 8, 8), torch.nan), "NaN or infinite"),
        ([smooth(), LABELS + 1], "labels run from 1 to 10"),
        ([smooth(), LABELS[:5]], "20 images, but 5 labels"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_found(saved, digits, content, said):
    with pytest.raises(DataError, match=said):
        import_release([saved(content, "stranger.pt")], digits, "normalized")


# --- the pixel space is never guessed in silence


def test_images_of_unknown_origin_get_a_question_with_the_evidence(saved, digits):
    with pytest.raises(UsageError) as error:
        import_release([saved(smooth(), "images.pt")], digits)
    for word in ("`space=normalized`", "`space=zca`", "`space=unit`", "roughness", "contrast"):
        assert word in str(error.value)


@pytest.mark.parametrize("kind", ["unit", "normalized"])
def test_real_images_settle_their_space_themselves_and_are_recognised(saved, digits, kind):
    first = torch.stack([indices[0] for indices in digits.train.class_indices])
    images = Transform(pixel_space_of(digits, kind), None).encode(digits.train.images(first))
    found = import_release([saved(images, "images.pt")], digits)
    assert found.sets[0].card.pixel_space.kind == kind
    assert found.real == CLASSES
    assert found.sets[0].card.method == "selection"
    assert any("training images, pixel for pixel" in remark for remark in found.remarks)


def test_only_exact_copies_count_as_training_images(digits):
    pixels = digits.train.images(torch.tensor([5, 9]))
    changed = pixels.clone()
    changed[0, 0, 4, 4] ^= 1
    five, nine = ({int(digits.train.labels[index])} for index in (5, 9))
    assert training_labels(pixels, digits) == [five, nine]
    assert training_labels(changed, digits) == [set(), nine]


def test_roughness_is_one_for_noise_and_small_for_smooth_images():
    noise = torch.randn(50, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert roughness(noise) == pytest.approx(1, abs=0.03)
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    assert roughness(ramp) == pytest.approx((1 / 31**2) / (4 * ramp.var().item()), rel=1e-4)


def textured(count=400):
    """A source of 16×16 colour images, strong large patches and weak detail: whitening turns that round."""
    from distill_bench.datasets.dataset import Dataset, Split

    draws = torch.Generator().manual_seed(3)
    patches = torch.nn.functional.interpolate(torch.randn(count, 1, 2, 2, generator=draws), size=16, mode="bilinear")
    detail = torch.nn.functional.interpolate(torch.randn(count, 3, 8, 8, generator=draws), size=16, mode="bilinear")
    pixels = (patches * 80 + detail * 20 + 128).clamp(0, 255).to(torch.uint8)
    split, test = (Split(each, torch.arange(count) % 2) for each in (pixels, pixels.flip(3)))
    statistics = ((0.5,) * 3, (0.3,) * 3)
    return Dataset("textured", ("a", "b"), lambda: split, lambda: test, flip_invariant=True, constants=statistics)


@pytest.mark.parametrize("truth", ["normalized", "zca"])
def test_the_true_space_raises_no_doubt_and_another_one_does(truth):
    source = textured()
    images = Transform(pixel_space_of(source, truth), source.train).encode(source.train.images(torch.arange(40)))
    images = images + 0.05 * images.std() * torch.randn(images.shape, generator=torch.Generator().manual_seed(4))
    found = {item.space.kind: item.doubts for item in candidates(images, source)}
    assert not found[truth]
    assert found["zca" if truth == "normalized" else "normalized"]


def test_evaluating_under_a_space_that_the_numbers_contradict_warns(monkeypatch):
    short = {"epochs": 1, "networks": 1, "network": "ConvNetD1W4"}
    monkeypatch.setitem(PROTOCOLS, "quick-v1", PROTOCOLS["quick-v1"].model_copy(update=short))
    source = textured()
    images = Transform(pixel_space_of(source, "zca"), source.train).encode(source.train.images(torch.arange(20)))
    images = images + 0.05 * images.std() * torch.randn(images.shape, generator=torch.Generator().manual_seed(4))
    labels = torch.arange(20) % 2
    for kind, warned in (("zca", False), ("normalized", True)):
        made = DistilledSet.from_tensors(images, labels, source, pixel_space=kind)
        notes = evaluate(made, source, "quick-v1").notes
        assert any("wrong space" in note for note in notes) == warned


def test_whitening_is_not_tried_on_large_images(digits):
    assert [item.space.kind for item in candidates(smooth(), digits)] == ["unit", "normalized", "zca"]
    from distill_bench.distilled import pixel_diagnostics

    large = torch.zeros(1, 3, 64, 64)
    assert large[0].numel() > pixel_diagnostics.FITTED
    assert diagnose(smooth(), digits, pixel_space_of(digits, "unit")).low == pytest.approx(float(smooth().min()))


# --- and back


def same(one, other):
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


def test_res_round_trip_is_exact(saved, tmp_path, digits):
    content = {"data": [[smooth(s), LABELS] for s in range(2)], "accs_all_exps": {"ConvNet": numpy_accuracies([1 / 3])}}
    found = import_release([saved(content, "res_DC_digits_ConvNet_2ipc.pt")], digits).sets
    (path,) = export(found, "res", tmp_path / "res_DC_back.pt")
    again = import_release([path], digits).sets
    for one, other in zip(found, again, strict=True):
        same(one, other)
        assert one.card.origin.stored_accuracies == other.card.origin.stored_accuracies


@pytest.mark.parametrize(("form", "space"), [("mtt", "normalized"), ("mtt", "zca"), ("datm", "zca")])
def test_tensor_round_trips_are_exact(saved, tmp_path, digits, form, space):
    labels = torch.randn(20, 10, generator=torch.Generator().manual_seed(1)) if form == "datm" else LABELS.flip(0)
    rate = torch.tensor(0.0183569)
    released = [saved(smooth(), "images_3.pt"), saved(labels, "labels_3.pt"), saved(rate, "lr_3.pt")]
    made = import_release(released, digits, space).sets[0]
    files = export([made], form, tmp_path / "back")
    same(made, import_release(files, digits, space).sets[0])
    for path, tensor in zip(files, (smooth(), labels, rate), strict=True):
        written = torch.load(path)
        assert torch.equal(written, tensor)
        assert written.dtype == tensor.dtype


def test_picture_round_trip_is_exact(tmp_path, digits):
    pixels = digits.train.images(torch.cat([indices[:IPC] for indices in digits.train.class_indices]))
    made = DistilledSet.from_tensors(pixels, LABELS, digits, pixel_space="unit")
    export([made], "folder", tmp_path / "back")
    same(made, import_release([tmp_path / "back"], digits).sets[0])


def test_exports_that_would_lose_something_are_refused(tmp_path, digits):
    soft = torch.full((20, 10), 0.1)
    unit = DistilledSet.from_tensors(smooth(), LABELS, digits, pixel_space="unit")
    learned = DistilledSet.from_tensors(smooth(), LABELS, digits, learning_rate=0.1)
    probable = DistilledSet.from_tensors(smooth(), LABELS, digits, soft_labels=soft, label_kind="probabilities")
    for sets, form, said in [
        ([unit], "res", "normalized"),
        ([learned], "res", "a learning rate"),
        ([probable], "datm", "logits"),
        ([unit, unit], "mtt", "takes one set"),
        ([unit], "tfrecord", "Known: " + ", ".join(writable_formats())),
    ]:
        with pytest.raises(UsageError, match=said):
            export(sets, form, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sets_made_here_do_not_mention_an_origin(digits):
    made = DistilledSet.from_tensors(smooth(), LABELS, digits)
    assert b"origin" not in made.to_bytes()


# --- the command


def test_import_evaluate_export(command, saved, tmp_path, monkeypatch):
    short = {"epochs": 1, "networks": 1, "network": "ConvNetD1W4"}
    monkeypatch.setitem(PROTOCOLS, "dc-v1", PROTOCOLS["dc-v1"].model_copy(update=short))
    content = {
        "data": [[smooth(s), LABELS] for s in range(2)],
        "accs_all_exps": {"ConvNet": numpy_accuracies([0.3, 0.4])},
    }
    released, out = saved(content, "res_DC_digits_ConvNet_2ipc.pt"), tmp_path / "dc.safetensors"
    code, said, shown = command("import", released, "--dataset", "digits", "--out", out)
    assert code == 0
    stored = "stored in the release: ConvNet 35.00, std 5.00 (2 networks) of 2 sets; of this one 30.00 (1 network)"
    assert stored in said
    assert "roughness" in shown
    files = [tmp_path / f"dc-{index}.safetensors" for index in range(2)]
    assert all(path.exists() for path in files) and not out.exists()
    code, said, shown = command("evaluate", files[1], "--protocol", "dc-v1")
    assert code == 0
    assert "stored in the release" in shown
    code, _, _ = command("export", *files, "--to", "res", "--out", tmp_path / "back.pt")
    assert code == 0
    assert len(load_pickled(tmp_path / "back.pt")["data"]) == 2
    code, _, _ = command("import", released, "--dataset", "digits", "--set", 1, "--out", out)
    assert code == 0
    assert load_distilled(out).card.origin.set_index == 1


def test_the_command_says_what_is_wrong(command, saved, tmp_path):
    images, out = saved(smooth(), "images.pt"), tmp_path / "x.safetensors"
    evil = saved({"data": Harmful(tmp_path / "ran")}, "evil.pt")
    base = ("--dataset", "digits", "--out", out)
    for arguments, expected, said in [
        ((images, *base), 2, "--space"),
        ((images, *base, "--space", "lab"), 2, "normalized or zca or unit"),
        ((images, *base, "--mean", "0.5"), 2, "--space"),
        ((images, *base, "--space", "normalized", "--mean", "0.5"), 2, "go together"),
        ((images, *base, "--space", "normalized", "--mean", "0.5", "--std", "0"), 2, "one positive number"),
        ((images, *base, "--space", "normalized", "--set", "7"), 2, "numbered from 0"),
        ((images, *base, "--space", "normalized", "--protocol", "x"), 2, "unknown protocol"),
        ((images, *base, "--form", "x"), 2, "Known: arrays, datadam, datasets, datm"),
        ((evil, *base), 3, "open"),
        ((tmp_path / "none.pt", *base), 3, "no such file"),
        ((images, "--dataset", "digits", "--out", tmp_path / "x.pt"), 2, ".safetensors"),
    ]:
        code, _, shown = command("import", *arguments)
        assert (code, said in shown) == (expected, True), (arguments, shown)
    assert not out.exists()
    assert not (tmp_path / "ran").exists()


def test_own_statistics_reach_the_card(command, saved, tmp_path):
    out = tmp_path / "x.safetensors"
    images = saved(smooth(), "images.pt")
    told = ("--space", "normalized", "--mean", "0.4", "--std", "0.2")
    assert command("import", images, "--dataset", "digits", "--out", out, *told)[0] == 0
    space = load_distilled(out).card.pixel_space
    assert (space.mean, space.std) == ((0.4,), (0.2,))
    assert json.loads(command("info", out)[1])["card"]["origin"]["form"] == "mtt"
    assert Path(out).exists()
