"""A set made ready for others: the same bytes twice, nothing overwritten, nothing said that its file does not say."""

import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import torch
import yaml
from releases_at_hand import CLASSES, LABELS, smooth
from short_protocol import short_quick_v1

from distill_bench import evaluate, list_datasets, load_distilled, synthesize
from distill_bench.datasets import dataset_info
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import DataError, RunFailed, UsageError
from distill_bench.hub.publish import default_name, release, write_release
from distill_bench.hub.registry.registry import read_registry
from distill_bench.runtime.stored import write_json

TOKEN = "hf_a_token_that_nobody_may_see"


@pytest.fixture(scope="module", autouse=True)
def _short(tmp_path_factory):
    with short_quick_v1(tmp_path_factory.mktemp("home"), epochs=4):
        yield


@pytest.fixture(scope="module")
def made(digits):
    return synthesize(digits, "dm", 1, preset="cpu", seed=3, iterations=2, real_batch=8, network="ConvNetD1W4")


@pytest.fixture(scope="module")
def score(made, digits):
    return evaluate(made, digits, "quick-v1")


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    """A store of the test's own."""
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))


@pytest.fixture
def file(made, tmp_path):
    made.save(tmp_path / "dm.safetensors")
    return tmp_path / "dm.safetensors"


@pytest.fixture
def result(score, tmp_path):
    (tmp_path / "result.json").write_text(score.model_dump_json())
    return tmp_path / "result.json"


def custom(digits, **card):
    return DistilledSet.from_tensors(smooth(), LABELS, digits, **card)


def card_of(made):
    return made.files["README.md"].decode()


def front_matter(made):
    return yaml.safe_load(card_of(made).split("---\n")[1])


def test_the_same_input_gives_the_same_bytes(file, result):
    first = release(file, [result])
    assert first == release(file, [result])
    assert set(first.files) == {
        "README.md",
        "data/train-00000-of-00001.parquet",
        "dm-digits-ipc1.safetensors",
        "preview.png",
        "registry-entry.toml",
        "results/quick-v1-ConvNetD1W4-hard.json",
    }
    assert first.files["dm-digits-ipc1.safetensors"] == file.read_bytes()
    assert first.files["results/quick-v1-ConvNetD1W4-hard.json"] == result.read_bytes()


