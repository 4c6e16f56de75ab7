"""The one outer loop of every optimised method: learnables, optimisers, progress, history, NaN guard, resume."""

import math
from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from distill_bench.distilled.pixel_diagnostics import largest_value
from distill_bench.errors import RunFailed, is_out_of_memory
from distill_bench.methods.run import Run, SynthesisResult

_LARGEST = {"labels": 1e4, "learning_rate": 1e2}
"""Of learned logits, weights and rates: nothing is learned beyond. Images have the bound of their pixel space."""
_EXPLODED = 1e6
"""Of a learnable that a method calls otherwise."""


class Objective(ABC):
    """What a method contributes: gradients of its loss. Randomness comes from ``run.generator(role, step)`` alone."""

    @abstractmethod
    def loss_and_grads(self, step: int) -> tuple[Float[Tensor, ""] | float, dict[str, Tensor]]:
        """The loss at a step and its gradient for each learnable, by name; those without one stay as they are.

        A loss that is a tensor is read together with what the learnables are checked for: the host waits once a step.
        """

    def check(self, ranges: dict[str, tuple[float, float]]) -> None:  # noqa: B027
        """Raise RunFailed if updated learnables are of no use; ``ranges`` has each one's least and greatest value."""

    def after_step(self, step: int) -> None:  # noqa: B027 (most methods have nothing to do here)
        """Called when the learnables have been updated."""

    def result(self) -> SynthesisResult | None:
        """The set as it is now; None of what is optimised for a part of one."""
        return None

    def state(self) -> dict[str, Any]:
        """What the next step needs besides the learnables: tensors, numbers and strings."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take back what ``state`` gave."""


def optimise(
    run: Run[Any],
    objective: Objective,
    learnables: dict[str, Tensor],
    optimizers: dict[str, Optimizer],
    steps: int,
) -> int:
    """Update ``learnables`` in place for ``steps`` steps, going on from the run's checkpoint if there is one.

    Args:
        run: whose checkpoint, monitor and history are used.
        objective: the method's loss and gradients.
        learnables: leaf tensors by name, on one device; a number may follow, as in ``images 2``.
        optimizers: for each of them.
        steps: in all, those before a resume included.

    Returns:
        How many steps were left to do.

    Raises:
        RunFailed: the loss or a learnable is no longer finite, a learnable has grown beyond any sense, or memory was
            not enough; with the step, the last checkpoint and which fields to lower.
        Interrupted: the monitor was asked to stop; a checkpoint was written.
    """
    first = last_saved = _resume(run, objective, learnables, optimizers)
    bounds = _LARGEST | {"images": largest_value(run.training.pixel_space)}
    with run.monitor.stage(f"{run.method}, ipc {run.ipc}, seed {run.seed}", steps, first) as stage:
        for step in range(first, steps):
            try:
                loss = _update(step, objective, learnables, optimizers, bounds)
                objective.after_step(step)
            except RunFailed as error:
                raise RunFailed(_account(run, step, steps, last_saved, error)) from error
            except (MemoryError, RuntimeError) as error:
                if is_out_of_memory(error):
                    raise run.out_of_memory(f"at step {step} of {steps}", error) from error
                raise
            run.history.append(loss)
            run.log(step, {f"{run.method}/loss": loss})
            stage.note(f"loss {loss:.4g}")
            stage.advance()
            run.keep(step + 1, steps, objective.result)
            state = partial(_state, run, objective, learnables, optimizers, step + 1)
            if run.checkpoint.save_if_due(run.monitor, state, f"{step + 1} of {steps} steps of {run.method} done"):
                last_saved = step + 1
    return steps - first


class _Diverged(RunFailed):
    """Numbers left all bounds: rates are too high."""


def _account(run: Run[Any], step: int, steps: int, last_saved: int, error: RunFailed) -> str:
    """What happened where, the last good state, and what to lower where the error itself does not say it."""
    good = (
        f"Its last checkpoint, after step {last_saved - 1}, is {run.checkpoint.path}."
        if last_saved
        else "It has no checkpoint."
    )
    lower = run.config.hint(run.config.lr_fields) or "its learning rates"
    advice = f" Lower {lower}, and start again." if isinstance(error, _Diverged) else ""
    return f"{run.method} at ipc {run.ipc}, seed {run.seed}, failed at step {step} of {steps}: {error} {good}{advice}"


def _update(
    step: int,
    objective: Objective,
    learnables: dict[str, Tensor],
    optimizers: dict[str, Optimizer],
    bounds: dict[str, float],
) -> float:
    loss, gradients = objective.loss_and_grads(step)
    for name, gradient in gradients.items():
        learnables[name].grad = gradient
        optimizers[name].step()
    value, ranges = _read(loss, learnables)
    if not math.isfinite(value):
        raise _Diverged(f"the loss is {value}.")
    broken = [name for name, edges in ranges.items() if not all(map(math.isfinite, edges))]
    if broken:
        raise _Diverged(f"{' and '.join(broken)} hold values that are not finite.")
    for name, (low, high) in ranges.items():
        if (largest := max(-low, high)) > (bound := bounds.get(name.split()[0], _EXPLODED)):
            raise _Diverged(f"{name} (up to {largest:.3g}) exploded: what means anything is within {bound:.3g}.")
    objective.check(ranges)
    return value


def _read(loss: Tensor | float, learnables: dict[str, Tensor]) -> tuple[float, dict[str, tuple[float, float]]]:
    """The loss, and each learnable's least and greatest value (NaN where it holds one): one wait for the device."""
    edges = [edge for tensor in learnables.values() for edge in tensor.detach().aminmax()]
    if isinstance(loss, Tensor):
        value, *ends = torch.stack([loss.detach(), *edges]).tolist()
    else:
        value, ends = loss, torch.stack(edges).tolist()
    return value, dict(zip(learnables, zip(ends[::2], ends[1::2], strict=True), strict=True))


def _state(
    run: Run[Any], objective: Objective, learnables: dict[str, Tensor], optimizers: dict[str, Optimizer], step: int
) -> dict[str, Any]:
    return {
        "step": step,
        "history": run.history,
        "learnables": learnables,
        "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
        "objective": objective.state(),
    }


def _resume(
    run: Run[Any], objective: Objective, learnables: dict[str, Tensor], optimizers: dict[str, Optimizer]
) -> int:
    saved = run.checkpoint.load()
    if saved is None:
        return 0
    with torch.no_grad():
        for name, tensor in saved["learnables"].items():
            learnables[name].copy_(tensor)
    for name, state in saved["optimizers"].items():
        optimizers[name].load_state_dict(state)
    objective.restore(saved["objective"])
    run.history[:] = saved["history"]
    return int(saved["step"])
