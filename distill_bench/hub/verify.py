"""A claimed result put to the test: the same evaluation once more, and whether its outcome is the claimed one."""

import os
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.budget import Budget
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import DataError, UsageError
from distill_bench.evaluation import Result, data_facts, evaluate, known_protocol, score_key
from distill_bench.evaluation.claim import WIDEST
from distill_bench.evaluation.statistics import chance_margin
from distill_bench.hub.formats.result_file import check_facts
from distill_bench.networks import check_network, is_outside
from distill_bench.runtime.hashing import canonical_hash
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.progress import SILENT, Monitor
from distill_bench.runtime.run_info import run_block

CONFIDENCE = 0.99
_MACHINE = ("torch", "numpy", "system", "cpu", "instructions")
DECIDES_DIGITS = (*_MACHINE, "device", "threads", "compiled")
"""What two runs must have in common to give the same digits."""

Basis = Literal["equal", "unequal", "chance", "undecided"]


class Verdict(BaseModel):
    """Whether a claimed result holds.

    Attributes:
        holds: whether it does.
        basis: ``equal``: every network has the claimed accuracy, digit by digit. ``unequal``: one has not, although
            everything that decides the digits is as it was. ``chance``: the versions or the machine differ, so the
            means are compared. ``undecided``: these lie apart no further than chance explains, but that would be more
            than ``WIDEST``.
        claimed, measured: mean accuracies in percent, over all networks of the claim and of this evaluation.
        difference: measured minus claimed, in points.
        margin: what chance explains of it, see ``chance_margin``; None with one network on either side.
        notes: what makes the measured accuracy untrustworthy, see ``Result``.
        unlike: what of the recorded run is otherwise here, or not recorded: see ``DECIDES_DIGITS``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    holds: bool
    basis: Basis
    claimed: float
    measured: float
    difference: float
    margin: float | None
    claimed_accuracies: tuple[float, ...]
    accuracies: tuple[float, ...]
    unlike: tuple[str, ...]
    notes: tuple[str, ...] = ()
    method: str
    dataset: str
    ipc: int | None
    fraction: float | None = None
    protocol: str
    network: str
    labels: str
    set_sha256: str | None

    @property
    def budget(self) -> str:
        """As ``Result.budget``."""
        return "" if self.set_sha256 is None else str(Budget(self.ipc, self.fraction))


def verify(
    distilled: DistilledSet,
    claimed: Result,
    data: Dataset,
    networks: int | None = None,
    *,
    path: Path = Path("the result"),
    device: str = "auto",
    monitor: Monitor = SILENT,
    allow_leak: bool = False,
) -> Verdict:
    """Evaluate a set as a result says it was, with the same seeds, and compare the accuracies.

    Args:
        distilled: the set.
        claimed: a result of this very set, see ``check_belongs``.
        data: where it was tested.
        networks: how many, instead of as many as the claim has.
        path: of the result, for messages.
        device: as for ``evaluate``.
        monitor: hears of progress, and may ask to stop.
        allow_leak: as for ``evaluate``.

    Returns:
        The verdict, with both accuracies.

    Raises:
        UsageError: the set was made from the test images, and that is not allowed.
        DataError: the result was found on other data, or with what this version does not know.
        Interrupted: the monitor was asked to stop; the networks tested are kept for the next call.
    """
    labels = _check_setting(distilled, claimed, data, path)
    key = score_key(data, claimed.protocol, distilled, labels, claimed.network)
    # a cache of its own: what evaluate has cached may be the claim itself
    cache = cache_dir() / "store" / "verify" / canonical_hash([key, claimed.accuracies])
    recorded = claimed.run.get("compiled")
    measured = evaluate(
        distilled,
        data,
        claimed.protocol,
        claimed.network,
        networks or claimed.networks,
        labels,
        device=device,
        compile="auto" if recorded is None else "on" if recorded else "off",
        monitor=monitor,
        cache=cache,
        allow_leak=allow_leak,
    )
    verdict = judge(claimed, measured, unlike(claimed, measured.run, key))
    shutil.rmtree(cache, ignore_errors=True)
    return verdict


def judge(claimed: Result, measured: Result, different: tuple[str, ...] = ()) -> Verdict:
    """Whether a claim holds, given what was measured now.

    Args:
        claimed: the result that is checked.
        measured: the result of this machine.
        different: which of the circumstances differ, in words.

    Returns:
        The verdict.
    """
    shared = min(claimed.networks, measured.networks)
    difference = measured.accuracy - claimed.accuracy
    margin = chance_margin(claimed.accuracies, measured.accuracies, CONFIDENCE)
    basis: Basis = "unequal"
    if claimed.accuracies[:shared] == measured.accuracies[:shared]:
        basis, holds = "equal", True
    elif not different:
        holds = False
    else:
        within = margin is None or abs(difference) <= margin
        basis = "undecided" if within and (margin is None or margin > WIDEST) else "chance"
        holds = within and basis == "chance"
    return Verdict(
        holds=holds,
        basis=basis,
        claimed=claimed.accuracy,
        measured=measured.accuracy,
        difference=difference,
        margin=margin,
        claimed_accuracies=claimed.accuracies,
        accuracies=measured.accuracies,
        unlike=different,
        notes=measured.notes,
        dataset=claimed.data,
        **claimed.model_dump(include={"method", "ipc", "fraction", "protocol", "network", "labels", "set_sha256"}),
    )


def unlike(claimed: Result, here: dict[str, Any], key: str) -> tuple[str, ...]:
    """What decides the digits and differs from a claim's run, or is not known of it."""
    different = [name for name in DECIDES_DIGITS if name not in claimed.run or claimed.run[name] != here[name]]
    if here["device"] != "cpu" and "device" not in different:
        different.append("device")  # sums on accelerators have no fixed order
    if (claimed.score_key or "").rsplit("-", 1)[0] != key:
        different.append("score_key")  # has the version of the evaluator
    return tuple(different)


