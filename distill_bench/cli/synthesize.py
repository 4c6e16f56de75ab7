"""synthesize: make a distilled set."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill_bench.cli import options
from distill_bench.cli.choices import PAPER
from distill_bench.cli.output import notes_shown, show
from distill_bench.cli.settings import options_typed
from distill_bench.errors import UsageError
from distill_bench.runtime.files import check_no_input, write_atomically
from distill_bench.runtime.log import log
from distill_bench.runtime.memory import set_memory_limit
from distill_bench.runtime.stored import write_with_sum
from distill_bench.runtime.tracking import LOSSES, losses_csv, tracked

if TYPE_CHECKING:
    from distill_bench.methods.stored_sets import StoredSet


def synthesize_command(
    dataset: options.DatasetName,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.")],
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
    iterates: Annotated[
        int,
        typer.Option(
            "--iterates", min=0, help="Keep the set after each of so many equal parts of its steps too, beside --out."
        ),
    ] = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Make it anew, although the store of synthesize and bench has it.")
    ] = False,
    trackers: Annotated[
        list[str] | None,
        typer.Option(
            "--log",
            help="tensorboard or wandb: tell it every step's loss; repeatable. A .losses.csv is always written.",
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Make a distilled set from a dataset's training split."""
    from distill_bench.datasets import paths_of
    from distill_bench.distilled.budget import Budget
    from distill_bench.evaluation import pixel_notes
    from distill_bench.methods import load_method, memory_of_step
    from distill_bench.methods.finished_sets import finished_sets_of
    from distill_bench.methods.stored_sets import StoredSet
    from distill_bench.runtime.device import resolve_device
    from distill_bench.runtime.run_info import code_state

    both = method is not None and own is not None and "method" in options_typed(sys.argv[1:])  # not a setting
    if (name := method or own) is None or both:
        raise UsageError("name one method: distill-bench synthesize METHOD …, or --method module:function.")
    budget = Budget(ipc, fraction)
    set_memory_limit(memory_limit)
    options.check_out(out, paths_of(dataset))
    code_state()
    resolve_device(device)
    replaced = options.overrides(values)
    data = options.data_named(dataset, size, holdout, split, flip_invariant, classes)
    chosen = load_method(name)
    config = chosen.config_on(data, budget, preset, **replaced)
    log.info("%s, preset %s: %s", name, preset, config)
    check_no_input(out, [Path(path) for path in finished_sets_of(config)])
    wanted, monitor = StoredSet.of(data, chosen, config, budget, preset, seed), options.listening_monitor(quiet)
    most = max(budget.counts(data.class_sizes))
    if (fresh or not wanted.path.exists()) and (much := memory_of_step(chosen.name, data, config, most)):
        monitor.say(much)
    about = {"method": name, "dataset": data.name, "budget": str(budget), "preset": preset, "seed": seed}
    with tracked(trackers or (), out, about | config.model_dump(mode="json")) as told:
        how = {"device": device, "every_seconds": checkpoint_seconds, "own_process": True, "log": told}
        distilled, made = wanted.obtain(fresh, monitor, iterates=iterates, **how)
    facts = wanted.history()
    write_with_sum(out, distilled.to_bytes(), facts)
    if facts.get("history"):
        write_atomically(out.with_suffix(LOSSES), losses_csv(facts["history"]))
    else:
        out.with_suffix(LOSSES).unlink(missing_ok=True)  # of another set that was there
    spent = f"{facts.get('seconds', 0):.0f} s" + ("" if made else f", made {facts.get('finished', 'before')}")
    if needed := facts.get("pretraining_seconds"):
        spent += f"; pretraining of what it needs: {needed:.0f} s"
    show(f"{out}: {len(distilled.images)} images, {distilled.nbytes:,} bytes, {spent}")
    if iterates:
        show(*_write_iterates(wanted, out))
    if not made:
        monitor.say(*_about_stored(wanted.unlike(device)))
    show(*notes_shown(pixel_notes(distilled, data)))


def _write_iterates(stored: "StoredSet", out: Path) -> list[str]:
    """Write the set as it was while it was made beside the finished one. Returns a line for each file, or why none."""
    lines = []
    for steps, path in stored.iterates.items():
        file = out.with_name(f"{out.stem}.step-{steps}{out.suffix}")
        write_with_sum(file, path.read_bytes(), {})
        lines.append(f"{file}: after {steps:,} steps")
    none = "no iterates: the store has none of this set (--fresh makes them), or it is not learned as a whole"
    return lines or [none]


def _about_stored(unlike: Sequence[str]) -> list[str]:
    lines = ["it was in the store already, as synthesize or bench made it; --fresh makes it anew"]
    return lines + [f"it may differ in its last digits from one made here: {', '.join(unlike)}"] * bool(unlike)
