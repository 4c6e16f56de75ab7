"""Published sets: an id goes wherever a file goes, and files fetched by hand are told apart before any is blamed."""

import hashlib
import json

import pytest
import torch

from distill_bench import DataError, DistilledSet, UsageError
from distill_bench.hub.registry.cached_file import CachedFile, take
from distill_bench.hub.registry.registry import Entry, RemoteFile

RIGHT, WRONG = b"the set", b"something else"
SUM = hashlib.sha256(RIGHT).hexdigest()


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))


@pytest.fixture
def released(digits, tmp_path, monkeypatch):
    """A set in a registry of one's own, not downloaded yet."""
    made = DistilledSet.from_tensors(torch.zeros(10, 1, 8, 8), torch.arange(10), digits, method="dm")
    made.save(tmp_path / "dm.safetensors")
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "r.toml").write_text(
        '[my-set]\nmethod = "dm"\ndataset = "digits"\nipc = 1\nprotocol = "quick-v1"\npage = "https://example.org"\n'
        f'[[my-set.files]]\npath = "dm.safetensors"\nsha256 = "{made.sha256}"\n'
    )
    monkeypatch.setenv("DISTILL_BENCH_REGISTRY", str(tmp_path / "registry" / "r.toml"))
    return made


@pytest.mark.parametrize(
    "words",
    [("info",), ("render", "--out", "x.png"), ("export", "--to", "res", "--out", "x.pt"),
     ("publish", "--to", "folder", "--out", "folder"), ("measure", "transfer", "--network", "MLP", "--networks", 1)],
)  # fmt: skip
def test_an_id_goes_where_a_file_goes(command, released, words, tmp_path, monkeypatch):
    from distill_bench.evaluation import PROTOCOLS

    monkeypatch.setitem(PROTOCOLS, "standard-v1", PROTOCOLS["standard-v1"].model_copy(update={"epochs": 1}))
    monkeypatch.chdir(tmp_path)
    code, _, error = command(words[0], "my-set", *words[1:])
    assert code == 3 and "By hand: fetch dm.safetensors" in error
    assert command("download", "my-set", "--file", "dm.safetensors")[0] == 0
    code, out, error = command(words[0], "my-set", *words[1:])
    assert code == 0, error
    if words == ("info",):
        assert json.loads(out)["sha256"] == released.sha256
    assert command(words[0], "my-sett", *words[1:])[0] == 2
    (tmp_path / "my-set").write_bytes((tmp_path / "dm.safetensors").read_bytes())  # a file goes before an id
    assert command("info", "my-set")[0] == 0


def entry(*files: RemoteFile) -> Entry:
    usual = {"method": "dm", "dataset": "digits", "ipc": 1, "importer": "mtt", "protocol": "dsa-v1"}
    return Entry.model_validate(usual | {"page": "https://example.org", "files": files})


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("sha256", "names"),
    [
        (None, ("set.pt", "readme.txt")),
        (SUM, ("set.pt", "readme.txt")),
        (SUM, ("renamed.pt", "set.pt")),
        (SUM, ("renamed.pt", "other.pt")),
    ],
)
def test_of_a_file_too_many_the_surplus_is_named_and_nothing_taken(tmp_path, sha256, order, names):
    right, surplus = tmp_path / names[0], tmp_path / names[1]
    right.write_bytes(RIGHT)
    surplus.write_bytes(WRONG)
    file = RemoteFile(path="set.pt", sha256=sha256)
    with pytest.raises(
        UsageError, match=rf"`file={surplus}`: not one of the files of a-set, which are set.pt \({right}\)"
    ):
        take([right, surplus][::order], "a-set", entry(file))
    assert not CachedFile(file, entry(file)).path.parent.exists()
    take([right], "a-set", entry(file))
    assert CachedFile(file, entry(file)).path.read_bytes() == RIGHT


def test_a_sum_goes_before_a_name(tmp_path):
    files = RemoteFile(path="a.pt", sha256=SUM), RemoteFile(path="b.pt", sha256=hashlib.sha256(WRONG).hexdigest())
    (tmp_path / "b.pt").write_bytes(RIGHT)
    (tmp_path / "a.pt").write_bytes(WRONG)
    take([tmp_path / "a.pt", tmp_path / "b.pt"], "a-set", entry(*files))
    assert [CachedFile(file, entry(*files)).path.read_bytes() for file in files] == [RIGHT, WRONG]


def test_one_file_of_another_sum_is_said_to_be_another(tmp_path):
    (tmp_path / "x.pt").write_bytes(WRONG)
    with pytest.raises(DataError, match=f"x.pt is not the set.pt of a-set. Its sha256 is .*; it must be {SUM}"):
        take([tmp_path / "x.pt"], "a-set", entry(RemoteFile(path="set.pt", sha256=SUM)))
