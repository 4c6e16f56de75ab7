"""synthesize: make a distilled set."""

from pathlib import Path
from typing import Annotated

import typer

from distill_bench.cli import options
from distill_bench.cli.output import notes_shown, show
from distill_bench.distilled.budget import Budget
from distill_bench.errors import UsageError
from distill_bench.evaluation import pixel_notes
from distill_bench.methods import Checkpoint, load_method, make_set, memory_of_step, synthesis_key
from distill_bench.methods.recipe import PAPER
from distill_bench.methods.warm_start import is_finished_set
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.files import check_no_input
from distill_bench.runtime.memory import set_memory_limit
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.run_info import code_state, peak_memory_mb, run_block
from distill_bench.runtime.stored import write_with_sum


def synthesize_command(
    dataset: options.DatasetName,
    out: Annotated[Path, typer.Option("--out", help="The .safetensors file to write.")],
    method: Annotated[str | None, typer.Argument(help="A method of `distill-bench list methods`.")] = None,
    ipc: options.Ipc = None,
    fraction: options.Fraction = None,
    own: Annotated[str | None, typer.Option("--method", help="A method of your own: module:function.")] = None,
    preset: options.Preset = PAPER,
    values: options.Values = None,
    seed: Annotated[int, typer.Option("--seed", help="Of everything random in synthesis.")] = 0,
    size: options.Size = None,
    holdout: options.Holdout = None,
    split: options.Split = None,
    flip_invariant: options.Flip = None,
    classes: options.Classes = None,
    device: options.Device = "auto",
    checkpoint_seconds: options.CheckpointSeconds = 30.0,
    memory_limit: options.MemoryLimit = None,
    quiet: options.Quiet = False,
) -> None:
    """Make a distilled set from a dataset's training split."""
    if (name := method or own) is None or (method is not None and own is not None):
        raise UsageError("name one method: distill-bench synthesize METHOD …, or --method module:function.")
    budget = Budget(ipc, fraction)
    set_memory_limit(memory_limit)
    options.check_out(out, options.paths_of(dataset))
    code_state()
    overrides, place = options.overrides(values), resolve_device(device)
    data = options.data_named(dataset, size, holdout, split, flip_invariant, classes)
    chosen = load_method(name)
    config = chosen.config_on(data, budget, preset, **overrides)
    if is_finished_set(init := getattr(config, "init", "")):
        check_no_input(out, [Path(init)])
    key = synthesis_key(data, chosen, config, budget, preset, seed)
    checkpoint = Checkpoint(cache_dir() / "checkpoints" / f"{key}.safetensors", checkpoint_seconds)
    monitor, history = options.listening_monitor(quiet), list[float]()
    if much := memory_of_step(chosen.name, data, config, max(budget.counts(data.class_sizes))):
        monitor.say(much)
    distilled = make_set(
        data, chosen, config, budget, preset, seed,
        device=device, monitor=monitor, checkpoint=checkpoint, history=history,
    )  # fmt: skip
    run = run_block(checkpoint.seconds, place) | {"compiled": checkpoint.compiled}
    facts = {"peak_memory_mb": peak_memory_mb(), **run, "history": history}
    write_with_sum(out, distilled.to_bytes(), facts)
    checkpoint.clear()
    show(f"{out}: {len(distilled.images)} images, {distilled.nbytes:,} bytes, {checkpoint.seconds:.0f} s")
    show(*notes_shown(pixel_notes(distilled, data)))
