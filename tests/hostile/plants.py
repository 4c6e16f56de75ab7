"""Defects to plant in the command's process, so that the harness is seen to find each of them."""

from pathlib import Path
from typing import Any


def unpickler_follows_everything() -> None:
    """Released files are unpickled by pickle itself."""
    import torch

    from distill_bench.hub.convert import released_file as released
    from distill_bench.hub.formats import replay_buffer

    def load(path: Path, *_: str) -> Any:
        return torch.load(path, map_location="cpu", weights_only=False)

    released.load_pickled = replay_buffer.load_pickled = load  # type: ignore[attr-defined]


def compressed_records_unfold() -> None:
    """Nothing is asked of an archive before it is read."""
    from distill_bench.hub.convert import unpickle

    unpickle._check_archive = lambda path: None


def archives_unfold() -> None:
    """NumPy archives may unfold to any size."""
    from distill_bench.datasets import npz

    npz.check_unfolded = lambda path: None


def pictures_are_any_size() -> None:
    """The pixels of a picture are not counted."""
    from PIL import Image

    from distill_bench.datasets import picture

    Image.MAX_IMAGE_PIXELS = None
    picture.MAX_PIXELS = 10**12


def sets_are_not_checked() -> None:
    """A set may hold anything."""
    from distill_bench.distilled import distilled_set

    distilled_set.check = lambda distilled: None


def cards_take_any_key() -> None:
    """Unknown keys of a card are passed over."""
    from distill_bench.distilled.card import Card

    Card.model_config["extra"] = "ignore"
    Card.model_rebuild(force=True)


def errors_escape() -> None:
    """A damaged file's error is none of the documented ones."""
    from distill_bench.cli import commands
    from distill_bench.errors import DataError

    DataError.exit_code = 2
    commands.DistillBenchError = ZeroDivisionError  # type: ignore[misc, assignment]


def outputs_are_written_first() -> None:
    """A set made before is overwritten whether or not the import succeeds."""
    from distill_bench.cli import options

    check = options.check_out

    def overwrite(out: Path, *inputs: Any) -> None:
        check(out, *inputs)
        out.write_bytes(b"")

    options.check_out = overwrite


def labels_make_classes() -> None:
    """As many classes as the highest label says."""
    from distill_bench.datasets import npz

    def classes(labels: Any, where: str) -> tuple[str, ...]:
        return tuple(str(k) for k in range(max(int(each.max()) for each in labels) + 1))

    npz.numbered_classes = classes


def content_is_followed_without_end() -> None:
    """Lists in lists are gone through, however often they come again."""
    from distill_bench.hub.convert import unpickle

    def walk(content: Any, path: Path) -> None:
        if isinstance(content, (list, tuple)):
            for item in content:
                walk(item, path)
        if isinstance(content, dict):
            walk(list(content.values()), path)

    unpickle._check_extent = walk  # type: ignore[assignment]
