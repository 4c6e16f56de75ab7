"""What teachers and experts share: what they depend on of the data, and training that stops and goes on."""

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from distill_bench.datasets.training_view import TrainingData
from distill_bench.errors import RunFailed
from distill_bench.networks import Network, build_network
from distill_bench.pretrained.recorder import Recorder
from distill_bench.pretrained.store import diverged
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.device import send
from distill_bench.runtime.progress import Monitor
from distill_bench.runtime.seeds import generator
from distill_bench.training import compilation
from distill_bench.training.train import Augment, GradientFn, Plan, TrainState, accuracy, table_batches, train

CHECKED_IMAGES = 2000
MOST_EPOCHS = 1_000_000


def ground_of(training: TrainingData) -> dict[str, Any]:
    """What of the data a trained network depends on."""
    return {
        "train": training.fingerprint,
        "classes": list(training.class_names),
        "pixel_space": training.pixel_space.model_dump(mode="json"),
        "flip_invariant": training.flip_invariant,
    }


def train_kept(
    training: TrainingData,
    name: str,
    plan: Plan,
    augment: Augment | None,
    seeds: tuple[object, ...],
    checkpoint: Checkpoint,
    monitor: Monitor,
    *,
    what: str,
    title: str,
    setting: str,
    note: str = "",
    gradient: GradientFn | None = None,
    recorder: Recorder | None = None,
) -> tuple[Network, dict[str, Any]]:
    """Train a network of a name on the training split, going on from the checkpoint.

    Args:
        training: the training split.
        name: of the network, in full.
        plan: how it is trained.
        augment: what is done to every batch.
        seeds: of its initial values and its training, what generators are derived from.
        checkpoint: where unfinished work is kept.
        monitor: hears of every epoch, and may ask to stop.
        what: is trained, for requests to stop, such as ``"a teacher"``.
        title: for progress and errors.
        setting: the hyper-parameter to lower where training diverges.
        note: what the note of every epoch begins with.
        gradient: as for ``train``.
        recorder: keeps rows of every epoch; none unless given.

    Returns:
        The network, and its facts: the accuracy on training images in percent, the epochs, every epoch's loss and the
        last, and whether its steps were compiled.

    Raises:
        RunFailed: training diverged.
        Interrupted: the monitor was asked to stop; a checkpoint was written.
    """
    recorder = recorder or Recorder()
    network = build_network(name, training.shape, len(training.class_names), generator(*seeds, "weights"))
    recorder.begin(network, plan.epochs)
    send(network, training.device)
    state, losses = TrainState(), list[float]()
    if (saved := checkpoint.load()) is not None:
        network.load_state_dict(saved["network"])
        state, losses = TrainState(**saved["training"]), saved.get("losses", losses)
        compiled = compilation.resume_mode(saved["compiled"])
        recorder.resume(saved)
    else:
        flops = compilation.training_flops(network, training.shape, plan.epochs * len(training))
        compiled = compilation.decide("auto" if recorder.compilable else "off", training.device, flops)
    with monitor.stage(title, plan.epochs, state.epoch) as stage:

        def unfinished() -> dict[str, Any]:
            values = {"network": network.state_dict(), "training": vars(state), "compiled": compiled, "losses": losses}
            return values | recorder.written()

        def after_epoch() -> None:
            losses.append(state.loss)
            recorder.after_epoch(network)
            stage.note(f"{note}loss {state.loss:.3g}")
            stage.advance()
            checkpoint.save_if_due(monitor, unfinished, f"{state.epoch} of {plan.epochs} epochs of {what} trained")

        batches = table_batches(training.images, send(training.labels, training.device), augment)
        inputs = (recorder.watched(network, batches), len(training), plan, generator(*seeds, "training"))
        try:
            train(network, *inputs, after_epoch, state, gradient, compiled=compiled)
        except RunFailed as error:
            raise diverged(title, error, checkpoint, setting) from error
    facts = {"accuracy": training_accuracy(network, training), "epochs": state.epoch, "compiled": compiled}
    return network, facts | {"loss": state.loss, "losses": losses}


def checked_images(training: TrainingData) -> Int64[Tensor, " n"]:
    """Indices of up to 2,000 training images, evenly spaced."""
    count = min(len(training), CHECKED_IMAGES)
    return torch.arange(count) * len(training) // count


def training_accuracy(network: nn.Module, training: TrainingData) -> float:
    """Percent right of up to 2,000 training images."""
    chosen = checked_images(training)
    return accuracy(network, lambda at: training.images(chosen[at]), send(training.labels[chosen], training.device))
