"""Sound files as others release them, made byte by byte so that any part can be replaced; and how to spoil bytes."""

import io
import json
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save

CLASSES, IPC = 10, 2
COUNT = CLASSES * IPC
LABELS = torch.arange(CLASSES).repeat_interleave(IPC)
NAMES = [str(label) for label in range(CLASSES)]
EPOCH = (1980, 1, 1, 0, 0, 0)
MAGIC, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def images(seed: int = 0, channels: int = 1) -> torch.Tensor:
    noise = torch.randn(COUNT, channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=8, mode="bilinear", align_corners=False)


def logits() -> torch.Tensor:
    soft = torch.randn(COUNT, CLASSES, generator=torch.Generator().manual_seed(1))
    soft[torch.arange(COUNT), LABELS] += 5
    return soft


# --- pickles


class Raw:
    """Opcodes that stand where an object would: they leave one value on the stack."""

    def __init__(self, code: bytes) -> None:
        self.code = code


class Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Python's own, which writes ``Raw`` as it is and storages as torch.save does."""

    def __init__(self, file: io.BytesIO, protocol: int, legacy: bool) -> None:
        super().__init__(file, protocol)
        self.storages: dict[str, torch.UntypedStorage] = {}
        self.widths: dict[str, int] = {}
        self._keys: dict[int, str] = {}
        self._legacy = legacy

    def save(self, item: Any, save_persistent_id: bool = True) -> None:
        if isinstance(item, Raw):
            self.write(item.code)
        else:
            super().save(item, save_persistent_id)

    def persistent_id(self, item: Any) -> Any:
        if not isinstance(item, torch.storage.TypedStorage | torch.UntypedStorage):
            return None
        typed = isinstance(item, torch.storage.TypedStorage)
        untyped = item._untyped_storage if typed else item
        key = self._keys.setdefault(untyped.data_ptr(), str(len(self._keys)))
        self.storages[key] = untyped
        self.widths[key] = item._element_size() if typed else 1
        kind = getattr(torch, item._pickle_storage_type()) if typed else torch.UntypedStorage
        size = untyped.nbytes() // (item._element_size() if typed else 1)
        found = ("storage", kind, key, "cpu", size)
        return (*found, None) if self._legacy else found


