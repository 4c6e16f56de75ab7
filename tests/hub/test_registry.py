"""The registry of published sets is well formed, and says of an invalid one what is wrong."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from distill_bench import DataError, UsageError, list_datasets, load_dataset
from distill_bench.benchmark.leaderboard.registered import listed_claim
from distill_bench.cli.claims import claimed
from distill_bench.hub import all_formats
from distill_bench.hub.registry.registry import (
    BUILT_IN,
    CsvClaim,
    Entry,
    RemoteFile,
    Space,
    load_registry,
    published,
    read_registry,
)

REGISTRY = read_registry(BUILT_IN)
GOOD = """
[dm-digits-ipc1]
method = "dm"
dataset = "digits"
ipc = 1
protocol = "quick-v1"
page = "https://example.org"
[[dm-digits-ipc1.files]]
path = "dm.safetensors"
urls = ["https://example.org/dm.safetensors"]
"""


@pytest.fixture
def written(tmp_path):
    def write(text: str):
        path = tmp_path / "registry.toml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", REGISTRY)
def test_an_entry_says_what_its_id_says(name):
    entry = REGISTRY[name]
    assert entry.files
    assert re.fullmatch(rf"[a-z0-9-]+-{entry.dataset}-ipc{entry.ipc}(-v\d+)?", name)
    assert entry.dataset in list_datasets()
    assert entry.importer in all_formats()
    assert all(url.startswith("https://") for file in entry.files for url in file.urls)
    assert all((file.member == ".") == (entry.importer == "folder") for file in entry.files)
    assert entry.importer in ("res", "folder") or entry.space is not None, "the importer would ask for the pixel space"
    assert claimed(entry).startswith("claimed: ")


def test_sums_name_one_file_each():
    files = [file for entry in REGISTRY.values() for file in entry.files]
    sums = [file.sha256 for file in files if file.sha256]
    assert len(set(sums)) == len(sums) >= 54
    assert all(file.bytes for file in files if file.sha256)
    addresses = [url for file in files for url in file.urls]
    assert len(set(addresses)) == len(addresses)


def test_every_claim_that_is_listed_is_one_line():
    listed = {name: entry for name, entry in REGISTRY.items() if isinstance(entry.claim, CsvClaim)}
    found = {name: listed_claim(entry, entry.claim).accuracy for name, entry in listed.items()}
    assert found["datm-cifar10-ipc10"] == 66.8
    assert found["mtt-cifar10-ipc1"] == 44.19
    assert len(found) >= 30
    with pytest.raises(DataError, match=r"paper nobody.* names 0 lines"):
        listed_claim(listed["datm-cifar10-ipc10"], CsvClaim(paper="nobody"))


def test_it_agrees_with_the_sets_that_were_scored():
    scored = [
        json.loads(line) for line in (Path(__file__).parents[2] / "results/published.jsonl").read_text().splitlines()
    ]
    assert len(scored) == 19
    for known in scored:
        found = known["dataset"], known["protocol"], known["origin"]["files"], known["origin"]["form"], known["ipc"]
        kinds = [known["pixel_space"], None] if known["pixel_space"] == "normalized" else [known["pixel_space"]]
        assert [
            entry
            for entry in REGISTRY.values()
            if (entry.space.kind if entry.space else None) in kinds
            and found
            == (
                entry.dataset,
                entry.protocol,
                {file.name: file.sha256 for file in entry.files},
                entry.importer,
                entry.ipc,
            )
        ], found


def test_claims_in_words():
    assert claimed(REGISTRY["datm-cifar10-ipc10"]).startswith(
        "claimed: 66.8 %, std 0.2 (DATM, protocol datm-v1, ConvNetD3, soft labels, best on test; "
    )
    assert claimed(REGISTRY["dm-cifar10-ipc1"]) == "claimed: the accuracies stored in its file"
    assert claimed(REGISTRY["scdd-imagenet-ipc50"]) == "claimed: nothing"
    stated = REGISTRY["dm-cifar10-ipc1"].model_dump() | {
        "claim": {"accuracy": 26.3, "std": 0.3, "networks": 5, "source": "results/x.json"}
    }
    assert claimed(Entry.model_validate(stated)) == "claimed: 26.3 %, std 0.3, 5 networks (results/x.json)"


def test_a_space_is_the_sources_unless_it_says_otherwise():
    source = load_dataset("digits")
    assert Space(kind="normalized").of(source).mean == source.mean
    other = Space(kind="zca", zca_eps=0.2, zca_input="normalized", mean=(0.1,), std=(0.2,)).of(source)
    assert (other.kind, other.eps, other.zca_input, other.mean, other.std) == ("zca", 0.2, "normalized", (0.1,), (0.2,))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ipc = 1", "ipc = 0", "ipc: Input should be greater than 0"),
        ("ipc = 1", "", "give ipc, images per class, or fraction"),
        ("ipc = 1", "ipc = 1\ncolour = 'red'", "colour: Extra inputs are not permitted"),
        ("quick-v1", "slow-v1", "unknown protocol 'slow-v1'"),
        ('"digits"', '"digits"\nimporter = "guess"', "unknown importer 'guess'; known: distill-bench, arrays, datadam"),
        ("https://example.org/dm", "http://example.org/dm", "http is for 127.0.0.1 alone"),
        ("https://example.org/dm", "file:///etc/dm", "give an https address"),
        ('"dm.safetensors"', '"../dm.safetensors"', "give a relative path"),
        ('"dm.safetensors"', '"/dm.safetensors"', "give a relative path"),
        ('"dm.safetensors"', '"dm.pt"', "the importer distill-bench is for one .safetensors file"),
        ("urls", 'sha256 = "ABC"\nurls', "sha256: String should match"),
        ("urls", 'member = "../x"\nurls', "give a relative path"),
        ("ipc = 1", "ipc = 1\nsuperseded_by = 'dm-digits-ipc1-v2'", "which is not in this registry"),
        ("[dm-digits-ipc1]", "[DM]\n[dm-digits-ipc1]", "an id has small letters"),
        ("ipc = 1", "ipc = ", "cannot be read"),
    ],
)
def test_an_invalid_registry_says_what_is_wrong_and_where(written, old, new, said):
    assert list(read_registry(written(GOOD))) == ["dm-digits-ipc1"]
    path = written(GOOD.replace(old, new, 1))
    with pytest.raises(DataError) as error:
        read_registry(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_two_files_of_one_name_are_refused():
    entry = REGISTRY["mtt-cifar10-ipc1"].model_dump() | {"files": [{"path": "a/x.pt"}, {"path": "b/x.pt"}]}
    with pytest.raises(ValueError, match=r"two files have one name: x.pt, x.pt"):
        Entry.model_validate(entry)


def test_loopback_may_be_plain_http():
    for host in ("127.0.0.1:8000", "localhost:8000", "[::1]:8000"):
        assert RemoteFile(path="x.pt", urls=[f"http://{host}/x.pt"])


def test_ones_own_registry_comes_first(written, monkeypatch):
    own = written(GOOD + GOOD.replace("dm-digits-ipc1", "dm-cifar10-ipc1"))
    found = load_registry(own)
    assert set(found) == {*REGISTRY, "dm-digits-ipc1"}
    assert found["dm-cifar10-ipc1"].dataset == "digits"
    monkeypatch.setenv("DISTILL_BENCH_REGISTRY", str(own))
    assert load_registry() == found


def test_an_unknown_id_says_which_are_close():
    assert published("datm-cifar10-ipc10").method == "datm"
    with pytest.raises(UsageError, match=r"no published set is called 'datm-cifar10'. There are datm-cifar10-ipc10"):
        published("datm-cifar10")


def test_the_list_says_how_to_come_by_each(command, written):
    code, out, _ = command("list", "published")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert set(lines) == set(REGISTRY)
    assert lines["datm-cifar10-ipc10"].endswith("datm on cifar10, ipc 10, datm-v1, 1,235,009 bytes: to download")
    assert lines["dm-cifar10-ipc10"].endswith("by hand, then download --file")
    assert "  dm-digits-ipc1" in command("list", "published", "--registry", written(GOOD))[1]


def test_the_file_is_toml_without_repeated_tables():
    assert list(tomllib.loads(BUILT_IN.read_text(encoding="utf-8"))) == list(REGISTRY)
