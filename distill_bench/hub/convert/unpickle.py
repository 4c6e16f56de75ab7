"""Reading the .pt files that authors released, without ever running what a pickle asks for.

torch's weights-only unpickler rebuilds tensors and plain containers and refuses every other name. Released files hold
accuracies as NumPy scalars; the names that those need are bound here to functions of our own, so that no code of NumPy
runs either.
"""

import mmap
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_bench.errors import DataError, brief
from distill_bench.runtime.files import check_regular

_MOST_NESTED = 32
_MOST_REPEATED = 4
"""How many times larger than its file what a file refers to may be."""
_REPEATED_ANYWAY = 2**20
REFUSED = re.compile(r"GLOBAL (\S+) was not an allowed global")
CLAIMING = b"bytearray\n"
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


class _TensorList(list[Any]):
    """What ``torch.utils.data.TensorDataset`` becomes: a list of its tensors."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.extend(state["tensors"])


_ALLOWED: list[Any] = [
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    (_FloatType, "numpy.dtype"),
    (_encode, "_codecs.encode"),
    (_TensorList, "torch.utils.data.dataset.TensorDataset"),
]
"""The names of other packages that a file may mention, each with what it means here."""


def load_pickled(path: Path, example: str = "[images, labels]") -> Any:
    """The content of a file that ``torch.save`` wrote: tensors, numbers, text, and lists and dictionaries of them.

    Args:
        path: of the file.
        example: what such a file should hold, as the argument of ``torch.save`` that a refusal advises.

    Returns:
        The content; nothing else in the file is executed.

    Raises:
        DataError: the file is missing, damaged, claims more than it holds, or mentions a name that is not allowed;
            that name is in the message, and nothing of it was run.
    """
    try:
        check_regular(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}.") from error
    _check_archive(path)
    _check_claims(path)
    try:
        with torch.serialization.safe_globals(_ALLOWED), warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except Exception as error:  # damaged files raise errors of many types
        raise DataError(f"{path}: {_reason(path, error, example)}") from error
    _check_extent(content, path)
    return content


def _check_archive(path: Path) -> None:
    """torch.save stores its records as they are, each once; a compressed or shared one may unfold to any size."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"{path}: a damaged archive ({brief(error)}). Download it again.") from error
    packed = [item.filename for item in records if item.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise DataError(f"{path}: its record {packed[0]} is compressed, which torch.save never does. It was not read.")
    if sum(item.file_size for item in records) > path.stat().st_size:
        raise DataError(f"{path}: its records claim to be larger than the file, or lie over one another. Not read.")


def _check_claims(path: Path) -> None:
    """For this name the weights-only unpickler fills as many bytes as a file asks for. It has no other spelling."""
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(CLAIMING) >= 0:
                raise DataError(f"{path}: it asks for bytearray, which no distilled set needs. Nothing was read.")


def _check_extent(content: Any, path: Path) -> None:
    """A small file may refer to one thing so often that going through it takes forever, or copies fill the memory.

    Raises:
        DataError: it does, or is nested without end, or holds a tensor that is not fully there.
    """
    known: dict[int, int] = {}

    def extent(item: Any, depth: int) -> int:
        if isinstance(item, Tensor):
            return _tensor_extent(item, path)
        if not isinstance(item, (dict, list, tuple, set)):
            return 1
        if depth > _MOST_NESTED:
            raise DataError(
                f"{path}: lists in lists, {_MOST_NESTED} deep or without end. No distilled set is. Not read."
            )
        if id(item) not in known:
            parts = [*item.keys(), *item.values()] if isinstance(item, dict) else item
            known[id(item)] = 1 + sum(extent(part, depth + 1) for part in parts)
        return known[id(item)]

    if extent(content, 0) > _MOST_REPEATED * path.stat().st_size + _REPEATED_ANYWAY:
        raise DataError(f"{path}: refers to the same content again and again, more than it holds. Not read.")


def _tensor_extent(tensor: Tensor, path: Path) -> int:
    """Its bytes. It may claim to be larger than its storage by repeating it; those of distilled sets do not."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
    if not plain or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_nested or tensor.is_complex():
        raise DataError(
            f"{path}: holds {_kind(tensor)} of shape {tuple(tensor.shape)}; only plain ones of real numbers are read."
        )
    size = tensor.numel() * tensor.element_size()
    if size > tensor.untyped_storage().nbytes():
        raise DataError(f"{path}: holds a tensor of shape {tuple(tensor.shape)} that is not fully there. Not read.")
    return size


def _kind(tensor: Tensor) -> str:
    kind = (
        "quantized" if tensor.is_quantized else str(tensor.layout if tensor.layout != torch.strided else tensor.dtype)
    )
    return f"a {tensor.device.type} tensor ({kind.removeprefix('torch.')})"


def _reason(path: Path, error: Exception, example: str) -> str:
    again = (
        f"Nothing was run and nothing read. If you trust the file, save its tensors again: torch.save({example}, FILE)."
    )
    if refused := _refused_names(path, error):
        return f"it asks for {', '.join(refused)}, not on the list of harmless names. {again}"
    text = " ".join(str(error).partition("WeightsUnpickler error:")[2].split()) or str(error) or type(error).__name__
    if text.startswith("Unsupported operand"):
        return f"its pickle protocol is not 2, which torch.save uses and which alone is read. {again}"
    return f"not a file that torch.save wrote, or damaged ({text[:120]})."


def _refused_names(path: Path, error: Exception) -> list[str]:
    """The functions and classes that a file asks for and that are not allowed: all, or else that of torch's error."""
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # of torch's older format, or damaged
        return REFUSED.findall(str(error))
