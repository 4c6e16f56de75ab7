"""What file names say of a release, and what is claimed for its sets: read and checked, never guessed."""

import numpy
import pytest
import torch
from releases_at_hand import FORMS, LABELS, smooth

from distill_bench import load_dataset, load_distilled
from distill_bench.cli.claims import describe_stored
from distill_bench.errors import DataError
from distill_bench.hub import import_release
from distill_bench.hub.convert.file_names import Named, read_names
from distill_bench.hub.convert.loose_tensors import ASSUMED_RATE
from distill_bench.hub.registry.registry import load_registry


def res(tmp_path, name, seeds=(0,), accuracies=None, images=None):
    """A res file of that name."""
    data = [[smooth(seed) if images is None else images, LABELS] for seed in seeds]
    torch.save({"data": data} | ({} if accuracies is None else {"accs_all_exps": accuracies}), tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize(
    ("name", "method", "datasets", "network", "ipc"),
    [
        ("res_DC_CIFAR10_ConvNet_1ipc", "dc", ["cifar10"], "ConvNet", 1),
        ("modelpool_res_DC_CIFAR10_ConvNet_10ipc_3000", "dc", ["cifar10"], "ConvNet", 10),
        ("2023-05_res_DSA_SVHN_ConvNetBN_50ipc", "dsa", ["svhn"], "ConvNetBN", 50),
        ("res_DC_BreastMNIST_ConvNet_1ipc", "dc", ["BreastMNIST"], "ConvNet", 1),
        ("res_IDM_tiny_imagenet_ConvNetD4_10ipc", "idm", ["tiny_imagenet"], "ConvNetD4", 10),
        ("res_DM_My-Data_ResNet18_10ipc", "dm", ["MyData"], "ResNet18", 10),
        ("res_DataDAM_FashionMNIST_ConvNet_10ipc", "datadam", ["fashion_mnist"], "ConvNet", 10),
        ("fashion_mnist_dm_ipc-5", "dm", ["fashion_mnist"], None, 5),
        ("syn_data_imagesquack_ipc_10", None, ["imagesquawk"], None, 10),
        ("CIFAR10_IPC1_normalize_images", None, ["cifar10"], None, 1),
        ("ftd.images-best", "ftd", [], None, None),
        ("sre2l_tiny_rn18_4k_ipc100.zip.unpacked-0f", "sre2l", ["tiny_imagenet"], None, 100),
        ("images_zca_5000", None, [], None, None),
        ("high_res_photos", None, [], None, None),
    ],
)
def test_names_are_read_wherever_their_parts_stand(name, method, datasets, network, ipc):
    assert read_names([name]) == Named(method, tuple(datasets), network, ipc)


def test_no_name_in_the_registry_speaks_against_its_dataset_or_ipc():
    registry = load_registry()
    assert len(registry) >= 90
    for name, entry in registry.items():
        found = read_names(file.name.rpartition(".")[0] for file in entry.files)
        assert not found.speaks_against(entry.dataset), name
        assert found.ipc in (None, entry.ipc), name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("res_DC_MNIST_LeNet_2ipc.pt", "mnist"),
        ("modelpool_res_DC_BreastMNIST_ConvNet_2ipc_3000.pt", "BreastMNIST"),
        ("my_cifar-100_set_res.pt", "cifar100"),
        ("res_DC_Own_ConvNet_2ipc.pt", "Own"),
    ],
)
def test_a_name_that_says_another_dataset_is_an_error_that_names_both_unless_it_is_meant(command, tmp_path, name, said):
    file, out = res(tmp_path, name), tmp_path / "set.safetensors"
    base = ("import", file, "--dataset", "digits", "--out", out)
    code, _, error = command(*base)
    assert (code, out.exists()) == (3, False)
    assert f"the name {name} says {said}, the dataset asked for is digits" in error
    assert "--force" in error
    assert command(*base, "--force")[0] == 0
    assert any(f"says {said}" in text for text in load_distilled(out).card.origin.assumptions)


