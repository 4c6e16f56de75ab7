"""Pixels of releases: integers are 8-bit pictures in every form, and floats that contradict their space are told."""

import numpy
import pytest
import torch
from releases_at_hand import FORMS, LABELS, pictures, smooth

from distill_bench import evaluate, load_distilled
from distill_bench.datasets.pixel_space import PixelSpace, Transform, pixel_space_of
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.pixel_diagnostics import diagnose, seam
from distill_bench.errors import DataError, UsageError
from distill_bench.evaluation import PROTOCOLS
from distill_bench.hub import ImportOptions, import_release

INTEGERS = [torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16]


@pytest.fixture
def quick(monkeypatch):
    short = {"epochs": 1, "networks": 1, "network": "ConvNetD1W4"}
    monkeypatch.setitem(PROTOCOLS, "quick-v1", PROTOCOLS["quick-v1"].model_copy(update=short))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integer_pixels_are_8_bit_pictures_in_every_form_and_nothing_is_asked(tmp_path, digits, form, dtype):
    made = import_release(FORMS[form](tmp_path, pictures().to(dtype), LABELS), digits).sets[0]
    assert made.images.dtype == torch.uint8
    assert torch.equal(made.images, pictures())
    assert made.card.pixel_space.kind == ("normalized" if form == "res" else "unit")


def test_integer_pixels_with_logits_and_a_rate_are_8_bit_pictures(tmp_path, digits):
    logits = torch.nn.functional.one_hot(LABELS, 10).float() * 9 - 4
    files = [*FORMS["loose"](tmp_path, pictures(), logits), tmp_path / "lr.pt"]
    torch.save(torch.tensor(0.02), files[-1])
    made = import_release(files, digits).sets[0]
    assert torch.equal(made.images, pictures())
    assert (made.card.label_kind, made.learning_rate) == ("logits", pytest.approx(0.02))


@pytest.mark.parametrize("space", ["unit", "normalized", "zca"])
def test_the_space_of_8_bit_pictures_is_what_networks_are_shown_and_changes_no_pixel(
    command, tmp_path, digits, quick, space
):
    (file,), out = FORMS["pair"](tmp_path, pictures(), LABELS), tmp_path / "set.safetensors"
    code, _, said = command("import", file, "--dataset", "digits", "--space", space, "--out", out)
    assert (code, f"8-bit pictures; networks are shown them as {space} pixels" in said) == (0, True)
    made = load_distilled(out)
    assert torch.equal(made.images, pictures())
    encoded = Transform(pixel_space_of(digits, space), digits.train).encode(pictures())
    same = DistilledSet.from_tensors(encoded, LABELS, digits, pixel_space=space)
    assert evaluate(made, digits, "quick-v1").accuracies == evaluate(same, digits, "quick-v1").accuracies


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("images", "said"),
    [
        (pictures().to(torch.int64) + 200, "integers .int64. from .* to 4.*0 to 255"),
        (pictures().to(torch.int16) - 128, "integers .int16. from -"),
        (pictures() > 128, "type bool"),
        ((pictures() > 128).to(torch.uint8), "0 or 1: as 8-bit pictures all black"),
    ],
    ids=["too large", "negative", "truth values", "zeros and ones"],
)
def test_integers_that_are_no_8_bit_pictures_are_refused_by_name(tmp_path, digits, form, images, said):
    with pytest.raises(DataError, match=said) as error:
        import_release(FORMS[form](tmp_path, images, LABELS), digits)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_floats_of_any_width_become_float32(tmp_path, digits, form, dtype):
    made = import_release(FORMS[form](tmp_path, smooth().to(dtype), LABELS), digits, "normalized").sets[0]
    assert made.images.dtype == torch.float32
    assert torch.equal(made.images, smooth().to(dtype).float())


def test_bfloat16_becomes_float32(tmp_path, digits):
    made = import_release(FORMS["loose"](tmp_path, smooth().bfloat16(), LABELS), digits, "normalized").sets[0]
    assert torch.equal(made.images, smooth().bfloat16().float())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("space", [None, "unit", "normalized", "zca"])
def test_8_bit_values_that_are_stored_as_floats_are_refused_in_every_space(tmp_path, digits, form, space):
    with pytest.raises(DataError, match=r"stored as floats: 8-bit pictures.*uint8"):
        import_release(FORMS[form](tmp_path, pictures().float(), LABELS), digits, space)


def test_the_command_says_so_and_writes_nothing(command, tmp_path):
    files, out = FORMS["loose"](tmp_path, pictures().double(), LABELS), tmp_path / "set.safetensors"
    code, _, said = command("import", *files, "--dataset", "digits", "--space", "unit", "--out", out)
    assert (code, "not --space unit" in said, out.exists()) == (3, True, False)


