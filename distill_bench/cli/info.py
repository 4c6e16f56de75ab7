"""info: what a set's file holds."""

from distill_bench.cli import options
from distill_bench.cli.output import show_json
from distill_bench.distilled.distilled_set import load_distilled


def info_command(file: options.SetName) -> None:
    """Print what a set's file holds: its card, tensors and hash."""
    distilled = load_distilled(options.set_file(file))
    tensors = {name: [str(t.dtype).removeprefix("torch."), *t.shape] for name, t in distilled.tensors.items()}
    about = {
        "card": distilled.card.model_dump(mode="json"),
        "tensors": tensors,
        "bytes": distilled.nbytes,
        "sha256": distilled.sha256,
    }
    show_json(about)
