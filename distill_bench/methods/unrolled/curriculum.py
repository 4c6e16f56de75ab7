"""Where the window of a training lies, and how long it is: uniform, at its end, or in stages.

The stages are those of AT-BPTT ("Beyond Random: Automatic Inner-loop Optimization in Dataset Distillation", NeurIPS
2025, arXiv 2510.04838). Once a pass over the real images a probe, a training of T steps on the synthetic ones, gives
the lengths n_t of its gradients and their changes c_t = |n_t − n_{t−1}|, c_0 = 0. In the first stage windows start
where gradients are long, in the second anywhere, in the third late; a stage ends when accuracy rises too little.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from distill_bench.methods.unrolled.config import UnrolledConfig


class Window(NamedTuple):
    """The steps ``start`` … ``start + length − 1`` of a training, counted from 0."""

    start: int
    length: int


class Progress(NamedTuple):
    """Through the stages.

    Attributes:
        stage: 1, 2 or 3.
        stalled: for how many passes in a row accuracy has risen by too little.
        accuracy: of the last pass, in percent; 0 before the first.
    """

    stage: int = 1
    stalled: int = 0
    accuracy: float = 0.0


def plain_window(config: UnrolledConfig, draws: Generator) -> Window:
    """The last W of T steps, or of s + W, s uniform from 0 to T − W."""
    latest = config.total - config.window
    start = latest if config.window_from == "end" else int(torch.randint(latest + 1, (), generator=draws))
    return Window(start, config.window)


def staged_window(config: UnrolledConfig, stage: int, norms: Float[Tensor, " t"], draws: Generator) -> Window:
    """A window of a stage, always within the T steps.

    Args:
        config: T, W, the spread d, and where late windows start.
        stage: 1: it starts at t drawn from softmax(n), and has W − d + ⌊2 d r / T⌋ steps, r the number of changes below
            c_t; 2: uniform, W + d steps; 3: W − d steps, starting at T − (W − d) − t, or at t from softmax(−n).
        norms: n_0 … n_{T−1}.
        draws: of t.

    Returns:
        The window.
    """
    total, window, spread = config.total, config.window, config.window_spread
    if stage == 2:
        return Window(int(torch.randint(total - window - spread + 1, (), generator=draws)), window + spread)
    away = stage == 3 and config.late_windows == "unlikely"
    chosen = int(torch.multinomial((-norms if away else norms).softmax(dim=0), 1, generator=draws))
    if stage == 3:
        latest = total - window + spread
        return Window(min(chosen, latest) if away else max(latest - chosen, 0), window - spread)
    changes = norms.diff(prepend=norms[:1]).abs()
    length = window - spread + 2 * spread * int((changes < changes[chosen]).sum()) // total
    return Window(min(chosen, total - length), length)


def after_pass(progress: Progress, accuracy: float, config: UnrolledConfig) -> Progress:
    """The progress after a pass over the real images on which accuracy was so many percent."""
    if progress.stage == 3:
        return progress._replace(accuracy=accuracy)
    gain, patience = config.stage_gains[progress.stage - 1], config.stage_patience[progress.stage - 1]
    stalled = progress.stalled + 1 if accuracy - progress.accuracy < gain else 0
    ended = stalled >= patience * config.total
    return Progress(progress.stage + ended, 0 if ended else stalled, accuracy)


class Stages:
    """The stages of a run.

    Args:
        config: of the windows.
        steps: outer steps of a pass over the real images.
        probe: from the number of an outer step to n_0 … n_{T−1}, on any device.
    """

    def __init__(self, config: UnrolledConfig, steps: int, probe: Callable[[int], Float[Tensor, " t"]]) -> None:
        self._config, self._steps, self._probe = config, steps, probe
        self._progress, self._norms = Progress(), torch.zeros(0)
        self._right: Tensor | int = 0
        self._seen = 0

    def window(self, step: int, draws: Generator) -> Window:
        """That of an outer step."""
        if step % self._steps == 0:
            if self._seen:
                self._progress = after_pass(self._progress, 100 * int(self._right) / self._seen, self._config)
            self._norms, self._right, self._seen = self._probe(step).cpu(), 0, 0
        return staged_window(self._config, self._progress.stage, self._norms, draws)

    def saw(self, right: Tensor, count: int) -> None:
        """That ``right`` of ``count`` real images were recognised at the end of a window."""
        self._right, self._seen = self._right + right, self._seen + count

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {**self._progress._asdict(), "norms": self._norms, "right": int(self._right), "seen": self._seen}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self._progress = Progress(**{name: state[name] for name in Progress._fields})
        self._norms, self._right, self._seen = state["norms"].cpu(), state["right"], state["seen"]
