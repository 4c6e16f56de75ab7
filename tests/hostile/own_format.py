"""Distilled sets in the project's own format: broken, lying, wrong, and their cards."""

import json
import struct
from typing import Any

import makers
import numpy
import torch
from arena import Case
from common import placed, spoiled
from hypothesis import strategies as st

USE = (
    "evaluate",
    "{root}/in/set.safetensors",
    "--networks",
    "1",
    "--protocol",
    "quick-v1",
    "--compile",
    "off",
    "--quiet",
)
LOOK = ("info", "{root}/in/set.safetensors")
DRAW = ("render", "{root}/in/set.safetensors", "--out", "{root}/out/set.png")
ways = st.sampled_from([USE, USE, LOOK, DRAW])


def set_case(kind: str, what: str, data: bytes, command: tuple[str, ...], codes: tuple[int, ...]) -> Case:
    if command == USE:
        codes = tuple(
            {*codes, *((1, 2, 3) if 0 in codes else ())}
        )  # diverged, of another source, or useless in the end
    return Case(kind, what, placed({"set.safetensors": data}), command, codes, makes_set=False)


@st.composite
def broken_set_cases(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(makers.KINDS))
    data = makers.sound_set(kind)
    if draw(st.booleans()):  # most bytes are pixels: aim at the header
        length = 8 + struct.unpack("<Q", data[:8])[0]
        data = draw(spoiled(data[:length])) + data[length:]
    else:
        data = draw(spoiled(data))
    return set_case("broken sets", kind, data, draw(ways), (0, 3))


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@st.composite
def lying_set_cases(draw: st.DrawFn) -> Case:
    """Headers that claim other sizes, shapes and types than there are."""
    kind = draw(st.sampled_from(makers.KINDS))
    header, body = header_of(makers.sound_set(kind))
    name = draw(st.sampled_from(sorted(set(header) - {"__metadata__"})))
    what = draw(st.sampled_from(["shape", "offsets", "dtype", "size", "name", "deep", "twice", "no card"]))
    if what == "shape":
        header[name]["shape"] = draw(
            st.lists(st.sampled_from([0, 1, 8, 20, 10, 2**31, 2**40, 2**63, -1, 1.5]), max_size=6)
        )
    elif what == "offsets":
        header[name]["data_offsets"] = draw(st.lists(st.sampled_from([0, 1, 80, 5120, 2**40, 2**63, -1]), max_size=3))
    elif what == "dtype":
        kinds = [
            "F64",
            "F32",
            "F16",
            "BF16",
            "F8_E4M3",
            "F8_E5M2",
            "F8_E8M0",
            "I64",
            "I32",
            "I16",
            "U8",
            "BOOL",
            "U16",
            "U32",
            "U64",
            "C64",
            "F4",
            "Q9",
        ]
        chosen = draw(st.sampled_from(kinds))
        bits = {
            "F64": 64,
            "I64": 64,
            "U64": 64,
            "C64": 64,
            "F16": 16,
            "BF16": 16,
            "I16": 16,
            "U16": 16,
            "U8": 8,
            "BOOL": 8,
            "F4": 4,
        }.get(chosen, 8 if chosen[:2] == "F8" else 32)
        start, end = header[name]["data_offsets"]
        header[name]["dtype"] = chosen
        shape = header[name]["shape"] or [1]
        header[name]["shape"] = (
            [*shape[:-1], max(1, (end - start) * 8 // bits // max(1, int(numpy.prod(shape[:-1]))))]
            if draw(st.booleans())
            else shape
        )
    elif what == "name":
        header[
            draw(
                st.sampled_from(
                    ["images", "labels", "relabel.x", "teacher.x", "", "../x", "soft_labels", "learning_rate"]
                )
            )
        ] = header.pop(name)
    elif what == "no card":
        header["__metadata__"] = draw(
            st.sampled_from(
                [{}, {"format": "pt"}, {"distill_bench": ""}, {"distill_bench": "[]"}, {"distill_bench": "null"}]
            )
        )
    data = with_header(header, body)
    if what == "size":
        data = (
            struct.pack("<Q", draw(st.sampled_from([0, 1, 10**8, 10**8 + 1, 2**40, 2**63 - 1, 2**64 - 1]))) + data[8:]
        )
    elif what == "deep":
        data = with_header(b"[" * draw(st.sampled_from([100, 10**5, 10**6])), body)
    elif what == "twice":
        text = json.dumps(header).encode()
        data = with_header(text[:-1] + b"," + text[1:], body)
    return set_case("lying sets", f"{what} of {name}, {kind}", data, draw(ways), (0, 3))


@st.composite
def wrong_set_cases(draw: st.DrawFn) -> Case:
    """Tensors of a sound file that are not those of a set, or not of this one."""
    kind = draw(st.sampled_from(makers.KINDS))
    content = {name: tensor.clone() for name, tensor in makers.tensors(kind).items()}
    name = draw(st.sampled_from(sorted(content)))
    tensor = content[name]
    what = draw(st.sampled_from(["value", "value", "value", "type", "shape", "missing", "more", "shorter"]))
    if what == "value":
        values = [float("nan"), float("inf"), 3e38, -1.0] if tensor.is_floating_point() else [-1, 127, 10, 20, 9, 100]
        index = draw(st.integers(0, tensor.numel() - 1))
        value = draw(st.sampled_from(values))
        tensor.view(-1)[index] = bool(value) if tensor.dtype == torch.bool else value
        what = f"value {value} at {index}"
    elif what == "type":
        chosen = draw(
            st.sampled_from(["float64", "float16", "int32", "uint8", "bool", "bfloat16", "complex64", "float8_e5m2"])
        )
        content[name] = tensor.to(getattr(torch, chosen))
        what = f"type {chosen}"
    elif what == "shape":
        content[name] = draw(
            st.sampled_from([tensor.flatten(), tensor[None], tensor[..., None], tensor.sum(), tensor.new_zeros(0)])
        )
    elif what == "missing":
        del content[name]
    elif what == "more":
        content[
            draw(st.sampled_from(["extra", "relabel.x", "teacher.x", "projector.x", "learning_rate", "soft_labels"]))
        ] = tensor.clone()
    elif tensor.ndim:
        content[name] = tensor[: draw(st.integers(0, len(tensor) - 1))]
    never = name in ("images", "labels") and (what == "missing" or "nan" in what or "inf" in what)
    data = makers.distilled(content, makers.card_of(kind))
    return set_case("wrong sets", f"{what} of {name}, {kind}", data, draw(ways), (3,) if never else (0, 3))


WORDS = [
    "", "zca", "digits", "unit", "ConvNet", "../../etc", "\ud800", "\x00", "<script>", "a" * 5000, "folder:/",
    "npz:/dev/zero", "parquet:/dev/stdin", "npz:/dev/stdin", "folder:.", "ConvNetD1W99999999", "ConvNetD9", "ViT",
    "cifar10", "logits", "teacher", "recorded", "distances", "projector", "probabilities",
]  # fmt: skip
junk = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from([0, -1, 1, 2**31, 2**63, 10**30, float("nan"), float("inf"), 0.5, 1e-300, 1e300]),
        st.sampled_from(WORDS),
        st.text(max_size=8),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(found for key, value in below for found in places(value, (*path, key)))]


def replaced(content: Any, path: tuple[Any, ...], change: Any) -> Any:
    if not path:
        return change(content)
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[path[0]] = replaced(copy[path[0]], path[1:], change)
    return copy


@st.composite
def card_cases(draw: st.DrawFn) -> Case:
    """Cards with other values, types and keys, or of no end."""
    kind = draw(st.sampled_from(makers.KINDS))
    about: Any = makers.card_of(kind)
    what = draw(
        st.sampled_from(["junk", "junk", "junk", "removed", "unknown", "twice", "deep", "long", "text", "origin"])
    )
    if what in ("junk", "removed"):
        for _ in range(draw(st.integers(1, 3))):
            path = draw(st.sampled_from(places(about)))
            if what == "removed" and path and isinstance(path[-1], str):
                key = path[-1]
                about = replaced(
                    about,
                    path[:-1],
                    lambda d, key=key: {k: v for k, v in d.items() if k != key} if isinstance(d, dict) else d,
                )
            else:
                value = draw(junk)
                about = replaced(about, path, lambda _, value=value: value)
            if not isinstance(about, dict):
                break
    elif what == "unknown":
        about[
            draw(
                st.text(min_size=1, max_size=10).filter(
                    lambda key: key not in about and key not in ("origin", "teacher")
                )
            )
        ] = draw(junk)
    elif what == "origin":
        about["origin"] = {
            "form": "res",
            "files": {"x": "0"},
            "stored_accuracies": {"ConvNet": [0.1]},
            "assumptions": [],
        }
        path = draw(st.sampled_from(places(about["origin"])))
        value = draw(junk)
        about["origin"] = replaced(about["origin"], path, lambda _: value)
    text = json.dumps(about)
    if what == "twice":
        text = text[:-1] + ', "ipc": 3}'
    elif what == "deep":
        text = text[:-1] + ', "recipe": ' + "[" * draw(st.sampled_from([900, 10**4, 10**6]))
        text += "]" * text.count("[") * draw(st.booleans()) + "}"
    elif what == "long":
        text = text[:-1] + f', "seed": {"9" * draw(st.sampled_from([20, 5000]))}}}'
    elif what == "text":
        text = draw(spoiled(text.encode())).decode("latin1")
    codes = (3,) if what == "unknown" else (0, 3)
    data = makers.distilled(makers.tensors(kind), text.encode("utf-8", "replace").decode())
    return set_case("cards", f"{what}, {kind}: {text[:2000]}", data, draw(ways), codes)
