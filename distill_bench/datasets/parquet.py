"""Parquet files in Hugging Face's layout: a column of encoded images, a column of labels, class names in the schema."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from jaxtyping import Int64
from torch import Tensor

from distill_bench.datasets.classes import numbered_classes
from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.decode import Shape, UndecodedSplit, decoded_source
from distill_bench.datasets.npz import MOST_UNFOLDED, UNFOLDED_ANYWAY
from distill_bench.datasets.picture import EncodedImage
from distill_bench.errors import DataError, brief
from distill_bench.runtime.files import check_regular
from distill_bench.runtime.log import log
from distill_bench.runtime.text import counted, listed

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "fine_label")
_TEST_SPLITS = ("test", "validation", "valid", "val")
_BATCH_ROWS = 256
"""Rows held encoded at a time; a whole split of photographs would not fit."""
_BATCH_BYTES = 2**26
"""What rows held together may take, were each as large as the largest column of a row group."""
_ROWS_ANYWAY, _LEAST_IMAGE = 2**16, 16
"""Rows that any file may have, and bytes of it for each one more: no encoded image is smaller."""


def parquet_dataset(name: str, path: Path, size: int | None = None, shape: Shape | None = None) -> Dataset:
    """A dataset of one .parquet file (training only), or of a folder's train and test files.

    Raises:
        DataError: there is no training file, a file is not such a parquet file, or class names disagree.
    """
    train, test = split_files(path)
    if not train:
        raise DataError(
            f"{path} has no train.parquet or train-*.parquet (nor has its data/ folder). "
            "Give a folder with those, or one .parquet file."
        )
    others = sorted({*train[0].parent.glob("*.parquet")} - {*train, *test}) if os.path.isdir(path) else []
    if others:
        log.warning("%s: left out %s: %s.", path, counted(len(others), "file"), listed([each.name for each in others]))
    class_names = _class_names_of(train, test)
    return decoded_source(
        name,
        class_names,
        lambda: _read_files(train, class_names),
        (lambda: _read_files(test, class_names)) if test else None,
        size,
        shape,
    )


def split_files(path: Path) -> tuple[list[Path], list[Path]]:
    """The files of the training and of the test split, in order; empty lists if there are none.

    Raises:
        DataError: a numbered shard is missing.
    """
    if os.path.isfile(path):
        return [path], []
    for folder in (path, path / "data"):
        if train := _shards(folder, "train"):
            return train, next((paths for split in _TEST_SPLITS if (paths := _shards(folder, split))), [])
    return [], []


def _shards(folder: Path, split: str) -> list[Path]:
    if os.path.isfile(folder / f"{split}.parquet"):
        return [folder / f"{split}.parquet"]
    paths = sorted(folder.glob(f"{split}-*.parquet"))
    total = re.search(r"-of-(\d+)", paths[0].name) if paths else None
    if total and int(total[1]) != len(paths):
        raise DataError(
            f"{folder} has {len(paths)} of the {int(total[1])} files that {paths[0].name} is one of. Add the others."
        )
    return paths


def _class_names_of(train: Sequence[Path], test: Sequence[Path] = ()) -> tuple[str, ...]:
    """The names in the files' schemas, or the labels themselves ("0", "1", …) where no file has names.

    Raises:
        DataError: two files disagree.
    """
    files = [*train, *test]
    names = {path: _schema_class_names(path) for path in files}
    for path in files[1:]:
        if names[path] != names[files[0]]:
            raise DataError(
                f"{path} has other class names than {files[0]}: the files of a dataset name the same classes in the "
                "same order. Write both again from one dataset."
            )
    if known := names[files[0]]:
        return known
    labels = [torch.cat([read_labels(path) for path in split]) for split in (train, test) if split]
    return numbered_classes(labels, str(train[0]))


def _schema_class_names(path: Path) -> tuple[str, ...] | None:
    """``info.features.<label>.names`` of the metadata that Hugging Face's ``datasets`` writes, if it is there."""
    with _parquet_file(path) as file:
        schema = file.schema_arrow
        column = _find_column(schema, _LABEL_COLUMNS, path)
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None


def _read_files(files: Sequence[Path], class_names: Sequence[str]) -> UndecodedSplit:
    """The rows of ``files``, in order.

    Raises:
        DataError: a file cannot be read, or a label has no class name.
    """
    labels = [read_labels(path) for path in files]
    for path, values in zip(files, labels, strict=True):
        beyond = (values >= len(class_names)).nonzero().flatten()
        if len(beyond):
            raise _label_error(path, int(beyond[0]), int(values[beyond[0]]), f"from 0 to {len(class_names) - 1}")
    return UndecodedSplit(torch.cat(labels), (image for path in files for image in _read_images(path)))