def test_front_matter_is_what_hugging_face_reads(file):
    assert front_matter(release(file)) == {
        "license": "cc-by-4.0",
        "task_categories": ["image-classification"],
        "size_categories": ["n<1K"],
        "pretty_name": "dm on digits, 1 image per class",
        "tags": ["dataset-distillation", "distill-bench", "dm", "digits", "arxiv:2110.04181"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    }


def test_the_card_says_how_the_set_was_made_and_whom_to_cite(file, result, score):
    run = {"torch": "2.99", "numpy": "2.0", "python": "3.11", "git_commit": "abc", "dirty": True, "threads": 2}
    write_json(file.with_suffix(".run.json"), run | {"seconds": 1.0})
    text = card_of(release(file, [result]))
    for line in ("| method | dm |", "| preset | cpu |", "| seed | 3 |", "| torch | 2.99 |", "| git commit | abc |"):
        assert line in text
    assert "| code | as in the commit, with changes |" in text
    assert '"iterations": 2' in text
    assert "Zhao & Bilen, WACV 2023, arXiv 2110.04181" in text
    assert dataset_info("digits").citation in text
    row = f"| quick-v1 | ConvNetD1W4 | hard | 0.01 | {score.accuracy:.2f} ± {score.half_width:.2f} |"
    assert row in text
    file.with_suffix(".run.json").unlink()
    assert "| versions | not recorded |" in card_of(release(file))
    assert "No result was published with it." in card_of(release(file))


def test_versions_come_from_a_result_of_bench_where_there_is_no_run_file(file, score, tmp_path):
    content = score.model_dump(mode="json") | {"synthesis": {"torch": "2.98", "git_commit": "def"}}
    (tmp_path / "bench.json").write_text(json.dumps(content))
    assert "| git commit | def |" in card_of(release(file, [tmp_path / "bench.json"]))


def test_loading_as_the_card_shows_gives_the_set_back(file, made, tmp_path, monkeypatch):
    write_release(release(file), tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    code = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    names = {}
    exec(code[0], names)
    assert names["distilled"].sha256 == made.sha256
    assert len(names["dataset"]) == CLASSES


def test_the_card_says_where_the_file_is(file):
    assert "curl" not in card_of(release(file))
    assert "curl -L -O https://x.org/y/dm-digits-ipc1.safetensors\n" in card_of(release(file, url="https://x.org/y/"))


def test_its_commands_run_as_written(command, file, result, tmp_path, monkeypatch):
    write_release(release(file, [result]), tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    commands = re.findall(r"distill-bench [^`\n]*safetensors[^`\n]*", text)
    assert [line.split()[1] for line in commands] == ["evaluate", "verify"]
    monkeypatch.chdir(tmp_path / "out")
    for line in commands:
        assert command(*line.rstrip(".").split()[1:])[0] == 0


def test_results_of_the_store_are_found_and_no_others(file, made, score, digits, tmp_path):
    scores = tmp_path / "home/store/scores"
    scores.mkdir(parents=True)
    run = {"run": {"torch": "2.97"}}
    write_json(scores / "a-2.json", score.model_dump(mode="json") | run)
    other = evaluate(custom(digits), digits, "quick-v1")
    write_json(scores / "b-2.json", other.model_dump(mode="json"))
    damaged = score.model_dump(mode="json") | {"protocol": "standard-v1", "accuracy": 99.0}
    write_json(scores / "c-2.json", damaged)
    (scores / "d-2.json").write_text(json.dumps(score.model_dump(mode="json") | {"sum": "0"}))
    found = release(file).files
    assert [name for name in found if name.startswith("results/")] == ["results/quick-v1-ConvNetD1W4-hard.json"]
    assert json.loads(found["results/quick-v1-ConvNetD1W4-hard.json"])["run"] == {"torch": "2.97"}


def test_a_given_result_goes_before_one_of_the_store(file, result, score, tmp_path):
    scores = tmp_path / "home/store/scores"
    scores.mkdir(parents=True)
    (scores / "a-2.json").write_text(json.dumps(score.model_dump(mode="json") | {"run": {"torch": "2.97"}}))
    assert release(file, [result]).files["results/quick-v1-ConvNetD1W4-hard.json"] == result.read_bytes()


def test_two_learning_rates_are_two_results(digits, tmp_path):
    made = custom(digits, learning_rate=0.02)
    made.save(tmp_path / "r.safetensors")
    paths = []
    for labels in ("stored", "hard"):
        paths.append(tmp_path / f"{labels}.json")
        paths[-1].write_text(evaluate(made, digits, "quick-v1", labels=labels).model_dump_json())
    names = [name for name in release(tmp_path / "r.safetensors", paths).files if name.startswith("results/")]
    assert names == [f"results/quick-v1-ConvNetD1W4-hard-lr{rate}.json" for rate in ("0.01", "0.02")]


def test_results_that_do_not_go_with_the_set_are_refused(file, result, digits, tmp_path):
    custom(digits).save(tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="has the sha256"):
        release(tmp_path / "other.safetensors", [result])
    with pytest.raises(UsageError, match="a second result under quick-v1 ConvNetD1W4 hard"):
        release(file, [result, result])


# --- the registry entry


def entry_of(made):
    return tomllib.loads(made.files["registry-entry.toml"].decode())[made.name]


def test_the_entry_is_valid_and_says_what_the_registry_asks_for(file, result, score, tmp_path):
    url = "https://example.org/sets"
    made = release(file, [result], url=url)
    (tmp_path / "registry.toml").write_bytes(made.files["registry-entry.toml"])
    entry = read_registry(tmp_path / "registry.toml")["dm-digits-ipc1"]
    assert (entry.method, entry.dataset, entry.ipc, entry.importer) == ("dm", "digits", 1, "distill-bench")
    assert (entry.protocol, entry.licence, entry.page) == ("quick-v1", "cc-by-4.0", url)
    assert entry.paper == "Zhao & Bilen, WACV 2023, arXiv 2110.04181"
    (remote,) = entry.files
    assert remote.urls == (f"{url}/dm-digits-ipc1.safetensors",)
    assert (remote.sha256, remote.bytes) == (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size)
    claim = entry.claim
    assert (claim.accuracy, claim.std, claim.networks) == (score.accuracy, score.std, 2)
    assert (claim.network, claim.labels) == (score.network, "hard")
    assert claim.source in made.files


def test_without_an_address_the_entry_has_none_and_says_so(file, result):
    made = release(file, [result])
    assert "urls" not in entry_of(made)["files"][0]
    assert any("`url`" in remark for remark in made.remarks)
    assert release(file, [result], url="https://x.org").remarks == ()
    with pytest.raises(UsageError, match="give an https address"):
        release(file, url="ftp://x.org/sets")


def test_the_claim_is_of_the_papers_protocol_and_its_own_network_if_there_is_one(file, made, score, digits, tmp_path):
    paths = []
    for index, fields in enumerate(
        [
            {"protocol": "dsa-v1", "network": "ConvNetD2W64"},
            {"protocol": "dsa-v1", "network": "MLP"},
            {"protocol": "standard-v1", "network": "ConvNetD2W64"},
        ]
    ):
        paths.append(tmp_path / f"{index}.json")
        more = fields | {"accuracies": (50.0,) * (index + 1), "networks": index + 1, "accuracy": 50.0, "std": 0.0}
        ends = {"ci_low": None, "ci_high": None} if index == 0 else {"ci_low": 50.0, "ci_high": 50.0}
        paths[-1].write_text(score.model_copy(update=more | ends).model_dump_json())
    assert entry_of(release(file, paths))["claim"]["source"] == "results/dsa-v1-ConvNetD2W64-hard.json"
    assert entry_of(release(file, paths[1:]))["claim"]["source"] == "results/dsa-v1-MLP-hard.json"
    assert "claim" not in entry_of(release(file))
    assert entry_of(release(file))["protocol"] == "dsa-v1"


# --- names and licences


def test_a_card_of_odd_strings_is_still_front_matter_and_tables(digits, tmp_path):
    method = 'my module:fun "quoted" | {{ 7 * 7 }} --- # not a heading'
    custom(digits, method=method, licence="mit").save(tmp_path / "odd.safetensors")
    made = release(tmp_path / "odd.safetensors")
    assert front_matter(made)["tags"][2] == method
    assert front_matter(made)["license"] == "mit"
    text = card_of(made)
    assert "49" not in text.split("sha256")[0]
    assert "\n# not a heading" not in text
    row = next(line for line in text.splitlines() if line.startswith("| method |"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert entry_of(made)["method"] == method
    assert made.name == "my-module-fun-quoted-7-7-not-a-heading-digits-ipc2"


def test_a_set_of_ones_own_images_needs_a_licence_and_says_that_its_name_is_seen(digits, tmp_path):
    made = custom(digits)
    card = made.card.model_copy(
        update={"source": made.card.source.model_copy(update={"name": "folder:/home/me/My Photos/"})}
    )
    made = DistilledSet(made.images, made.labels, card)
    made.save(tmp_path / "own.safetensors")
    with pytest.raises(UsageError, match="`licence=cc-by-4"):
        release(tmp_path / "own.safetensors")
    ready = release(tmp_path / "own.safetensors", licence="other")
    assert front_matter(ready)["license"] == "other"
    assert ready.name == "custom-my-photos-ipc2"
    assert "folder:/home/me/My Photos/" in ready.remarks[0]


def test_terms_without_an_identifier_are_linked(digits, tmp_path):
    made = custom(digits)
    card = made.card.model_copy(update={"source": made.card.source.model_copy(update={"name": "svhn"})})
    DistilledSet(made.images, made.labels, card).save(tmp_path / "s.safetensors")
    matter = front_matter(release(tmp_path / "s.safetensors"))
    assert (matter["license"], matter["license_name"]) == ("other", "svhn-terms")
    assert matter["license_link"] == "http://ufldl.stanford.edu/housenumbers/"


def test_all_named_datasets_have_their_terms():
    assert len(list_datasets()) >= 14
    for name in list_datasets():
        info = dataset_info(name)
        assert info.name == name and all((info.title, info.licence, info.terms, info.page, info.citation))


def test_a_whitened_set_is_shown_as_pictures(digits, tmp_path):
    custom(digits, pixel_space="zca").save(tmp_path / "z.safetensors")
    assert release(tmp_path / "z.safetensors").files["preview.png"][:4] == b"\x89PNG"


@pytest.mark.parametrize("name", ["A", "../x", "a b", "-a", "a\n"])
def test_an_id_that_is_no_file_name_is_refused(file, name):
    with pytest.raises(UsageError, match="--id"):
        release(file, name=name)


def test_the_id_is_made_of_method_dataset_and_ipc_or_given(file):
    assert default_name(load_distilled(file)) == "dm-digits-ipc1"
    assert "dm-v2.safetensors" in release(file, name="dm-v2").files


def test_other_formats_are_to_be_imported_first(command, tmp_path):
    torch.save({"data": []}, tmp_path / "res_DM.pt")
    code, _, error = command("publish", tmp_path / "res_DM.pt", "--to", "folder", "--out", tmp_path / "out")
    assert (code, "distill-bench import" in error) == (2, True)
    (tmp_path / "disguised.safetensors").write_bytes((tmp_path / "res_DM.pt").read_bytes())
    code, _, error = command("publish", tmp_path / "disguised.safetensors", "--to", "folder", "--out", tmp_path / "out")
    assert (code, "not a readable safetensors file" in error) == (3, True)
    assert not (tmp_path / "out").exists()


# --- the folder


def test_a_folder_is_written_once_and_completed_but_never_changed(command, file, result, tmp_path):
    out = tmp_path / "out"
    arguments = ["publish", file, "--to", "folder", "--out", out, "--result", result]
    code, said, _ = command(*arguments)
    assert code == 0
    assert set(said.split()) == {str(path) for path in out.rglob("*") if path.is_file()}
    (out / "preview.png").unlink()
    assert command(*arguments)[0] == 0
    assert (out / "preview.png").exists()
    code, _, error = command(*arguments[:-2])
    assert (code, "results/quick-v1-ConvNetD1W4-hard.json" in error) == (2, True)
    (out / "notes.txt").write_text("mine")
    code, _, error = command(*arguments)
    assert (code, f"{out} holds notes.txt, and is left" in error) == (2, True)
    (out / "notes.txt").unlink()
    (out / "README.md").write_text("mine")
    code, _, error = command(*arguments)
    assert (code, "README.md with other content" in error, "another --out" in error) == (2, True, True)
    assert (out / "README.md").read_text() == "mine"
    (tmp_path / "plain").write_text("")
    code, _, error = command(*arguments[:4], "--out", tmp_path / "plain")
    assert (code, "plain is a file" in error) == (2, True)


@pytest.mark.parametrize(
    "options", [["--to", "folder"], ["--to", "huggingface"], ["--to", "huggingface", "--out", "x"], ["--to", "zenodo"]]
)
def test_the_target_says_which_option_it_needs(command, file, options):
    code, _, error = command("publish", file, *options)
    assert (code, "--to" in error) == (2, True)


# --- the upload, up to the client's door


@pytest.fixture
def hub_client(monkeypatch):
    """The client, which does nothing but remember; and a token."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    client = create_autospec(huggingface_hub.HfApi, instance=True)
    client.list_repo_files.return_value = [".gitattributes"]
    client.create_commit.return_value.commit_url = "https://huggingface.co/datasets/me/dm/commit/1"
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda token: client)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("DISTILL_BENCH_OFFLINE", "0")
    return client


def publish_there(command, file, repo="me/dm"):
    return command("publish", file, "--to", "huggingface", "--repo", repo)


def test_the_upload_is_one_commit_of_the_folder(command, file, hub_client, tmp_path):
    code, said, error = publish_there(command, file)
    assert (code, said.strip()) == (0, "https://huggingface.co/datasets/me/dm/commit/1")
    hub_client.create_repo.assert_called_once_with("me/dm", repo_type="dataset", exist_ok=True)
    call = hub_client.create_commit.call_args
    assert (call.args[0], call.kwargs["repo_type"]) == ("me/dm", "dataset")
    sent = {operation.path_in_repo: operation.path_or_fileobj for operation in call.args[1]}
    assert sent["dm-digits-ipc1.safetensors"] == file.read_bytes()
    assert set(sent) >= {"README.md", "preview.png"}
    entry = tomllib.loads(sent["registry-entry.toml"].decode())["dm-digits-ipc1"]
    assert entry["page"] == "https://huggingface.co/datasets/me/dm"
    assert entry["files"][0]["urls"] == [f"{entry['page']}/resolve/main/dm-digits-ipc1.safetensors"]
    assert TOKEN not in said + error


def test_a_repository_with_files_is_left_as_it_is(command, file, hub_client):
    hub_client.list_repo_files.return_value = [".gitattributes", "README.md"]
    code, _, error = publish_there(command, file)
    assert (code, "holds README.md already" in error, "-v2" in error) == (2, True, True)
    hub_client.create_commit.assert_not_called()


def test_a_refusal_is_one_line_without_the_token(command, file, hub_client):
    hub_client.create_repo.side_effect = ValueError(f"401 for\nBearer {TOKEN}")
    code, said, error = publish_there(command, file)
    assert (code, "me/dm failed (ValueError: 401 for Bearer …)" in error) == (RunFailed.exit_code, True)
    assert TOKEN not in said + error


def test_what_an_upload_needs(command, file, hub_client, monkeypatch, tmp_path):
    code, _, error = publish_there(command, file, "dm")
    assert (code, "owner/name" in error) == (2, True)
    monkeypatch.setenv("DISTILL_BENCH_OFFLINE", "1")
    code, _, error = publish_there(command, file)
    assert (code, "DISTILL_BENCH_OFFLINE" in error) == (2, True)
    monkeypatch.delenv("DISTILL_BENCH_OFFLINE")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    code, _, error = publish_there(command, file)
    assert (code, "HF_TOKEN" in error) == (2, True)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    code, _, error = publish_there(command, file)
    assert (code, "distill_bench[hub]" in error) == (2, True)
    hub_client.create_repo.assert_not_called()


def test_the_form_for_claims_asks_for_what_publish_and_verify_write():
    form = yaml.safe_load((Path(__file__).parents[2] / ".github/ISSUE_TEMPLATE/result_claim.yml").read_text())
    assert {"name", "description", "body"} <= set(form)
    asked = {item["id"]: item for item in form["body"] if item["type"] != "markdown"}
    assert {"url", "entry", "result", "verdict"} <= set(asked)
    assert all(item["type"] == "checkboxes" or item["validations"]["required"] for item in asked.values())


def test_a_protocol_that_a_result_names_is_never_imported(file, score, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "bad.json").write_text(score.model_copy(update={"protocol": "evil:x"}).model_dump_json())
    ready = release(file, [tmp_path / "bad.json"])
    entry, card = ready.files["registry-entry.toml"].decode(), ready.files["README.md"].decode()
    assert "evil" not in entry and "claim" not in entry and "--protocol evil" not in card
    assert any("no result is under a protocol of this project" in remark for remark in ready.remarks)