@pytest.mark.parametrize(
    ("images", "space", "doubt"),
    [
        (lambda unit: (unit - 0.3) / 0.37 + 0.001, "unit", "are outside 0 to 1"),
        (lambda unit: unit * 255 - 0.3, "unit", "are outside 0 to 1"),
        (lambda unit: (unit * 255).round() / 51, "unit", "are outside 0 to 1"),  # whole 255ths, up to 5
        (lambda unit: unit * 0.98 + 0.01, "normalized", "all numbers lie within 0 and 1"),
        (lambda unit: unit * 0.98 + 0.01, "zca", "all numbers lie within 0 and 1"),
    ],
    ids=["normalized as unit", "0 to 255 as unit", "255ths beyond 1", "unit as normalized", "unit as zca"],
)
def test_floats_that_contradict_the_space_named_are_doubted_at_import_and_in_every_score(
    tmp_path, digits, quick, images, space, doubt
):
    unit = pictures().float() / 255
    found = import_release(FORMS["loose"](tmp_path, images(unit), LABELS), digits, space)
    assert any(line.startswith(f"warning: read as {space}") and doubt in line for line in found.remarks)
    assert any(doubt in note for note in evaluate(found.sets[0], digits, "quick-v1").notes)


def test_whole_255ths_inside_the_range_leave_no_doubt(digits):
    real = digits.train.images(torch.arange(50)).float() / 255
    assert diagnose(real, digits, pixel_space_of(digits, "unit")).doubts == []
    assert diagnose(real * 5, digits, pixel_space_of(digits, "unit")).doubts != []


@pytest.mark.parametrize(
    "told",
    [
        ("--space", "normalized", "--mean", "0.1", "--std", "0.05"),
        ("--space", "zca", "--zca-eps", "0.5", "--zca-input", "normalized"),
    ],
    ids=["own statistics", "own whitening"],
)
def test_the_evidence_is_about_the_space_that_is_saved(command, tmp_path, digits, told):
    files, out = FORMS["loose"](tmp_path, smooth(), LABELS), tmp_path / "set.safetensors"
    code, _, said = command("import", *files, "--dataset", "digits", *told, "--out", out)
    assert code == 0
    space = load_distilled(out).card.pixel_space
    right = diagnose(smooth(), digits, space)
    usual = diagnose(smooth(), digits, pixel_space_of(digits, space.kind))
    line = next(line for line in said.splitlines() if line.startswith(f"{space.kind} "))
    assert f"{right.low:6.2f} … {right.high:6.2f}" in line
    assert f"{usual.low:6.2f} … {usual.high:6.2f}" not in line


def test_doubts_are_those_of_the_space_that_is_saved(tmp_path, digits):
    flat = PixelSpace(kind="normalized", mean=digits.mean, std=(0.01,))
    found = import_release(FORMS["loose"](tmp_path, smooth(), LABELS), digits, flat)
    assert any("contrast is 0.0" in line for line in found.remarks)
    assert not any(
        "contrast" in line for line in import_release([tmp_path / "images.pt"], digits, "normalized").remarks
    )


@pytest.mark.parametrize("form", FORMS)
def test_grey_images_may_come_without_their_channel(tmp_path, digits, form):
    made = import_release(FORMS[form](tmp_path, pictures()[:, 0], LABELS), digits).sets[0]
    assert torch.equal(made.images, pictures())


def test_a_single_npy_file_is_asked_for_its_labels(tmp_path, digits):
    FORMS["npy"](tmp_path, pictures(), LABELS)
    with pytest.raises(UsageError, match="`labels=order`"):
        import_release([tmp_path / "images.npy"], digits)
    made = import_release([tmp_path / "images.npy"], digits, options=ImportOptions(labels="order")).sets[0]
    assert torch.equal(made.images, pictures())


@pytest.mark.parametrize("form", ["loose", "npy", "npz", "dictionary", "res", "datadam"])
def test_channels_last_is_read_in_every_form_whose_error_advises_it(tmp_path, digits, form):
    files = FORMS[form](tmp_path, smooth().permute(0, 2, 3, 1).contiguous(), LABELS)
    with pytest.raises(DataError, match="add `layout=nhwc`"):
        import_release(files, digits, "normalized")
    made = import_release(files, digits, "normalized", ImportOptions(layout="nhwc")).sets[0]
    assert torch.equal(made.images, smooth())


# --- images that hold several smaller ones


def put_together(count=20):
    """16×16 images of four smooth 8×8 ones."""
    parts = [torch.nn.functional.interpolate(smooth(k), size=8) for k in range(4)]
    rows = [torch.cat(parts[:2], dim=3), torch.cat(parts[2:], dim=3)]
    return torch.cat(rows, dim=2)[:count]


def test_a_seam_is_seen_where_images_were_put_together(digits):
    assert seam(put_together(), 2) > 3
    assert seam(digits.train.images(torch.arange(500)), 2) < 1.3
    assert seam(torch.nn.functional.interpolate(smooth(), size=16, mode="bilinear"), 2) < 3