def read_labels(path: Path) -> Int64[Tensor, " n"]:
    """The label column of one file.

    Raises:
        DataError: it has no rows, or a label is not an integer of at least 0.
    """
    with _parquet_file(path) as file:
        name = _find_column(file.schema_arrow, _LABEL_COLUMNS, path)
        column = file.read(columns=[name]).column(0).combine_chunks()
    if not pa.types.is_integer(column.type):
        raise DataError(
            f"{path}: the column {name} is of type {column.type}. Labels are integers 0, 1, …, one class an image: "
            "lists of several, and names, are not read."
        )
    if not len(column):
        raise DataError(f"{path} has no rows. Remove the file or fill it.")
    # what does not fit becomes negative here, and is named below
    values = torch.from_numpy(column.cast(pa.int64(), safe=False).fill_null(-1).to_numpy().copy())
    if int(values.min()) < 0:
        row = int((values < 0).nonzero()[0])
        raise _label_error(path, row, column[row].as_py(), "0 or above, below 2^63")
    return values


def _label_error(path: Path, row: int, label: int | None, rule: str) -> DataError:
    return DataError(
        f"row {row} of {path} has the label {label}; labels are {rule}. Remove a file without labels "
        "(of test and validation files, test is used first), or give every row its label."
    )


def _read_images(path: Path) -> Iterator[EncodedImage]:
    """The encoded images of one file, a few hundred rows in memory at a time.

    Raises:
        DataError: the image column holds something else, or a row has no image.
    """
    with _parquet_file(path) as file:
        name = _find_column(file.schema_arrow, _IMAGE_COLUMNS, path)
        kind = file.schema_arrow.field(name).type
        nested = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        _check_binary(kind.field("bytes").type if nested else kind, f"{path}: the column {name}", kind)
        row, unfolded, most = 0, 0, UNFOLDED_ANYWAY + MOST_UNFOLDED * path.stat().st_size
        for batch in file.iter_batches(_rows_at_a_time(file.metadata), columns=[name]):
            values = pc.struct_field(batch.column(0), "bytes") if nested else batch.column(0)
            for encoded in values.to_pylist():
                if encoded is None:
                    raise DataError(f"row {row} of {path} has no image bytes. Write the file with its images embedded.")
                unfolded += len(encoded)
                if unfolded > most:  # rows may repeat one value, which the sizes of columns do not tell
                    raise _unfolds(path, unfolded)
                yield f"row {row} of {path}", encoded
                row += 1


def _rows_at_a_time(metadata: pq.FileMetaData) -> int:
    """How many rows are decoded together: a value may be as large as all of its column, and every row may repeat it."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    largest = max(
        (group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns)), default=1
    )
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(largest, 1)))


def _check_binary(content: pa.DataType, column: str, whole: pa.DataType) -> None:
    """Raises DataError unless cells hold bytes. Text is never read: it could only be the name of a file.

    Args:
        content: the type of the cells' content.
        column: what errors call the column, whose type is ``whole``.
        whole: the column's type, for errors.
    """
    bytes_themselves = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    if not any(matches(content) for matches in (*bytes_themselves, pa.types.is_binary_view)):
        raise DataError(
            f"{column} is of type {whole}. Images are encoded files (PNG, JPEG, …), as plain binary or as a struct "
            "whose field bytes is binary. Names of files are not followed: write the table with the images embedded."
        )


def _find_column(schema: pa.Schema, candidates: Sequence[str], path: Path) -> str:
    for name in candidates:
        if schema.names.count(name) > 1:
            raise DataError(f"{path} has {schema.names.count(name)} columns of the name {name}. Leave one of them.")
        if name in schema.names:
            return name
    raise DataError(
        f"{path} has no column {' or '.join(candidates)}; it has {listed(schema.names) or 'none'}. "
        "Rename the column that holds it."
    )


def _check_unfolded(path: Path, metadata: pq.FileMetaData) -> None:
    """Refuse a file whose columns unfold to far more than they take, or that has more rows than it can have images.

    Raises:
        DataError: it is one.
    """
    size = path.stat().st_size
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    unfolded = sum(
        group.column(index).total_uncompressed_size for group in groups for index in range(group.num_columns)
    )
    if unfolded > UNFOLDED_ANYWAY + MOST_UNFOLDED * size:
        raise _unfolds(path, unfolded)
    if metadata.num_rows > _ROWS_ANYWAY + size // _LEAST_IMAGE:
        raise DataError(
            f"{path} has {metadata.num_rows:,} rows in {size:,} bytes, too few for an image each. It was not read. If "
            "the rows are yours, give each its own image."
        )


def _unfolds(path: Path, size: int) -> DataError:
    return DataError(
        f"{path} unfolds to {size / 2**20:,.0f} MiB or more, over {MOST_UNFOLDED} times its size: no images do. It was "
        "not read. If they are yours, write each image once."
    )


@contextmanager
def _parquet_file(path: Path) -> Iterator[pq.ParquetFile]:
    """The opened file. Whatever goes wrong with it inside the block is a DataError that names it."""
    try:
        check_regular(path)
        with pq.ParquetFile(path) as file:
            _check_unfolded(path, file.metadata)
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = brief(error)
        raise DataError(f"{path} cannot be read as a parquet file: {reason}. Fetch or write it again.") from error
