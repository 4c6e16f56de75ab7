"""One sandbox for all cases of a session, and its figures at the end."""

from collections.abc import Iterator

import makers
import pytest
from arena import Arena

TALLIES: list[Arena] = []


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    makers.released()
    for kind in makers.KINDS:
        makers.sound_set(kind)
    made = Arena(tmp_path_factory.mktemp("arena") / "sandbox")
    TALLIES.append(made)
    yield made
    made.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for made in TALLIES:
        terminalreporter.section("hostile files")
        for line in made.tally.lines():
            terminalreporter.line(line)
