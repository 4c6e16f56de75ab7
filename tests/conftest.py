"""A cache of the tests' own, no network, one thread; and the digits."""

import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import forking
import pytest
from checked_shapes import FOLDERS, check_shapes  # before the package

if TYPE_CHECKING:  # the process that hands out tests to others needs no torch
    from distill_bench import Dataset


def pytest_configure(config: pytest.Config) -> None:
    """One server of forks for all processes of the tests."""
    if not hasattr(config, "workerinput"):
        config.add_cleanup(forking.start())


@pytest.fixture(scope="session")
def forked_python() -> str:
    """A Python that starts at once, with the package imported: for ``-c`` and ``-m``, see tests/shared/forking.py."""
    return os.environ[forking.VARIABLE]


@pytest.fixture(scope="session", autouse=True)
def _apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from, or left in, the user's cache; sums come out the same on every machine."""
    import torch

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_BENCH_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("DISTILL_BENCH_OFFLINE", "1")
        config = tmp_path_factory.mktemp("config") / "config.toml"
        config.touch()
        patch.setenv("DISTILL_BENCH_CONFIG", str(config))
        patch.delenv("DISTILL_BENCH_REGISTRY", raising=False)
        yield


@pytest.fixture(autouse=True)
def _shapes(request: pytest.FixtureRequest) -> None:
    """Functions check their tensors in the tests of tensors, but where a test says that others do it for it."""
    check_shapes(request.path.parent.name in FOLDERS and request.node.get_closest_marker("unchecked") is None)


@pytest.fixture(scope="session")
def digits() -> "Dataset":
    from distill_bench import load_dataset

    return load_dataset("digits")


@pytest.fixture
def global_rng_untouched() -> Iterator[None]:
    """Fails the test that moves, or reseeds, torch's global generator."""
    import torch

    torch.manual_seed(12345)
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before), "torch's global generator was used"


@pytest.fixture
def command(capsys, monkeypatch):
    """Run the command in this process: (exit code, standard output, standard error)."""
    from distill_bench import cli
    from distill_bench.runtime.memory import VARIABLE

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["distill-bench", *map(str, arguments)])
        limit = os.environ.get(VARIABLE)  # which `--memory-limit` sets for the processes of a run
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        with pytest.raises(SystemExit) as stop:
            cli.main()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.pop(VARIABLE, None)
        os.environ.update({} if limit is None else {VARIABLE: limit})
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return run