def zip_of(records: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in records:
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type = compression
            archive.writestr(info, content)
    return buffer.getvalue()


def raw_zip(
    records: Iterable[tuple[str, bytes]], zeros: tuple[str, int] | None = None, aliases: Iterable[str] = ()
) -> bytes:
    """An archive written by hand: stored records, one deflated record of many zeros, and further names of the last."""
    body, directory, count, offset = b"", b"", 0, 0
    entries = [(name, 0, zlib.crc32(content), content, len(content)) for name, content in records]
    if zeros is not None:
        checksum, packed = deflated_zeros(zeros[1])
        entries.append((zeros[0], 8, checksum, packed, zeros[1]))

    def list_(name: str, method: int, checksum: int, packed: int, size: int) -> None:
        nonlocal directory, count
        fields = (20, 20, 0, method, 0, 33, checksum, packed, size, len(name), 0, 0, 0, 0, 0, offset)
        directory += b"PK\x01\x02" + struct.pack("<HHHHHHIIIHHHHHII", *fields) + name.encode()
        count += 1

    for name, method, checksum, content, size in entries:
        offset = len(body)
        fields = (20, 0, method, 0, 33, checksum, len(content), size, len(name), 0)
        body += b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", *fields) + name.encode() + content
        list_(name, method, checksum, len(content), size)
    for name in aliases:
        list_(name, *entries[-1][1:3], len(entries[-1][3]), entries[-1][4])
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + b"PK\x05\x06" + end


@cache
def deflated_zeros(size: int) -> tuple[int, bytes]:
    """The checksum of so many zeros (a multiple of 2^24) and their deflated form, which repeats one block."""
    block, checksum = bytes(2**24), 0
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(size // len(block)):
        checksum = zlib.crc32(block, checksum)
    return checksum, packed * (size // len(block)) + packer.flush()


def records_of(content: Any, protocol: int = 2) -> list[tuple[str, bytes]]:
    """The records of a file of torch.save."""
    buffer = io.BytesIO()
    pickler = Pickler(buffer, protocol, legacy=False)
    pickler.dump(content)
    storages = [(f"archive/data/{key}", bytes(s.tolist())) for key, s in pickler.storages.items()]
    head = [("archive/data.pkl", buffer.getvalue()), ("archive/byteorder", sys.byteorder.encode())]
    return [*head, *storages, ("archive/version", b"3\n")]


def pt(content: Any, protocol: int = 2, form: str = "zip") -> bytes:
    """A file of torch.save: of now (``zip``), of before 1.6 (``legacy``), or no more than a pickle (``bare``)."""
    if form == "zip":
        return zip_of(records_of(content, protocol))
    buffer = io.BytesIO()
    pickler = Pickler(buffer, protocol, legacy=True)
    pickler.dump(content)
    body = buffer.getvalue()
    if form == "bare":
        return body
    heads = b"".join(pickle.dumps(item, 2) for item in (MAGIC, PROTOCOL_VERSION, SYSTEM))
    keys = sorted(pickler.storages)
    raw = [(pickler.storages[key], pickler.widths[key]) for key in keys]
    tail = b"".join(struct.pack("<q", s.nbytes() // width) + bytes(s.tolist()) for s, width in raw)
    return heads + body + pickle.dumps(keys, 2) + tail


@cache
def released() -> dict[str, tuple[dict[str, bytes], tuple[str, ...]]]:
    """By form: the files of a sound release, and further arguments of ``import``."""
    accuracies = {"ConvNet": [0.28, 0.29, numpy.float64(0.3)]}
    space = ("--space", "normalized")
    return {
        "res": (
            {"res_DC_digits_ConvNet_2ipc.pt": pt({"data": [[images(), LABELS]] * 2, "accs_all_exps": accuracies})},
            (),
        ),
        "res legacy": ({"res_DM_digits_ConvNet_2ipc.pt": pt({"data": [[images(), LABELS]]}, form="legacy")}, ()),
        "mtt": (
            {"images_best.pt": pt(images()), "labels_best.pt": pt(LABELS), "lr_best.pt": pt(torch.tensor(0.02))},
            space,
        ),
        "datm": (
            {"images.pt": pt(images()), "labels.pt": pt(logits()), "lr.pt": pt(torch.tensor(0.018))},
            space,
        ),
        "dcbench": ({"images.pt": pt(images()), "labels.pt": pt(LABELS.float())}, space),
        "datadam": ({"syn_data_digits_ipc_2.pt": pt({"data": [images(), LABELS.float()]})}, space),
        "pair": ({"data.pt": pt([images(), LABELS])}, space),
        "npz": ({"kip.npz": npz(images=images().numpy(), labels=LABELS.numpy())}, space),
        "npy": ({"images.npy": npy(images().numpy())}, (*space, "--labels", "order")),
    }


def replay_buffer(seed: int = 0) -> list[list[list[torch.Tensor]]]:
    """Two trajectories of three snapshots of a ConvNetD1W4 for digits."""
    from distill_bench.networks import build_network

    network = build_network("ConvNetD1W4", (1, 8, 8), CLASSES, torch.Generator().manual_seed(seed))
    return [[[p.detach() for p in network.parameters()] for _ in range(3)] for _ in range(2)]


# --- sets


def card(**changes: Any) -> dict[str, Any]:
    sound = {
        "format_version": 1,
        "method": "dm",
        "paper": None,
        "source": {"name": "digits", "size": None, "holdout": None, "train_fingerprint": "0" * 64},
        "class_names": NAMES,
        "ipc": IPC,
        "pixel_space": {"kind": "normalized", "mean": [0.3], "std": [0.37], "eps": None, "zca_input": None},
        "label_kind": "hard",
        "temperature": 1.0,
        "preset": "cpu",
        "recipe": {"iterations": 3, "teacher": {"epochs": 2}},
        "protocol": "dm",
        "seed": 0,
        "licence": None,
    }
    return sound | changes


def tensors(kind: str = "hard") -> dict[str, torch.Tensor]:
    found = {"images": images(), "labels": LABELS}
    if kind == "logits":
        found |= {"soft_labels": logits(), "learning_rate": torch.tensor(0.02, dtype=torch.float64)}
    if kind == "teacher":
        from distill_bench.networks import build_network

        network = build_network("ConvNetD1W4", (1, 8, 8), CLASSES, torch.Generator().manual_seed(1))
        found |= {f"teacher.{name}": tensor.clone() for name, tensor in network.state_dict().items()}
    if kind == "projector":
        from distill_bench.networks import build_network

        network = build_network("ConvNetD1W4", (1, 8, 8), CLASSES, torch.Generator().manual_seed(1))
        found |= {f"projector.encoder.{name}": tensor.clone() for name, tensor in network.state_dict().items()}
        found |= {"projector.features.0.a": torch.ones(4, 2), "projector.features.0.b": torch.ones(2, 9)}
        found |= {"projector.scale": torch.tensor(20.0), "projector.prototypes": torch.ones(CLASSES, 64)}
    if kind in ("recorded", "distances"):
        epochs = 2
        crops = torch.tensor([0, 0, 8, 8], dtype=torch.int16).expand(epochs, COUNT, 4)
        found |= {
            "relabel.tiles": torch.zeros(epochs, COUNT, 1, dtype=torch.int16),
            "relabel.crops": crops.clone(),
            "relabel.mirrored": torch.zeros(epochs, COUNT, dtype=torch.bool),
            "relabel.partners": torch.arange(COUNT, dtype=torch.int32).expand(epochs, COUNT).clone(),
            "relabel.boxes": torch.zeros(epochs, COUNT, 4, dtype=torch.int16),
            "relabel.weights": torch.ones(epochs, COUNT),
        }
        said = logits() if kind == "recorded" else logits().abs()[:, :2]
        found[f"relabel.{'logits' if kind == 'recorded' else kind}"] = said.expand(epochs, *said.shape).half().clone()
    return found


def card_of(kind: str, **changes: Any) -> dict[str, Any]:
    named = {"teacher": {"teacher": "ConvNetD1W4"}, "projector": {"projector": {"encoder": "ConvNetD1W4"}}}
    own = {"label_kind": kind} | named.get(kind, {})
    return card(**own | changes)


def distilled(content: dict[str, torch.Tensor], about: Any) -> bytes:
    text = about if isinstance(about, str) else json.dumps(about)
    return save({k: v.contiguous() for k, v in content.items()}, {"distill_bench": text})


KINDS = ("hard", "logits", "teacher", "recorded", "distances", "projector")


@cache
def sound_set(kind: str) -> bytes:
    return distilled(tensors(kind), card_of(kind))


# --- arrays, pictures, tables


def npy(array: numpy.ndarray) -> bytes:
    buffer = io.BytesIO()
    numpy.save(buffer, array)
    return buffer.getvalue()


def npy_header(description: str, shape: str, order: str = "False", data: bytes = b"") -> bytes:
    """An .npy file whose header says what it likes."""
    text = f"{{'descr': {description}, 'fortran_order': {order}, 'shape': {shape}, }}"
    text += " " * (-(10 + len(text) + 1) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) % 65536) + text.encode("latin1") + data


def npz(**arrays: numpy.ndarray) -> bytes:
    return zip_of((f"{name}.npy", npy(array)) for name, array in arrays.items())


def pixels(seed: int = 0) -> numpy.ndarray:
    return numpy.random.default_rng(seed).integers(0, 256, (COUNT, 8, 8), dtype=numpy.uint8)


@cache
def data_npz() -> dict[str, numpy.ndarray]:
    labels = LABELS.numpy()
    return {"x_train": pixels(), "y_train": labels, "x_test": pixels(1), "y_test": labels}


def picture(array: numpy.ndarray | None = None, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels()[0] if array is None else array).save(buffer, form)
    return buffer.getvalue()


def huge_png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that claims a size it may not hold."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", data or zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@cache
def deflated_pixels(side: int) -> bytes:
    """The data of a grey PNG of zeros, ``side`` pixels a side."""
    return zlib.compress(bytes((side + 1) * side), 9)


def parquet(rows: list[bytes | None], labels: Any, names: Any = NAMES, metadata: bytes | None = None) -> bytes:
    features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    about = json.dumps(features).encode() if metadata is None else metadata
    table = pa.table({"image": [{"bytes": row, "path": None} for row in rows], "label": labels})
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"huggingface": about}), buffer)
    return buffer.getvalue()


@cache
def sound_parquet() -> bytes:
    return parquet([picture(each) for each in pixels()], LABELS.tolist())


def idx(array: numpy.ndarray, shape: tuple[int, ...] | None = None, kind: int = 8) -> bytes:
    """MNIST's own form."""
    shape = shape or array.shape
    return struct.pack(">HBB", 0, kind, len(shape)) + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()


@cache
def mnist_files() -> dict[str, bytes]:
    data = numpy.random.default_rng(0).integers(0, 256, (COUNT, 28, 28), dtype=numpy.uint8)
    labels = LABELS.numpy().astype(numpy.uint8)
    raw = "home/sources/mnist/torchvision/MNIST/raw"
    return {
        f"{raw}/{part}-{what}-idx{n}-ubyte": idx(content)
        for part in ("train", "t10k")
        for what, n, content in (("images", 3, data), ("labels", 1, labels))
    }


# --- how bytes are spoiled

Spoil = Callable[[bytes], bytes]
EDGES = [
    b"\x00" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"\xff" * 8,
    b"\x00" * 8,
    b"\xff" * 7 + b"\x7f",
]


def cut(at: float) -> Spoil:
    return lambda data: data[: int(at * len(data))]


def flip(at: float, bit: int) -> Spoil:
    def spoil(data: bytes) -> bytes:
        index = int(at * len(data))
        return data[:index] + bytes([data[index] ^ 1 << bit]) + data[index + 1 :] if index < len(data) else data

    return spoil


def overwrite(at: float, value: bytes) -> Spoil:
    return lambda data: data[: int(at * len(data))] + value + data[int(at * len(data)) + len(value) :]


def remove(at: float, count: int) -> Spoil:
    return lambda data: data[: int(at * len(data))] + data[int(at * len(data)) + count :]


def repeat(at: float, count: int) -> Spoil:
    def spoil(data: bytes) -> bytes:
        index = int(at * len(data))
        return data[:index] + data[index : index + count] * 2 + data[index + count :]

    return spoil
