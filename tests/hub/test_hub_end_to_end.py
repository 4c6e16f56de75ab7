"""A set from its maker to a stranger: published, served, downloaded, verified; a flipped byte is caught on the way."""

import functools
import json
import threading
import tomllib
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from short_protocol import short_quick_v1

from distill_bench import load_distilled
from distill_bench.evaluation.statistics import percent_interval
from distill_bench.runtime.stored import with_sum

NAME = "random-digits-ipc1"
RESULT = "results/quick-v1-ConvNetD1W4-hard.json"


@pytest.fixture(scope="module", autouse=True)
def _short(tmp_path_factory):
    with short_quick_v1(tmp_path_factory.mktemp("home"), epochs=3):
        yield


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(command, tmp_path, monkeypatch):
    """A folder published by its maker and served on this machine, with its address; then another machine's cache."""
    folder = tmp_path / "served"
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "maker"))
    made, result = tmp_path / "made.safetensors", tmp_path / "made.json"
    assert command("synthesize", "random", "--dataset", "digits", "--ipc", 1, "--out", made)[0] == 0
    result.write_text(command("evaluate", made, "--protocol", "quick-v1", "--json")[1])
    code, _, error = command("publish", made, "--to", "folder", "--out", folder, "--result", result, "--url", url)
    assert code == 0, error
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "stranger"))
    monkeypatch.setenv("DISTILL_BENCH_OFFLINE", "0")
    yield folder, url
    server.shutdown()
    server.server_close()


@pytest.fixture
def stranger(served, command, tmp_path):
    """What somebody does who has the address alone: exit codes of download and verify, and where the set lies."""
    _, url = served

    def fetch(path):
        copy = tmp_path / "fetched" / Path(path).name
        copy.parent.mkdir(exist_ok=True)
        with urllib.request.urlopen(f"{url}/{path}") as answer:
            copy.write_bytes(answer.read())
        return copy

    def go(spoil=lambda set_path, result_path: None):
        registry, result = fetch("registry-entry.toml"), fetch(RESULT)
        code, said, error = command("download", NAME, "--registry", registry)
        if code != 0:
            return code, None, error
        path = Path(said.split(": ")[0])
        spoil(path, result)
        code, said, error = command("verify", NAME, result, "--registry", registry)
        return code, path, said + error

    return go


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def test_what_was_published_is_downloaded_by_its_id_and_its_result_holds(served, stranger, tmp_path):
    code, path, said = stranger()
    assert (code, said.split(":")[0]) == (0, "holds"), said
    assert "2 networks with exactly the claimed accuracy" in said
    assert path.is_relative_to(tmp_path / "stranger")
    assert path.read_bytes() == (tmp_path / "made.safetensors").read_bytes()
    registry = tmp_path / "fetched" / "registry-entry.toml"
    assert load_distilled(NAME, registry=registry).sha256 == load_distilled(path).sha256


@pytest.mark.parametrize("place", [0, 100, 1500, -1], ids=["length", "header", "tensors", "end"])
def test_a_byte_flipped_at_the_server_is_caught_at_the_download(served, stranger, place):
    folder, _ = served
    flip(folder / f"{NAME}.safetensors", place)
    code, _, error = stranger()
    assert code == 3
    assert "sha256" in error


@pytest.mark.parametrize("key", ["sha256", "bytes"])
def test_a_digit_flipped_in_the_registry_is_caught_at_the_download(served, stranger, key):
    entry = served[0] / "registry-entry.toml"
    flip(entry, entry.read_text().index(f"\n{key} = ") + len(f"\n{key} = ") + 3)
    tomllib.loads(entry.read_text())
    assert stranger()[0] == 3


def test_a_byte_flipped_in_the_cache_is_caught_when_the_set_is_read(stranger):
    code, _, error = stranger(lambda path, _: flip(path, 1500))
    assert (code, "damaged in the cache" in error) == (3, True)


@pytest.mark.parametrize(
    ("spot", "codes"),
    [('"set_sha256": "', {3}), ('"accuracies": [\n  ', {3}), ('"accuracy": ', {3}), ('"protocol": "', {3}), ("{", {3})],
)
def test_a_byte_flipped_in_the_result_is_caught_by_verify(stranger, spot, codes):
    def spoil(_, result):
        flip(result, result.read_text().index(spot) + len(spot))

    code, _, said = stranger(spoil)
    assert code in codes, said


def test_a_result_edited_with_all_that_follows_does_not_hold(stranger):
    def spoil(_, result):
        content = json.loads(result.read_text())
        content["accuracy"] += 1
        content["accuracies"] = [value + 1 for value in content["accuracies"]]
        content["ci_low"], content["ci_high"] = percent_interval([content["accuracies"]])
        result.write_text(json.dumps(with_sum(content)))

    code, _, said = stranger(spoil)
    assert (code, said.split(":")[0]) == (4, "does not hold")
