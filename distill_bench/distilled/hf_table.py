"""A distilled set as a table that Hugging Face's ``datasets`` reads: pictures, classes with their names.

Source: the features that ``datasets`` writes into a parquet file's schema, under the key ``huggingface``.
"""

import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.compensators import refuse_compensators
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.render import render_pixels
from distill_bench.errors import UsageError

if TYPE_CHECKING:
    import pyarrow

IMAGE, LABEL, SOFT = "image", "label", "soft_label"
_CHANNELS = (1, 3)


def png_files(distilled: DistilledSet, dataset: Dataset | None = None) -> Iterator[bytes]:
    """The images as PNG files of 8 bits, in order: exact for 8-bit pixels, others rounded and clipped.

    Args:
        distilled: the set.
        dataset: as for ``playback.transform_of``.

    Yields:
        A file's content.

    Raises:
        UsageError: the images have other than 1 or 3 channels.
    """
    if (channels := distilled.images.shape[1]) not in _CHANNELS:
        raise UsageError(f"pictures have 1 or 3 channels; this set's images have {channels}.")
    for pixels in render_pixels(distilled, dataset):
        yield _png(pixels)


def as_table(distilled: DistilledSet, dataset: Dataset | None = None, *, soft: bool = False) -> "pyarrow.Table":
    """The columns ``image`` (PNG files) and ``label`` (class numbers, whose names are in the schema), a row an image.

    Args:
        distilled: the set.
        dataset: as for ``playback.transform_of``.
        soft: whether soft labels, as the set has them, are a third column ``soft_label``, where there are any.

    Returns:
        The table.

    Raises:
        UsageError: as ``png_files``.
    """
    import pyarrow as pa

    names = list(distilled.card.class_names)
    features: dict[str, Any] = {IMAGE: {"_type": "Image"}, LABEL: {"names": names, "_type": "ClassLabel"}}
    rows = [{"bytes": content, "path": None} for content in png_files(distilled, dataset)]
    columns = {
        IMAGE: pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
        LABEL: pa.array(distilled.labels.tolist(), pa.int64()),
    }
    if soft and distilled.soft_labels is not None:
        features[SOFT] = {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "List"}
        columns[SOFT] = pa.array(distilled.soft_labels.float().tolist(), pa.list_(pa.float32()))
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.table(columns).replace_schema_metadata(about)


def as_parquet(distilled: DistilledSet, dataset: Dataset | None = None) -> bytes:
    """``as_table`` as a parquet file: a pure function of the set, of the data, and of pyarrow's version.

    Args:
        distilled: the set.
        dataset: as for ``playback.transform_of``.

    Returns:
        The file's content.

    Raises:
        UsageError: as ``png_files``.
    """
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(as_table(distilled, dataset), buffer)
    return buffer.getvalue()


def as_hf_dataset(distilled: DistilledSet, dataset: Dataset | None = None) -> Any:
    """See ``DistilledSet.to_hf``."""
    if (factor := distilled.card.formation) > 1:
        raise UsageError(
            f"each image of the set holds {factor}×{factor} smaller ones, and a table of pictures does not say so: "
            "to_dataset gives the images that networks are shown."
        )
    refuse_compensators(distilled, "to_hf", "``shown()`` gives all images that networks are trained on.")
    try:
        import datasets  # an extra
    except ImportError:
        raise UsageError("to_hf needs Hugging Face's datasets: pip install 'distill_bench[hf]'.") from None
    return datasets.Dataset(datasets.table.InMemoryTable(as_table(distilled, dataset, soft=True)))


def _png(pixels: UInt8[Tensor, "c h w"]) -> bytes:
    buffer = io.BytesIO()
    array = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
    Image.fromarray(array.contiguous().numpy()).save(buffer, "PNG")
    return buffer.getvalue()