def threads_to_repeat(claimed: Result) -> int | None:
    """The number of threads a claim was found with; None if this machine would not give the same digits anyway."""
    run, here = claimed.run, run_block(0.0)
    threads = run.get("threads")
    known = all(run.get(name, here[name]) == here[name] for name in _MACHINE)
    return threads if known and isinstance(threads, int) and 1 <= threads <= (os.cpu_count() or 1) else None


def _check_setting(distilled: DistilledSet, claimed: Result, data: Dataset, path: Path) -> Literal["stored", "hard"]:
    """Which labels were used; raises DataError unless data, network and learning rate are those of the result."""
    try:
        rules = known_protocol(claimed.protocol).for_dataset(data.name)
        if is_outside(claimed.network):  # what a file names is never imported
            raise UsageError(f"{claimed.network} is no network of this project.")
        network = check_network(claimed.network, data.train.shape)
    except UsageError as error:
        raise DataError(f"{path}: {error}") from error
    card = distilled.card
    rate, kind = (None, "hard") if claimed.strict else (distilled.learning_rate, card.trained_kind)
    plan = rules.plan(len(distilled.images), rate, classes=len(card.class_names))
    soft = dict.fromkeys(("logits", "probabilities", "weights"), "soft")
    uses = ({"hard": "hard", "projector": "projector", "targets": "targets"} | soft).get(kind, "teacher")
    facts = {
        "the training images' fingerprint": (claimed.train_fingerprint, data.train.fingerprint),
        "the test images' fingerprint": (claimed.test_fingerprint, data.test.fingerprint),
        "size": (claimed.size, data.size),
        "holdout": (claimed.holdout, data.holdout),
        "flip_invariant": (claimed.flip_invariant, data_facts(data)["flip_invariant"]),
    }
    check_facts(facts, path, f"the data of {data.name} here")
    facts = {
        "network": (claimed.network, network),
        "labels": (claimed.labels, uses),
        "learning_rate": (claimed.learning_rate, plan.learning_rate),
    }
    check_facts(facts, path, f"the set under {claimed.protocol}")
    return "hard" if claimed.strict else "stored"