def test_a_bare_pair_of_images_that_hold_smaller_ones_is_refused_and_factor_reads_it_as_that(tmp_path, command):
    files = FORMS["pair"](tmp_path, put_together() * 0.1 + 0.5, LABELS)
    photos = tmp_path / "photos.npz"
    real = torch.randint(0, 256, (40, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    numpy.savez(photos, images=real.numpy(), labels=numpy.arange(40) % 10)
    out = tmp_path / "set.safetensors"
    base = ("import", *files, "--dataset", f"npz:{photos}", "--space", "unit", "--out", out)
    code, _, said = command(*base)
    assert (code, "--factor 2 reads them so" in said, out.exists()) == (3, True, False)
    assert command(*base, "--factor", 1)[0] == 0
    assert len(load_distilled(out).images) == 20
    assert command(*base, "--factor", 2)[0] == 0
    made = load_distilled(out)
    stored = put_together() * 0.1 + 0.5
    corner = torch.nn.functional.interpolate(stored[:, :, :8, 8:], size=16, mode="bilinear", align_corners=False)
    shown = made.shown()
    assert torch.equal(made.images, stored) and torch.equal(made.labels, LABELS)
    assert (made.card.ipc, made.card.formation, made.nbytes) == (2, 2, 20 * (16 * 16 * 4 + 8))
    assert shown.images.shape == (80, 1, 16, 16)
    assert torch.equal(shown.images[1::4], corner)
    assert torch.equal(shown.labels, LABELS.repeat_interleave(4))


def test_a_seam_in_another_form_than_a_bare_pair_is_nothing(tmp_path, digits):
    seamed = smooth()
    seamed[:, :, 4:] += 5
    seamed[:, :, :, 4:] += 5
    assert seam(seamed, 2) > 3
    assert len(import_release(FORMS["loose"](tmp_path, seamed, LABELS), digits, "normalized").sets) == 1
    with pytest.raises(DataError, match="`factor=2`"):
        import_release(FORMS["pair"](tmp_path, seamed, LABELS), digits, "normalized")


# --- sets from arrays of one's own


@pytest.mark.parametrize(
    "images", [pictures().numpy(), pictures().int(), pictures().tolist()], ids=["NumPy", "int32", "lists"]
)
def test_from_tensors_takes_integer_pixels_of_any_kind(digits, images):
    made = DistilledSet.from_tensors(images, LABELS, digits)
    assert made.images.dtype == torch.uint8
    assert torch.equal(made.images, pictures())


@pytest.mark.parametrize("dtype", [numpy.float64, numpy.dtype(">f8"), numpy.dtype(">f4")], ids=str)
def test_from_tensors_takes_floats_of_any_kind(digits, dtype):
    made = DistilledSet.from_tensors(smooth().numpy().astype(dtype), LABELS, digits)
    assert made.images.dtype == torch.float32
    assert torch.equal(made.images, smooth())


def test_from_tensors_keeps_float16(digits):
    assert DistilledSet.from_tensors(smooth().half(), LABELS, digits).images.dtype == torch.float16


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (pictures().int() * 2, "from .* to .*0 to 255"),
        (pictures() > 9, "bool"),
        (smooth().to(torch.complex64), "complex64"),
        ([["a"]], "lists of numbers"),
        ([[1.0], [1.0, 2.0]], "lists of numbers"),
    ],
    ids=["large", "bool", "complex", "text", "ragged"],
)
def test_from_tensors_refuses_what_is_no_pixels_by_name(digits, images, said):
    with pytest.raises(DataError, match=said):
        DistilledSet.from_tensors(images, LABELS, digits)


def test_floats_of_unknown_space_are_still_asked_about(tmp_path, digits):
    with pytest.raises(UsageError, match="`space=normalized`"):
        import_release(FORMS["loose"](tmp_path, smooth(), LABELS), digits)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_pictures_of_fewer_levels_are_doubted_at_import_and_beside_the_number(tmp_path, digits, dtype, monkeypatch):
    """Values of 0 to 16, as scikit-learn's digits have them, are nearly black as 8-bit pictures."""
    chosen = torch.cat([indices[:2] for indices in digits.train.class_indices])
    labels, pixels = digits.train.labels[chosen], digits.train.images(chosen)
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 1, "networks": 1, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)
    for values, doubted in ((pixels // 16, True), (pixels, False)):
        torch.save([values.to(dtype), labels], tmp_path / "pair.pt")
        found = import_release([tmp_path / "pair.pt"], digits)
        assert any("8-bit pictures, but contrast is" in remark for remark in found.remarks) == doubted
        notes = evaluate(found.sets[0], digits, "quick-v1").notes
        assert any("8-bit pictures, but contrast is" in note for note in notes) == doubted
