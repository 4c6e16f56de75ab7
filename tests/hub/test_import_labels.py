"""Labels of releases: of any type and shape, one-hot and soft, checked against classes, names and training images."""

import json

import numpy
import pytest
import torch
from PIL import Image
from releases_at_hand import FORMS, LABELS, SHUFFLED, pictures, smooth

from distill_bench import load_dataset, load_distilled
from distill_bench.datasets.imagenet import SUBSETS
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import DataError, UsageError
from distill_bench.hub import ImportOptions, import_release

WHOLE = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.float32, torch.float64]
ONE_HOT = torch.nn.functional.one_hot(SHUFFLED, 10)
SOFT = torch.randn(20, 10, generator=torch.Generator().manual_seed(1)) + 9 * ONE_HOT


def imported(form, tmp_path, digits, given, **options):
    return import_release(FORMS[form](tmp_path, smooth(), given), digits, "normalized", ImportOptions(**options))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(20,), (20, 1)], ids=["n", "n×1"])
@pytest.mark.parametrize("dtype", WHOLE, ids=str)
def test_class_numbers_of_any_type_and_shape_are_read_in_every_form(tmp_path, digits, form, shape, dtype):
    for told in ({}, {"labels": "argmax"}):
        made = imported(form, tmp_path, digits, SHUFFLED.to(dtype).view(shape), **told).sets[0]
        assert made.labels.dtype == torch.int64
        assert torch.equal(made.labels, SHUFFLED)
        assert made.card.label_kind == "hard"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [*WHOLE, torch.bool], ids=str)
def test_one_hot_rows_are_classes_in_every_form_and_it_is_said(tmp_path, digits, form, dtype):
    found = imported(form, tmp_path, digits, ONE_HOT.to(dtype))
    assert torch.equal(found.sets[0].labels, SHUFFLED)
    assert found.sets[0].soft_labels is None
    assert any("one-hot rows: read as classes" in line for line in found.remarks)


@pytest.mark.parametrize("form", ["mtt", "dcbench", "datm"])
def test_a_form_that_is_named_drops_no_label_matrix(tmp_path, digits, form):
    files = FORMS["loose"](tmp_path, smooth(), ONE_HOT)
    assert torch.equal(import_release(files, digits, "normalized", format=form).sets[0].labels, SHUFFLED)
    files = FORMS["loose"](tmp_path, smooth(), SOFT)
    with pytest.raises(UsageError, match=r"matrix .20, 10.*`labels=logits`"):
        import_release(files, digits, "normalized", format=form)
    made = import_release(files, digits, "normalized", ImportOptions(labels="logits"), format=form).sets[0]
    assert torch.equal(made.soft_labels, SOFT)


@pytest.mark.parametrize("form", ["res", "folder", "datadam", "arrays", "datm"])
def test_a_form_that_the_files_do_not_have_is_an_error_that_says_what_they_are(command, tmp_path, form):
    files = FORMS["loose"](tmp_path, smooth(), SHUFFLED)
    base = ("import", *files, "--dataset", "digits", "--space", "normalized", "--out", tmp_path / "x.safetensors")
    code, _, said = command(*base, "--form", form)
    if form == "datm":  # the same files, and the labels are no less read
        assert (code, load_distilled(tmp_path / "x.safetensors").labels.tolist()) == (0, SHUFFLED.tolist())
    else:
        assert code == 2
        assert "a tensor of shape (20, 1, 8, 8)" in said and "can be read as mtt" in said


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["logits", "probabilities", "weights"])
def test_hard_labels_follow_soft_ones_that_are_in_no_order(tmp_path, digits, form, kind):
    soft = {"logits": SOFT, "probabilities": SOFT.softmax(dim=1), "weights": 3 * SOFT.softmax(dim=1)}[kind]
    made = imported(form, tmp_path, digits, soft, labels=kind).sets[0]
    assert torch.equal(made.labels, SHUFFLED)
    assert torch.equal(made.soft_labels, soft)
    assert made.card.label_kind == kind


