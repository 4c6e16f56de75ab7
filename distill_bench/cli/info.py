"""info: what a set's file holds."""

from distill_bench.cli.options import SetArgument, set_file
from distill_bench.cli.output import show_json
from distill_bench.distilled.distilled_set import load_distilled


def info_command(file: SetArgument) -> None:
    """Print what a set's file holds: its card, tensors and hash."""
    made = load_distilled(set_file(file))
    tensors = {name: [str(t.dtype).removeprefix("torch."), *t.shape] for name, t in made.tensors.items()}
    about = {"card": made.card.model_dump(mode="json"), "tensors": tensors, "bytes": made.nbytes, "sha256": made.sha256}
    show_json(about)