@pytest.mark.parametrize("form", ["loose", "npy", "npz", "pair"])
def test_names_are_read_of_every_form(tmp_path, digits, form):
    for at in range(len(FORMS[form](tmp_path, smooth(), LABELS))):
        files = FORMS[form](tmp_path, smooth(), LABELS)
        files[at] = files[at].rename(files[at].with_name(f"mnist_{files[at].name}"))
        with pytest.raises(DataError, match="says mnist, the dataset asked for is digits"):
            import_release(files, digits, "normalized")


def test_a_dataset_of_ones_own_may_be_any_and_what_the_name_says_is_shown(tmp_path):
    numpy.savez(tmp_path / "own.npz", images=numpy.zeros((20, 8, 8), "uint8"), labels=numpy.arange(20) % 10)
    found = import_release([res(tmp_path, "res_DC_MNIST_ConvNet_2ipc.pt")], load_dataset(f"npz:{tmp_path / 'own.npz'}"))
    assert "by the file name: method dc, dataset mnist, network ConvNet, ipc 2" in found.remarks


def test_an_ipc_in_the_name_that_the_images_contradict_is_an_error(tmp_path, digits):
    with pytest.raises(
        DataError, match=r"says 10 images a class, but there are 20 for the 10 classes of digits, up to 2"
    ):
        import_release([res(tmp_path, "res_DC_digits_ConvNet_10ipc.pt")], digits)
    assert import_release([res(tmp_path, "res_DC_digits_ConvNet_2ipc.pt")], digits).sets[0].card.ipc == 2


@pytest.mark.parametrize(
    ("name", "method", "protocol"),
    [
        ("res_DC_digits_ConvNet_2ipc.pt", "dc", "dc-v1"),
        ("modelpool_res_DC_digits_ConvNet_2ipc_3000.pt", "dc", "dc-v1"),
        ("run7-res_DM_digits_ConvNet_2ipc.pt", "dm", "dsa-v1"),
        ("res_DataDAM_digits_ConvNet_2ipc.pt", "datadam", "datadam-v1"),
    ],
)
def test_a_method_that_the_name_says_brings_its_protocol_and_nothing_is_assumed(
    tmp_path, digits, name, method, protocol
):
    found = import_release([res(tmp_path, name)], digits)
    card = found.sets[0].card
    assert (card.method, card.protocol, card.origin.assumptions) == (method, protocol, ())
    assert not any("assumed" in line for line in found.remarks)


@pytest.mark.parametrize(
    ("name", "method", "assumed"),
    [
        ("res_IDM_digits_ConvNet_2ipc.pt", "idm", "protocol dsa-v1: that of idm is not known here"),
        ("set.pt", "custom", "method custom and protocol dsa-v1: by the form res, no file name says it"),
    ],
)
def test_a_method_or_protocol_that_nothing_says_is_assumed_on_the_card(tmp_path, digits, name, method, assumed):
    found = import_release([res(tmp_path, name)], digits)
    assert found.sets[0].card.method == method
    assert found.sets[0].card.origin.assumptions[0].startswith(assumed)
    told = import_release([tmp_path / name], digits, method="mine", protocol="standard-v1").sets[0].card
    assert (told.method, told.protocol, told.origin.assumptions) == ("mine", "standard-v1", ())


def test_what_the_form_alone_suggests_is_said(tmp_path, digits):
    found = import_release(FORMS["loose"](tmp_path, smooth(), LABELS), digits, "normalized")
    assert any(line.startswith("assumed: method mtt and protocol mtt-v1") for line in found.remarks)
    told = import_release([tmp_path / "images.pt"], digits, "normalized", method="mtt")
    assert not any("assumed: method" in line for line in told.remarks)


@pytest.mark.parametrize(
    ("method", "assumed"),
    [("mtt", True), ("ftd", True), ("tesla", True), ("datm", True), ("dm", False), ("random", False), ("mine", False)],
)
def test_a_learned_rate_is_missed_only_where_the_method_learns_one(tmp_path, digits, method, assumed):
    files = FORMS["loose"](tmp_path, smooth(), LABELS)
    found = import_release(files, digits, "normalized", method=method)
    assert (ASSUMED_RATE in found.sets[0].card.origin.assumptions) == assumed
    assert any(ASSUMED_RATE in line for line in found.remarks) == assumed


