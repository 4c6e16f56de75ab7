"""The commands that make a row's sets again and score them."""

import shlex
from collections.abc import Sequence
from functools import cache
from typing import Any

from distill_bench.benchmark.grid import protocols_of
from distill_bench.benchmark.leaderboard.changed import changed_fields
from distill_bench.benchmark.leaderboard.collect import Row
from distill_bench.benchmark.suite import Suite, list_suites, load_suite
from distill_bench.datasets.classes import as_words
from distill_bench.distilled.budget import Budget
from distill_bench.errors import UsageError
from distill_bench.evaluation import Result, known_protocol
from distill_bench.evaluation.result import LINES
from distill_bench.hub.registry.registry import Entry, load_registry
from distill_bench.methods.recipe import PAPER, load_recipe

_SUBJECT = ("size", "holdout")


def commands(row: Row) -> list[str]:
    """How a row is made again.

    Args:
        row: of ``merged_rows``.

    Returns:
        Lines for a shell; none for a row that has no result.
    """
    results: list[Result] = [each for each in row["results"] if isinstance(each, Result)]
    if not results or any(_is_option(each) for each in results):
        return []
    protocol = row["protocol"] or ""
    for name in row["suites"]:
        if name in list_suites() and _has(load_suite(name), row, protocol):
            return [_bench(name, row, protocol, results)]
    if row["method"] in LINES:
        return [_line("evaluate", "--protocol", protocol, *_data(results[0]), *_networks(results, protocol))]
    return [line for each in _distinct(results) for line in _single(each, protocol, results)]


def _is_option(result: Result) -> bool:
    """Whether a name in a result, which anybody may have written, would be an option of the command it stood in."""
    files = result.origin.files if result.origin else ()
    return any(str(name).startswith("-") for name in (result.method, result.dataset, result.preset, *files))


def _has(suite: Suite, row: Row, protocol: str) -> bool:
    if row["method"] in LINES:
        return row["method"] in suite.lines and protocol in suite.references
    budget = Budget(row["ipc"], row["fraction"])
    return any(protocol in protocols_of(suite, each) for each in suite.named(row["method"], budget))


def _bench(name: str, row: Row, protocol: str, results: Sequence[Result]) -> str:
    suite, first, options = load_suite(name), results[0], list[str]()
    asked = [f"method={row['method']}"]
    if row["method"] not in LINES:
        key = "ipc" if row["fraction"] is None else "fraction"
        seeds = sorted({each.seed for each in results if each.seed is not None})
        asked += [f"{key}={row[key]}", *(f"seed={seed}" for seed in seeds)]
        asked += [f"protocol={protocol}"] if len(suite.protocols) > 1 else []
        options = _other_grid(suite, row, first, seeds)
    data = _data(first)
    if first.dataset in suite.datasets:
        asked += [f"dataset={first.dataset}"] if len(suite.datasets) > 1 else []
        data = data[2:]
    return _line("bench", name, "--only", ",".join(asked), *data, *options, *_networks(results, protocol))


def _other_grid(suite: Suite, row: Row, result: Result, seeds: Sequence[int]) -> list[str]:
    """Options for a preset and seeds that are not the suite's."""
    (method,) = suite.named(row["method"], Budget(row["ipc"], row["fraction"]))
    recipe = load_recipe(method if isinstance(method, str) else method.method)
    own = suite.preset if suite.preset in recipe.preset else PAPER
    preset = ["--preset", result.preset] if result.preset not in (None, own) else []
    strange = seeds if set(seeds) - set(suite.seeds) else []
    return [*preset, *(word for seed in strange for word in ("--seed", str(seed)))]


def _single(result: Result, protocol: str, results: Sequence[Result]) -> list[str]:
    """Of a set that no suite of the package makes."""
    labels = ["--labels", "hard"] if result.strict else []
    score = ["--protocol", protocol, *labels, *_networks(results, protocol)]
    if (known := _published(result)) is not None:
        sets = {each.set_sha256 for each in results if _published(each) == known}
        return [_line("download", known), _line("evaluate", known, *score, *(["--all-sets"] if len(sets) > 1 else []))]
    seed = "" if result.seed is None else f"-seed{result.seed}"
    method = result.method.rpartition(":")[2]
    budget = Budget(result.ipc, result.fraction)
    out = f"{method}-{result.dataset.rpartition(':')[0] or result.dataset}-{budget.slug}{seed}.safetensors"
    if result.origin is not None:
        space = ["--method", result.method, "--space", result.pixel_space]
        space += budget.option if result.fraction else []
        make = _line("import", *result.origin.files, *_data(result), *space, "--out", out)
    elif result.recipe is not None:
        numbered = ["--seed", str(result.seed)] if result.seed else []
        preset = ["--preset", result.preset] if result.preset else []
        asked = [*_data(result), *budget.option, *preset, *numbered, *_changed(result), "--out", out]
        make = _line("synthesize", result.method, *asked)
    else:
        return [_line("evaluate", out, *score)]
    return [make, _line("evaluate", out, *score)]


def _distinct(results: Sequence[Result]) -> list[Result]:
    """One result a registry's entry or a seed: the sets of one release go by one id."""
    return list({_published(each) or each.seed or each.set_sha256: each for each in results}.values())


def _changed(result: Result) -> list[str]:
    return [word for key, value in changed_fields(result).items() for word in ("--set", f"{key}={_toml(value)}")]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


def _data(result: Result) -> list[str]:
    words = ["--dataset", result.dataset]
    for name in _SUBJECT:
        if (value := getattr(result, name)) is not None:
            words += [f"--{name}", f"{value:g}"]
    if result.flip_invariant is False:
        words += ["--flip-invariant", "no"]
    return [*words, "--classes", as_words(result.classes)] if result.classes else words


def _networks(results: Sequence[Result], protocol: str) -> list[str]:
    try:
        usual = known_protocol(protocol).networks
    except UsageError:  # of one's own, or what a file says
        usual = None
    most = max(each.networks for each in results)
    return [] if most == usual else ["--networks", str(most)]


def _published(result: Result) -> str | None:
    """The id of the registry's set that a result is of, by its files' sums, or as the only one that can be meant."""
    if result.origin is None:
        return None
    sums = set(result.origin.files.values())
    alike = []
    for name, entry in _registry().items():
        if sums & {each.sha256 for each in entry.files}:
            return name
        if (entry.method, entry.dataset, entry.budget) == (result.method, result.dataset, result.budget):
            alike.append(name)
    return alike[0] if len(alike) == 1 else None


@cache
def _registry() -> dict[str, Entry]:
    return load_registry()


def _line(*words: str) -> str:
    return shlex.join(["distill-bench", *words])
