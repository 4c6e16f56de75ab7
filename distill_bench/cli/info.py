"""info: what a set's file holds."""

from distill_bench.cli import options
from distill_bench.cli.output import show_json
from distill_bench.runtime.hashing import sha256_of
from distill_bench.runtime.stored import is_unchanged

_CONTENT = {
    True: "unchanged since it was made",
    False: "changed since it was made: its sha256 is not the one in the .run.json beside it",
    None: "not known to be unchanged: no .run.json beside it has its sum",
}


def info_command(file: options.SetName) -> None:
    """Print what a set's file holds: its card, tensors and hash."""
    from distill_bench.distilled.distilled_set import load_distilled

    path = options.set_file(file)
    distilled = load_distilled(path, allow_changed=True)
    tensors = {name: [str(t.dtype).removeprefix("torch."), *t.shape] for name, t in distilled.tensors.items()}
    about = {
        "card": distilled.card.model_dump(mode="json"),
        "tensors": tensors,
        "bytes": distilled.nbytes,
        "sha256": distilled.sha256,
        **({"file_sha256": written} if (written := sha256_of(path)) != distilled.sha256 else {}),
        "content": _CONTENT[is_unchanged(path)],
    }
    show_json(about)