def test_classes_stay_in_order_where_a_few_soft_labels_differ_and_follow_them_where_many_do(tmp_path, digits):
    ordered = 9 * torch.nn.functional.one_hot(LABELS, 10).float() - 1
    for differing, kept in ((2, True), (3, False)):
        soft = ordered.clone()
        soft[:differing] = ordered[-differing:]
        made = imported("loose", tmp_path, digits, soft, labels="logits").sets[0]
        assert torch.equal(made.labels, LABELS if kept else soft.argmax(dim=1))
        assert f"{differing} of 20" in made.card.origin.assumptions[0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (SHUFFLED + 1, r"labels run from 1 to 10; 10 classes allow 0 to 9.*count from 1.*`dataset`"),
        (SHUFFLED * 10, r"labels run from 0 to 90; 10 classes allow 0 to 9.*`dataset`"),
        (SHUFFLED - 1, r"labels run from -1 to 8; 10 classes allow 0 to 9"),
        (SHUFFLED + 0.5, r"are not class numbers"),
        (SHUFFLED / 0, r"are not class numbers"),
        (SHUFFLED[:5], r"20 images, but 5 labels"),
        (ONE_HOT[:, :9], r"\(20, 9\), but 10 classes need as many columns.*`dataset`"),
        (ONE_HOT + ONE_HOT.roll(1, 1), r"20 of 20 rows do not have one class .row 0 has \d, \d.*several labels an"),
        (ONE_HOT * (SHUFFLED != 3)[:, None], r"2 of 20 rows do not have one class .row \d+ has none"),
        (ONE_HOT + torch.nan, r"NaN"),
    ],
    ids=[
        "from 1", "gaps", "negative", "not whole", "not finite", "too few", "columns", "several", "none", "NaN matrix",
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused_with_file_range_and_what_to_do(tmp_path, digits, form, labels, said):
    if form == "dataset" and len(labels) < 20:
        pytest.skip("torch makes no such dataset")
    with pytest.raises(DataError, match=said) as error:
        imported(form, tmp_path, digits, labels)
    assert str(tmp_path) in str(error.value)


def test_what_is_said_of_labels_that_are_none_such_is_refused(tmp_path, digits):
    for told, said in (("order", "leave one of them out"), ("logits", "class numbers .20,.. Leave it out")):
        with pytest.raises(UsageError, match=said):
            imported("loose", tmp_path, digits, SHUFFLED, labels=told)


def test_a_rate_beside_class_numbers_of_any_type_is_kept(tmp_path, digits):
    for labels in (SHUFFLED, SHUFFLED.float(), SHUFFLED.int()):
        files = [*FORMS["loose"](tmp_path, smooth(), labels), tmp_path / "lr.pt"]
        torch.save(torch.tensor(0.5), files[-1])
        assert import_release(files, digits, "normalized").sets[0].learning_rate == 0.5


def test_a_rate_in_a_dictionary_is_kept_and_what_else_it_holds_is_named(tmp_path, digits):
    content = {"images": smooth(), "labels": SHUFFLED, "syn_lr": torch.tensor(0.5), "soft": SOFT, "args": "x"}
    torch.save(content, tmp_path / "set.pt")
    found = import_release([tmp_path / "set.pt"], digits, "normalized")
    assert found.sets[0].learning_rate == 0.5
    assert "not read, of what the file holds: soft, args" in found.remarks


def test_labels_in_a_plain_list_are_read(tmp_path, digits):
    for content in ([smooth(), SHUFFLED.tolist()], {"images": smooth(), "labels": SHUFFLED.tolist()}):
        torch.save(content, tmp_path / "set.pt")
        made = import_release([tmp_path / "set.pt"], digits, "normalized").sets[0]
        assert torch.equal(made.labels, SHUFFLED)


def test_a_dataset_of_tensors_is_read_and_another_object_of_torch_is_called_what_it_is(tmp_path, digits):
    files = FORMS["dataset"](tmp_path, smooth(), SHUFFLED)
    made = import_release(files, digits, "normalized").sets[0]
    assert torch.equal(made.images, smooth())
    torch.save({"data": [smooth(), SHUFFLED], "network": torch.nn.Linear(2, 2)}, files[0])
    with pytest.raises(
        DataError, match=r"asks for torch\.nn\.modules\.linear\.Linear.*torch\.save\(\[images, labels\]"
    ):
        import_release(files, digits, "normalized")


# --- classes without an image


def test_classes_without_an_image_are_refused_unless_it_is_meant_and_then_said(command, tmp_path):
    torch.save({"data": [[smooth()[:4], LABELS[:4]]]}, tmp_path / "res_DC_other.pt")
    out = tmp_path / "set.safetensors"
    base = ("import", tmp_path / "res_DC_other.pt", "--dataset", "digits", "--out", out)
    code, _, said = command(*base)
    assert (code, "8 of digits's 10 classes have no image: 2, 3, 4, 5, 6 …" in said, out.exists()) == (3, True, False)
    code, _, said = command(*base, "--force")
    assert (code, "assumed: taken with --force although 8 of digits's 10 classes" in said) == (0, True)
    assert "8 of digits's 10" in load_distilled(out).card.origin.assumptions[0]


def test_learned_classes_may_lack_an_image_and_it_is_said(tmp_path, digits):
    found = imported("npz", tmp_path, digits, SOFT[SHUFFLED != 3][[*range(18), 0, 1]], labels="argmax")
    assert any("1 of digits's 10 classes have no image: 3" in line for line in found.remarks)


# --- the order of classes


def test_class_names_in_a_file_say_what_its_numbers_mean(tmp_path, digits):
    names = ["9", "8", "7", "6", "5", "4", "3", "2", "1", "0"]
    torch.save({"images": smooth(), "labels": SHUFFLED, "class_names": names}, tmp_path / "set.pt")
    numpy.savez(tmp_path / "set.npz", images=smooth().numpy(), labels=SHUFFLED.numpy(), class_names=numpy.array(names))
    for file in ("set.pt", "set.npz"):
        found = import_release([tmp_path / file], digits, "normalized")
        assert torch.equal(found.sets[0].labels, 9 - SHUFFLED)
        assert "labels are renumbered by the class names in the file" in found.remarks
    torch.save({"images": smooth(), "labels": SHUFFLED, "class_names": ["a", *names[1:]]}, tmp_path / "set.pt")
    with pytest.raises(DataError, match=r"its class names .a, 8, 7 ….* are not those of digits"):
        import_release([tmp_path / "set.pt"], digits, "normalized")


@pytest.mark.parametrize("form", FORMS)
def test_training_images_under_another_class_are_an_error_that_names_both(tmp_path, digits, form):
    first = torch.cat([indices[:2] for indices in digits.train.class_indices])
    images = digits.train.images(first)
    right = import_release(FORMS[form](tmp_path, images, LABELS), digits)
    assert right.real == 20
    files = FORMS[form](tmp_path, images, (LABELS + 1) % 10)
    with pytest.raises(DataError, match=r"20 of the 20 images that are training images .* read as 1, and is 0"):
        import_release(files, digits)
    forced = import_release(files, digits, force=True).sets[0]
    assert torch.equal(forced.labels, (LABELS + 1) % 10)
    assert "another class there" in forced.card.origin.assumptions[-1]


@pytest.fixture
def woof(tmp_path, monkeypatch):
    """Imagewoof of flat colours, two pictures a class; the folder's name of each class in label order."""
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    from distill_bench.datasets.imagenet import SUBSETS

    wnids = list(SUBSETS["imagewoof"])
    for label, wnid in enumerate(wnids):
        for index in range(2):
            for split in ("train", "val"):
                put(tmp_path / "home/sources/imagewoof" / split / wnid / f"{index}.png", colour(label, index))
    return wnids


def colour(label, shade=0):
    return numpy.full((128, 128, 3), (25 * label, 255 - 25 * label, 100 + shade), numpy.uint8)


def put(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def as_it_is(wnids):
    return range(10)


def as_image_folder(wnids):
    return sorted(range(10), key=lambda label: wnids[label])


@pytest.mark.parametrize("counted", [as_it_is, as_image_folder], ids=["dataset", "sorted"])
@pytest.mark.parametrize("pattern", ["{:05d}", "new{:03d}", "{}"])
def test_numbered_folders_are_asked_about_unless_training_images_tell(command, tmp_path, woof, counted, pattern):
    source = load_dataset("imagewoof")
    for shade, name in ((0, "real"), (50, "made")):
        for number, label in enumerate(counted(woof)):
            put(tmp_path / name / pattern.format(number) / "0.png", colour(label, shade))
    found = import_release([tmp_path / "real"], source)
    assert found.sets[0].images[:, 0, 0, 0].tolist() == [25 * label for label in range(10)]
    assert any("as the pictures that are training images tell" in line for line in found.remarks)
    out = tmp_path / "set.safetensors"
    base = ("import", tmp_path / "made", "--dataset", "imagewoof", "--out", out)
    code, _, said = command(*base)
    assert (code, "--class-order dataset" in said and "--class-order sorted" in said) == (2, True)
    way = "dataset" if counted is as_it_is else "sorted"
    code, _, said = command(*base, "--class-order", way)
    assert (code, f"in the order '{way}'" in said) == (0, True)
    made = load_distilled(out)
    assert [int(each[0, 0, 0]) for each in made.images[made.labels.argsort()]] == [25 * label for label in range(10)]


def test_the_wrong_order_of_training_images_is_an_error_though_it_is_told(tmp_path, woof):
    for number, label in enumerate(as_image_folder(woof)):
        put(tmp_path / "real" / f"{number:05d}" / "0.png", colour(label))
    with pytest.raises(DataError, match=r"have another class there.*`class_order=sorted` would fit"):
        import_release([tmp_path / "real"], load_dataset("imagewoof"), options=ImportOptions(class_order="dataset"))


@pytest.mark.parametrize("naming", ["wnid", "name", "written otherwise", "number and name"])
def test_folders_are_known_by_wordnet_id_and_by_name(tmp_path, woof, naming):
    source = load_dataset("imagewoof")
    for label, (wnid, name) in enumerate(zip(woof, source.class_names, strict=True)):
        folder = {
            "wnid": wnid,
            "name": name,
            "written otherwise": name.replace(" ", "_").replace("-", "_").upper(),
            "number and name": f"{9 - label:03d}_{name}",
        }[naming]
        put(tmp_path / "set" / folder / "0.png", colour(label, 50))
    made = import_release([tmp_path / "set"], source).sets[0]
    assert made.labels.tolist() == list(range(10))
    assert made.images[:, 0, 0, 0].tolist() == [25 * label for label in range(10)]


def test_a_list_of_classes_beside_numbered_folders_settles_their_order(tmp_path, woof):
    source, listed = load_dataset("imagewoof"), []
    for number, label in enumerate(as_image_folder(woof)):
        put(tmp_path / "set" / f"{number:03d}" / "0.png", colour(label, 50))
        listed.append({"label": number, "folder": f"{number:03d}", "name": source.class_names[label]})
    (tmp_path / "set" / "classes.json").write_text(json.dumps(listed))
    made = import_release([tmp_path / "set"], source).sets[0]
    assert made.images[:, 0, 0, 0].tolist() == [25 * label for label in range(10)]
    for text, said in (("{", "not a list of folders"), ("[]", "the folder 000 is of the class None")):
        (tmp_path / "set" / "classes.json").write_text(text)
        with pytest.raises(DataError, match=said):
            import_release([tmp_path / "set"], source)


def test_numbers_in_tensors_of_such_a_dataset_are_said_to_be_in_its_order_and_can_be_told_otherwise(tmp_path, woof):
    source = load_dataset("imagewoof")
    images = torch.rand(10, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    files = FORMS["loose"](tmp_path, images, torch.arange(10))
    found = import_release(files, source, "normalized")
    assert found.sets[0].labels.tolist() == list(range(10))
    assert any("imagewoof's own order (0 is Australian terrier)" in line for line in found.remarks)
    soft = torch.eye(10) * 9 - 1
    for labels, told in ((torch.arange(10), {}), (soft, {"labels": "logits"})):
        files = FORMS["loose"](tmp_path, images, labels)
        made = import_release(files, source, "normalized", ImportOptions(class_order="sorted", **told)).sets[0]
        assert made.labels.tolist() == as_image_folder(woof)
    assert torch.equal(made.soft_labels.argmax(dim=1), made.labels)


@pytest.mark.parametrize("names", [["b", "a"], ["1", "0"]])
def test_numbered_folders_of_any_dataset_whose_classes_are_not_sorted_are_asked_about(tmp_path, names):
    images = torch.randint(0, 256, (8, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    labels = numpy.arange(8) % 2
    numpy.savez(tmp_path / "data.npz", images=images, labels=labels, class_names=numpy.array(names))
    for number in range(2):
        put(tmp_path / "set" / f"new{number:03d}" / "0.png", numpy.full((8, 8), number, numpy.uint8))
    with pytest.raises(UsageError, match="`class_order` dataset"):
        import_release([tmp_path / "set"], load_dataset(f"npz:{tmp_path / 'data.npz'}"))


# --- sets from arrays of one's own


@pytest.mark.parametrize(
    "labels",
    [
        SHUFFLED.numpy(), SHUFFLED.int(), SHUFFLED.numpy().astype("uint8")[:, None], SHUFFLED.float().view(-1, 1),
        SHUFFLED.tolist(), ONE_HOT, ONE_HOT.bool().numpy(), SHUFFLED.numpy().astype(">i4"),
    ],
    ids=["NumPy", "int32", "uint8 n×1", "float n×1", "list", "one-hot", "NumPy bool one-hot", "big-endian"],
)  # fmt: skip
def test_from_tensors_takes_labels_of_any_kind(digits, labels):
    made = DistilledSet.from_tensors(pictures(), labels, digits)
    assert torch.equal(made.labels, SHUFFLED)
    assert made.card.ipc == 2


def test_from_tensors_takes_soft_labels_from_numpy(digits):
    made = DistilledSet.from_tensors(smooth(), SHUFFLED, digits, soft_labels=SOFT.double().numpy())
    assert torch.equal(made.soft_labels, SOFT.double())


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (SHUFFLED + 1, "run from 1 to 10; 10 classes allow 0 to 9"),
        (SHUFFLED + 0.5, "not class numbers"),
        (SOFT, "matrix .20, 10."),
        (ONE_HOT * 0, "do not have one class"),
        (["a"] * 20, "the labels are a list"),
        (numpy.array(["a"] * 20), "the labels are a <U1"),
    ],
    ids=["from 1", "not whole", "soft", "no class", "text", "NumPy text"],
)
def test_from_tensors_refuses_what_is_no_classes_by_name(digits, labels, said):
    with pytest.raises(DataError, match=said):
        DistilledSet.from_tensors(smooth(), labels, digits)


def test_wordnet_folders_of_some_classes_in_another_order_are_those_classes(tmp_path, monkeypatch):
    """A narrowed dataset numbers its own classes, not those of the whole one."""
    wnids = list(SUBSETS["imagewoof"])
    for number, wnid in enumerate(wnids):
        for split in ("train", "val"):
            picture = tmp_path / "sources" / "imagewoof" / split / wnid / "0.png"
            picture.parent.mkdir(parents=True)
            Image.new("RGB", (128, 128), (20 * number, 9, 200)).save(picture)
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path))
    titles = list(SUBSETS["imagewoof"].values())
    source = load_dataset("imagewoof", classes=[titles[2], titles[1], titles[0]])
    for number, wnid in enumerate(wnids[:3]):
        picture = tmp_path / "set" / wnid / "0.png"
        picture.parent.mkdir(parents=True)
        Image.new("RGB", (128, 128), (20 * number, 9, 90)).save(picture)
    made = import_release([tmp_path / "set"], source).sets[0]
    red = made.images[:, 0, 0, 0].tolist()
    assert dict(zip(made.labels.tolist(), red, strict=True)) == {2: 0, 1: 20, 0: 40}


def test_class_names_may_be_numbers_and_anything_else_is_refused(tmp_path, digits):
    made = {"images": smooth(), "labels": LABELS}
    torch.save(made | {"classes": list(range(9, -1, -1))}, tmp_path / "x.pt")
    found = import_release([tmp_path / "x.pt"], digits, "normalized").sets[0]
    assert torch.equal(found.labels, 9 - LABELS)
    torch.save(made | {"class_names": [b"a"] * 10}, tmp_path / "x.pt")
    with pytest.raises(DataError, match="its class names are list; they are a list of texts or numbers"):
        import_release([tmp_path / "x.pt"], digits, "normalized")


def test_a_rate_that_is_a_plain_number_is_read_and_labels_that_are_there_are_not_dropped(tmp_path, digits):
    torch.save({"images": smooth(), "labels": LABELS, "lr": 0.02}, tmp_path / "x.pt")
    assert import_release([tmp_path / "x.pt"], digits, "normalized").sets[0].learning_rate == 0.02
    with pytest.raises(UsageError, match="`labels=order` is for images without labels"):
        import_release([tmp_path / "x.pt"], digits, "normalized", ImportOptions(labels="order"))
