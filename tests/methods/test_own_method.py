"""The example of docs/own-method.md, run as the page says."""

import re
from pathlib import Path

import pytest
import torch

from distill_bench import load_dataset, synthesize
from distill_bench.cli.list import method_titles
from distill_bench.distilled.budget import Budget
from distill_bench.errors import RunFailed, UsageError
from distill_bench.methods import list_methods, load_method, synthesis_key
from distill_bench.methods.recipe import list_recipes

PAGE = Path(__file__).parents[2] / "docs" / "own-method.md"
CODE = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the page's module, from which a command would be run."""
    assert CODE is not None
    (tmp_path / "mean_images.py").write_text(CODE[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_page_keeps_to_twenty_lines():
    assert CODE is not None
    assert len([line for line in CODE[1].splitlines() if line.strip()]) <= 20


def test_its_set_is_what_it_says(folder, digits):
    made = synthesize(digits, "mean_images:mean_images", 2, blend=100000)
    mean = [digits.train.images(indices).double().mean(dim=0) for indices in digits.train.class_indices]
    expected = (torch.stack(mean) / 255 - digits.mean[0]) / digits.std[0]
    assert torch.allclose(made.images[::2].double(), expected, atol=1e-5)
    assert made.card.method == "mean_images:mean_images"
    assert made.card.recipe["blend"] == 100000
    again = synthesize(digits, "mean_images:mean_images", 2, blend=100000)
    assert made.to_bytes() == again.to_bytes()


def test_unknown_fields_and_wrong_functions_are_refused(folder, digits):
    with pytest.raises(UsageError, match=r"no field blind.*blend"):
        synthesize(digits, "mean_images:mean_images", 1, blind=1)
    with pytest.raises(UsageError, match="has no attribute 'nothing'"):
        synthesize(digits, "mean_images:nothing", 1)
    (folder / "odd_method.py").write_text(
        "import torch\nnumber = 3\ndef odd(job):\n    return torch.zeros(3, 1, 8, 8)\n"
    )
    with pytest.raises(UsageError, match="is a int, not a function"):
        synthesize(digits, "odd_method:number", 1)
    with pytest.raises(
        RunFailed, match=r"returned images of shape \(3, 1, 8, 8\); a set must be.* of shape \(10, 1, 8, 8\)"
    ):
        synthesize(digits, "odd_method:odd", 1)


@pytest.mark.unchecked
@pytest.mark.parametrize("labels", ["run.labels.tolist()", "run.labels.float()", "run.labels[:3]", "run.labels[None]"])
def test_labels_of_another_form_are_refused(tmp_path, monkeypatch, digits, labels):
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"labels_{sum(map(ord, labels))}"
    (tmp_path / f"{name}.py").write_text(
        "import torch\nfrom distill_bench.methods import SynthesisResult\n"
        f"def odd(run):\n    return SynthesisResult(torch.zeros(10, 1, 8, 8), {labels})\n"
    )
    with pytest.raises(RunFailed, match=r"returned labels that are .*; they must be int64 of shape \(10,\)"):
        synthesize(digits, f"{name}:odd", 1)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("math:sqrt", "math:sqrt is a builtin_function_or_method; a method is a function written in Python"),
        ("mistyped_method:mistyped", r"SyntaxError: .*mistyped_method.py, line 1.*importable"),
        ("failing_method:failing", "ZeroDivisionError: division by zero"),
        ("./mean_images.py:mean_images", r"no path, no \.py"),
        ("mean_images.py:mean_images", r"no path, no \.py"),
    ],
)
def test_what_cannot_be_imported_is_refused(folder, name, complaint):
    (folder / "mistyped_method.py").write_text("def mistyped(job:\n")
    (folder / "failing_method.py").write_text("1 / 0\n")
    with pytest.raises(UsageError, match=complaint):
        load_method(name)


@pytest.fixture
def entry_points(folder, monkeypatch):
    """Other packages' methods: a good one, a broken one, and one that would take a built-in name."""
    (folder / "offered.dist-info").mkdir()
    lines = "good = mean_images:mean_images\nbroken = mean_images:gone\ndm = mean_images:mean_images\n"
    (folder / "offered.dist-info" / "entry_points.txt").write_text(f"[distill_bench.methods]\n{lines}")
    (folder / "offered.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 1\n")


@pytest.mark.usefixtures("entry_points")
def test_a_package_offers_methods_by_name(digits, caplog):
    assert list_methods() == [*list_recipes(), "broken", "good"]
    assert synthesize(digits, "good", 1).card.method == "good"
    assert load_method("dm").recipe.function.endswith(":distribution_matching")
    with pytest.raises(UsageError, match="no attribute 'gone'"):
        load_method("broken")
    assert method_titles()["good"] == "Averages of real images."
    assert "broken" not in method_titles() and "the method broken is left out" in caplog.messages[0]


def test_edited_code_is_new_work(folder, digits):
    def key(name: str) -> str:
        (folder / f"{name}.py").write_text(f"def method(job):\n    return '{name}'\n")
        method = load_method(f"{name}:method")
        return synthesis_key(digits, method, method.config("digits", 1), Budget(1), "paper", 0)

    assert key("first_version") != key("second_version")


def test_a_recipe_file_of_ones_own(folder):
    Path("mine.toml").write_text(
        'title = "mine"\nfunction = "mean_images:mean_images"\n[defaults]\nblend = 5\n[cell.digits.3]\nblend = 7\n'
    )
    method = load_method("mine.toml")
    assert [method.config("digits", ipc).model_dump()["blend"] for ipc in (1, 3)] == [5, 7]
    assert synthesize(load_dataset("digits"), "mine.toml", 1).images.shape == (10, 1, 8, 8)
