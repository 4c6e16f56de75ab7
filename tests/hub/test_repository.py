"""Sets by ``owner/name``: from a stand-in for the Hub's client, which has what ``publish`` wrote."""

import sys
from types import SimpleNamespace

import pytest

from distill_bench import DataError, UsageError, load_distilled, synthesize
from distill_bench.hub.publish import release, write_release
from distill_bench.hub.registry.repository import is_repository


@pytest.fixture
def hub(digits, tmp_path, monkeypatch):
    """The client and its repository, a folder that ``publish`` wrote; what the client was asked for."""
    synthesize(digits, "random", 1).save(tmp_path / "set.safetensors")
    write_release(release(tmp_path / "set.safetensors"), tmp_path / "there")
    asked = []

    def snapshot_download(name, **options):
        asked.append((name, options))
        return str(tmp_path / "there")

    client = SimpleNamespace(snapshot_download=snapshot_download, asked=asked, folder=tmp_path / "there")
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    monkeypatch.setenv("DISTILL_BENCH_OFFLINE", "0")
    monkeypatch.chdir(tmp_path)
    return client


def test_a_repository_is_read_as_publish_wrote_it(hub, digits):
    assert load_distilled("you/random-digits").sha256 == synthesize(digits, "random", 1).sha256
    ((name, options),) = hub.asked
    assert (name, options["repo_type"], options["local_files_only"]) == ("you/random-digits", "dataset", False)
    assert options["allow_patterns"] == ["*.safetensors", "registry-entry.toml"]


def test_the_network_is_not_asked_where_that_is_forbidden(hub, monkeypatch):
    load_distilled("you/random-digits", download=False)
    monkeypatch.setenv("DISTILL_BENCH_OFFLINE", "1")
    load_distilled("you/random-digits")
    assert [options["local_files_only"] for _, options in hub.asked] == [True, True]


def test_another_file_than_the_entry_is_about_is_refused(hub, digits):
    (file,) = hub.folder.glob("*.safetensors")
    synthesize(digits, "random", 2).save(file)
    with pytest.raises(DataError, match=r"is not the file that its registry-entry.toml is about"):
        load_distilled("you/random-digits")
    (hub.folder / "registry-entry.toml").write_text("no = [")
    with pytest.raises(DataError, match=r"registry-entry.toml cannot be read"):
        load_distilled("you/random-digits")
    synthesize(digits, "random", 2).save(hub.folder / "another.safetensors")
    with pytest.raises(DataError, match=r"holds 2 .safetensors files"):
        load_distilled("you/random-digits")


def test_what_cannot_be_had_is_one_line(hub, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no\nroute")

    hub.snapshot_download = refuse
    with pytest.raises(
        DataError, match=r"you/it is no file here, and .* cannot be fetched \(ConnectionError: no route\)"
    ):
        load_distilled("you/it")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"pip install 'distill_bench\[hub\]'"):
        load_distilled("you/it")


def test_files_come_first(hub):
    for name in ("there/x", "set.safetensors", "a/b/c", "/a/b", "dm-cifar10-ipc1", "./a", "a/b.safetensors", "../b"):
        assert not is_repository(name), name
    assert is_repository("you/dm-digits.v2")
    with pytest.raises(DataError, match="no such file"):
        load_distilled("there/x")
