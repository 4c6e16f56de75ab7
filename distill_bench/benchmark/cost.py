"""How long the cells of a suite will take: the first steps of every stage timed on this machine, and remembered."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from distill_bench.benchmark.tasks import IMPOSSIBLE, CellWork
from distill_bench.evaluation import evaluation_seconds, load_protocol
from distill_bench.methods import synthesize
from distill_bench.runtime.files import read_json, write_atomically
from distill_bench.runtime.hashing import canonical_hash
from distill_bench.runtime.paths import home
from distill_bench.runtime.progress import Enough, Probe
from distill_bench.runtime.run_info import run_block

# a process for a cell: imports, and the source
START_SECONDS = 4.0


@dataclass(frozen=True)
class Timed:
    """Seconds that work takes, and the title of the stage that has to come first and is not among them, or ``""``."""

    seconds: float
    first: str = ""


class Calibration:
    """What stages take on this machine, kept in a file of the cache by what each depends on."""

    def __init__(self) -> None:
        self._path = home() / "calibration.json"
        self._known: dict[str, float] = read_json(self._path) or {}
        facts = run_block(0.0)
        self._machine = [facts[name] for name in ("cpu", "cores", "torch")]

    def time(self, stage: list[object], measure: Callable[[], Timed]) -> Timed:
        """What is known of a stage with these properties, or else measured now."""
        key = canonical_hash([*self._machine, torch.get_num_threads(), *stage])
        if key in self._known:
            return Timed(self._known[key])
        measured = measure()
        if not measured.first:  # once that is there, the rest can be timed
            self._known[key] = measured.seconds
            write_atomically(self._path, json.dumps(self._known, indent=1))
        return measured


def predict(works: Iterable[CellWork], calibration: Calibration) -> Iterator[tuple[CellWork, Timed]]:
    """For every cell the predicted seconds of what is missing, at torch's present number of threads.

    A method whose networks have to be trained on real data first is predicted without them and what comes after.
    """
    for work in works:
        yield work, Timed(0.0) if work.state() in ("done", IMPOSSIBLE) else _cell(work, calibration)


def _cell(work: CellWork, calibration: Calibration) -> Timed:
    made = _synthesis(work, calibration)
    scores = sum(_score_seconds(work, protocol, calibration) for protocol in work.cell.protocols)
    return Timed(START_SECONDS + made.seconds + scores, made.first)


def _synthesis(work: CellWork, calibration: Calibration) -> Timed:
    cell, dataset = work.cell, work.dataset
    if cell.ipc is None or work.set_path.exists():
        return Timed(0.0)
    ipc = cell.ipc

    def measure() -> Timed:
        probe = Probe(own=cell.method)
        with contextlib.suppress(Enough):
            synthesize(dataset, cell.method, ipc, work.preset, cell.seed, device=work.setting.device, monitor=probe)
        return Timed(probe.seconds, probe.first)

    stage = ["synthesis", dataset.name, dataset.train.shape, len(dataset.class_names), cell.method, work.method.code]
    return calibration.time([*stage, ipc, work.config.model_dump(mode="json"), work.setting.device], measure)


def _score_seconds(work: CellWork, protocol: str, calibration: Calibration) -> float:
    dataset, device = work.dataset, work.setting.device
    networks = work.setting.networks or load_protocol(protocol).networks
    compiled = work.runs_compiled(protocol)

    def measure() -> Timed:
        return Timed(evaluation_seconds(dataset, protocol, work.images, networks, compiled, device=device))

    stage = ["evaluation", dataset.name, dataset.train.shape, len(dataset.class_names), len(dataset.test)]
    return calibration.time([*stage, protocol, work.images, networks, compiled, device], measure).seconds
