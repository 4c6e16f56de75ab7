"""What the cache folder holds: kinds of files, their sizes, and which of them are not what was written."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from distill_bench.benchmark.results import read_results, stored_result
from distill_bench.hub.registry.cached_file import PIN
from distill_bench.hub.registry.published import intact_sets
from distill_bench.hub.registry.unpack import SUMS, is_unpacked
from distill_bench.runtime.files import UNFINISHED
from distill_bench.runtime.hashing import sha256_of
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.stored import BESIDE, Damaged, beside, is_unchanged, read_bytes, read_json


@dataclass(frozen=True)
class Kind:
    """A kind of what is kept.

    Attributes:
        name: of the kind.
        what: it is, in words.
        patterns: of its pieces, below the cache folder.
        intact: whether a piece is what was written; None: the piece carries no sum of ours.
        own: whether it is the user's, and is never cleared.
    """

    name: str
    what: str
    patterns: tuple[str, ...]
    intact: Callable[[Path], bool] | None = None
    own: bool = False


@dataclass(frozen=True)
class Piece:
    """A piece of a kind.

    Attributes:
        kind: its kind.
        path: its file or folder.
        files: all of its files.
    """

    kind: Kind
    path: Path
    files: tuple[Path, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its files."""
        return sum(file.stat().st_size for file in self.files if file.exists())

    @property
    def locks(self) -> tuple[Path, ...]:
        """Those that whoever makes it holds: beside it, or, of a suite's sets and of their checkpoints, in a folder."""
        return self.path.with_suffix(".lock"), cache_dir() / "store" / "locks" / f"{self.path.stem}.lock"

    @property
    def damaged(self) -> bool:
        """Whether it is not what was written."""
        return self.kind.intact is not None and not self.kind.intact(self.path)


def _summed(path: Path) -> bool:
    try:
        return is_unchanged(path) is True
    except OSError:
        return False


def _whole(path: Path) -> bool:
    return read_json(path, bound=True) is not None


def _ends_with_sum(path: Path) -> bool:
    try:
        read_bytes(path)
    except (OSError, Damaged):
        return False
    return True


def _fetched(path: Path) -> bool:
    """A download lies in a folder that is called as its sum begins, or beside the sum that it had at first."""
    pin, found = path.with_name(path.name + PIN), sha256_of(path)
    return found == pin.read_text(errors="replace").strip() if pin.exists() else found.startswith(path.parent.name)


def _named_by_sum(path: Path) -> bool:
    digits = re.search(r"-([0-9a-f]{8,})\.", path.name)
    return digits is not None and sha256_of(path).startswith(digits[1])


def _results(folder: Path) -> bool:
    wrong: list[str] = []
    read_results(folder, wrong=wrong)
    return not wrong


_SET = ".safetensors"
KINDS = (
    Kind("sets", "distilled sets, of synthesize and of suites", (f"store/sets/*{_SET}",), _summed),
    Kind("iterates", "sets as they were while they were made", (f"store/iterates/*/*{_SET}",), _summed),
    Kind("scores", "results by their address", ("store/scores/*.json",), lambda path: stored_result(path) is not None),
    Kind(
        "networks",
        "accuracies of single networks",
        ("store/networks/*/*.json", "store/verify/*/*/*.json"),
        _whole,
    ),
    Kind(
        "checkpoints",
        "unfinished work",
        (f"store/checkpoints/*{_SET}", f"checkpoints/*{_SET}", f"pretrained/*/unfinished/*{_SET}"),
        _ends_with_sum,
    ),
    Kind("pretrained", "teachers, encoders, experts and training dynamics", (f"pretrained/*/*{_SET}",), _summed),
    Kind(
        "teacher-scores",
        "test accuracies of teachers",
        ("pretrained/*/*.test.json",),
        _whole,
    ),
    Kind("weights", "torchvision's weights", ("pretrained/torchvision/*.pth",), _named_by_sum),
    Kind("whitening", "fitted whitenings", (f"zca/*{_SET}",), _summed),
    Kind("digests", "sums of image files", ("digests/*",), _ends_with_sum),
    Kind("downloads", "files of published sets", ("published/files/*/*",), _fetched),
    Kind("unpacked", "archives of published sets, unpacked", ("published/files/*/*.unpacked-*",), is_unpacked),
    Kind("published", "published sets, imported", ("published/sets/*",), lambda path: bool(intact_sets(path))),
    Kind("compiled", "code that torch compiled", ("compiled",)),
    Kind("huggingface", "tables of what hf: names", ("huggingface",)),
    Kind("results", "results of bench and evaluate, and boards", ("results",), _results, own=True),
    Kind("sources", "datasets", ("sources/*",), own=True),
)


def pieces() -> Iterator[Piece]:
    """Everything that the cache folder holds, by kind, in path order.

    Yields:
        Pieces; what is beside a file (its ``.run.json``, what a killed process left of writing it) belongs to it.
    """
    for kind in KINDS:
        for path in sorted({path for pattern in kind.patterns for path in cache_dir().glob(pattern)}):
            if _is_piece(kind, path):
                yield Piece(kind, path, tuple(_files(path)))


def _is_piece(kind: Kind, path: Path) -> bool:
    if path.name.endswith((".lock", UNFINISHED)):
        return False
    if kind.name in ("unpacked", "published"):
        return path.is_dir()
    own_name = not path.name.endswith((BESIDE, PIN, SUMS, ".part", ".copy", ".bad"))
    return path.is_dir() if kind.name == "compiled" else kind.own or (path.is_file() and own_name)


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (each for each in path.rglob("*") if each.is_file() and not each.is_symlink())
        path_sums = path.with_name(path.name + SUMS)
        yield from [path_sums] if path_sums.exists() else []
        return
    yield path
    more = (beside(path), path.with_name(path.name + UNFINISHED), path.with_name(path.name + PIN))
    yield from (each for each in more if each.exists())