def test_real_images_never_had_a_learned_rate(tmp_path, digits):
    first = torch.cat([indices[:2] for indices in digits.train.class_indices])
    files = FORMS["loose"](tmp_path, digits.train.images(first).float() / 255, LABELS)
    assert import_release(files, digits).sets[0].card.origin.assumptions == ()


# --- accuracies in the file


def run(count):
    """Snapshots of one run: the same images, hardly moved."""
    moves = (torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(9)) * 0.02 * k for k in range(count))
    return [[smooth() + move, LABELS] for move in moves]


@pytest.mark.parametrize(
    ("data", "count", "why"),
    [
        (run(3), 5, "its 3 sets are alike, as snapshots of one run are"),
        (run(2), 20, "its 2 sets are alike, as snapshots of one run are"),
        ([[smooth(seed), LABELS] for seed in range(3)], 20, "its 3 sets do not divide them evenly"),
    ],
    ids=["snapshots", "snapshots that divide", "sets that do not divide"],
)
def test_accuracies_that_are_not_of_every_set_are_said_to_be_the_files(command, tmp_path, data, count, why):
    stored = [0.4, 0.5] * (count // 2) + [0.45] * (count % 2)
    file, out = tmp_path / "res_DC_digits_ConvNet_2ipc.pt", tmp_path / "set.safetensors"
    torch.save({"data": data, "accs_all_exps": {"ConvNet": stored}}, file)
    code, out_text, said = command("import", file, "--dataset", "digits", "--out", out)
    assert (code, "stored in the release" in out_text) == (0, False)
    assert f"stored accuracies are the file's, not each set's: {why} (ConvNet 45.00, std " in said
    for index in range(len(data)):
        origin = load_distilled(out.with_stem(f"set-{index}")).card.origin
        assert origin.stored_accuracies == {}
        assert why in origin.assumptions[0]


def test_accuracies_of_independent_sets_are_shown_of_all_and_of_each(command, tmp_path):
    accuracies = {"ConvNet": [0.1, 0.2, 0.3, 0.4], "MLP": [0.5, 0.6]}
    file = res(tmp_path, "res_DC_digits_ConvNet_2ipc.pt", seeds=(0, 1), accuracies=accuracies)
    code, said, _ = command("import", file, "--dataset", "digits", "--out", tmp_path / "set.safetensors")
    assert code == 0
    first, second = said.splitlines()
    pooled = "stored in the release: ConvNet 25.00, std 11.18 (4 networks) of 2 sets; of this one"
    other = "MLP 55.00, std 5.00 (2 networks) of 2 sets; of this one 50.00"
    assert f"{pooled} 15.00, std 5.00 (2 networks); {other}" in first
    assert f"{pooled} 35.00, std 5.00 (2 networks)" in second


@pytest.mark.parametrize("accuracies", [{}, {"ConvNet": []}, {"ConvNet": (), "MLP": [0.5]}])
def test_accuracies_that_are_not_there_are_not_announced(command, tmp_path, digits, accuracies):
    file = res(tmp_path, "res_DC_digits_ConvNet_2ipc.pt", accuracies=accuracies)
    code, said, _ = command("import", file, "--dataset", "digits", "--out", tmp_path / "set.safetensors")
    assert code == 0
    assert ("stored in the release: MLP 50.00 (1 network)" in said) == ("MLP" in accuracies)
    assert "ConvNet" not in said.partition(": ")[2]
    made = load_distilled(tmp_path / "set.safetensors")
    old = made.card.origin.model_copy(update={"stored_accuracies": {"ConvNet": ()}})
    made.card = made.card.model_copy(update={"origin": old})
    assert describe_stored(made) == "stored in the release: no accuracies"
