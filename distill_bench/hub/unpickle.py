"""Reading the .pt files that authors released, without ever running what a pickle asks for.

torch's weights-only unpickler rebuilds tensors and plain containers and refuses every other name. Released files hold
accuracies as NumPy scalars; the names that those need are bound here to functions of our own, so that no code of NumPy
runs either.
"""

import io
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_bench.errors import DataError

MOST_PICKLE = 2**24
FLOATS = {"f8": "<d", "f4": "<f"}


class _FloatType:
    """What ``numpy.dtype("f8")`` becomes: the width of a little-endian float, and nothing else."""

    def __init__(self, name: str, align: bool = False, copy: bool = False) -> None:
        if name not in FLOATS:
            raise ValueError(f"a NumPy scalar of type {name!r}; only {' and '.join(FLOATS)} are read")
        self.format = FLOATS[name]

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", "|", "="):
            raise ValueError(f"a NumPy scalar of byte order {state[1]!r}; only little-endian ones are read")


def _scalar(kind: _FloatType, data: bytes) -> float:
    """What ``numpy.core.multiarray.scalar`` becomes: the number as a Python float."""
    return float(struct.unpack(kind.format, data)[0])


def _encode(text: str, encoding: str) -> bytes:
    """What ``_codecs.encode`` becomes: bytes that pickle protocol 2 wrote as text."""
    if encoding != "latin1":
        raise ValueError(f"bytes encoded as {encoding!r}; only latin1 is read")
    return text.encode("latin1")


ALLOWED: list[Any] = [
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    (_FloatType, "numpy.dtype"),
    (_encode, "_codecs.encode"),
]
"""The names of other packages that a file may mention, each with what it means here."""


def load_pickled(path: Path) -> Any:
    """The content of a file that ``torch.save`` wrote: tensors, numbers, text, and lists and dictionaries of them.

    Raises:
        DataError: the file is missing, damaged, claims more than it holds, or mentions a name that is not allowed;
            that name is in the message, and nothing of it was run.
    """
    _check_archive(path)
    try:
        with torch.serialization.safe_globals(ALLOWED), warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except Exception as error:  # damaged files raise errors of many types
        raise DataError(f"{path}: {_reason(path, error)}") from error
    for tensor in _tensors(content):
        _check_extent(tensor, path)
    return content


def _check_archive(path: Path) -> None:
    """torch.save stores its records as they are; a compressed one may unfold to any size."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [item.filename for item in archive.infolist() if item.compress_type != zipfile.ZIP_STORED]
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: a damaged archive ({error}). Download it again.") from error
    if packed:
        raise DataError(f"{path}: its record {packed[0]} is compressed, which torch.save never does. It was not read.")


def _check_extent(tensor: Tensor, path: Path) -> None:
    """A tensor may claim to be larger than its storage by repeating it; files of distilled sets do not."""
    if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise DataError(f"{path}: holds a tensor of shape {tuple(tensor.shape)} that is not fully there. Not read.")


def _tensors(content: Any) -> list[Tensor]:
    if isinstance(content, Tensor):
        return [content]
    if isinstance(content, dict):
        content = list(content.values())
    return [tensor for item in content for tensor in _tensors(item)] if isinstance(content, (list, tuple)) else []


def _reason(path: Path, error: Exception) -> str:
    known = {name for _, name in ALLOWED} | {"collections.OrderedDict"}
    asked = [name for name in mentioned_names(path) if name not in known and not name.startswith("torch.")]
    if asked:
        return (
            f"it asks for {', '.join(asked)}, not on the list of harmless names. Nothing was run and nothing read. "
            "Where you trust the file, save its tensors again: torch.save([images, labels], FILE)."
        )
    text = " ".join(str(error).partition("WeightsUnpickler error:")[2].split()) or str(error) or type(error).__name__
    return f"not a file that torch.save wrote, or damaged ({text[:120]})."


def mentioned_names(path: Path) -> list[str]:
    """The functions and classes that a pickle mentions, read from its opcodes without following any of them."""
    names: list[str] = []
    try:
        stream = io.BytesIO(_pickle_in(path))
        while stream.tell() < len(stream.getbuffer()):  # the older format is several pickles in a row
            for name in _names_in_one(stream):
                names.append(name)
    except Exception:  # past the pickles, or damaged: what was found until then counts
        pass
    return list(dict.fromkeys(names))


def _names_in_one(stream: io.BytesIO) -> Iterator[str]:
    texts: list[str] = []
    memo: dict[Any, str] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name == "GLOBAL":
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif opcode.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if opcode.name == "MEMOIZE" else argument] = texts[-1] if texts else ""
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            texts.append(memo.get(argument, ""))
        elif isinstance(argument, str):
            texts.append(argument)


def _pickle_in(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return file.read(MOST_PICKLE)
    with zipfile.ZipFile(path) as archive:
        record = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        with archive.open(record) as file:
            return file.read(MOST_PICKLE)
