"""Hostile and broken files, drawn by Hypothesis: a strategy for every kind of file that the command opens."""

import hashlib
import io
import json
import pickle
import struct
import tarfile
import warnings
from typing import Any

import makers
import numpy
import torch
from arena import Case
from hypothesis import strategies as st
from makers import COUNT, LABELS, NAMES, Raw, images

EXPERTS = (
    "experts", "import", "{root}/in/replay_buffer_0.pt", "--dataset", "digits", "--space", "normalized",
    "--network", "ConvNetD1W4",
)  # fmt: skip
RECIPE_CHECK = ("recipe", "validate", "{root}/in/mine.toml")
TO = ("--dataset", "digits", "--out", "{out}")


def importing(names: Any, *more: str) -> tuple[str, ...]:
    return ("import", *(f"{{root}}/in/{name}" for name in names), *TO, *more)


def placed(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"in/{name}": content for name, content in files.items()}


fractions = st.floats(0, 1, exclude_max=True)
spoils = st.one_of(
    st.builds(makers.cut, fractions),
    st.builds(makers.flip, fractions, st.integers(0, 7)),
    st.builds(makers.overwrite, fractions, st.sampled_from(makers.EDGES) | st.binary(min_size=1, max_size=8)),
    st.builds(makers.remove, fractions, st.integers(1, 64)),
    st.builds(makers.repeat, fractions, st.integers(1, 256)),
)


@st.composite
def spoiled(draw: st.DrawFn, data: bytes) -> bytes:
    for spoil in draw(st.lists(spoils, min_size=1, max_size=4)):
        data = spoil(data)
    return data


# --- malicious pickles

CALLS: list[tuple[str, str, tuple[Any, ...]]] = [
    ("hostile_canary", "mark", ()),
    ("builtins", "eval", ("__import__('hostile_canary').mark()",)),
    ("builtins", "exec", ("import hostile_canary",)),
    ("builtins", "open", ("ran", "w")),
    ("builtins", "getattr", ("a", "b")),
    ("builtins", "__import__", ("hostile_canary",)),
    ("os", "system", ("touch ran",)),
    ("posix", "system", ("touch ran",)),
    ("nt", "system", ("touch ran",)),
    ("subprocess", "Popen", (["touch", "ran"],)),
    ("subprocess", "check_output", (["touch", "ran"],)),
    ("importlib", "import_module", ("hostile_canary",)),
    ("runpy", "run_module", ("hostile_canary",)),
    ("pickle", "loads", (pickle.dumps(1),)),
    ("_pickle", "loads", (pickle.dumps(1),)),
    ("shutil", "rmtree", ("..",)),
    ("os", "remove", ("../user/thesis.tex",)),
    ("pathlib", "Path", ("..",)),
    ("socket", "create_connection", (("127.0.0.1", 9),)),
    ("urllib.request", "urlopen", ("http://127.0.0.1:9/",)),
    ("numpy", "load", ("x.npy",)),
    ("numpy.core.multiarray", "_reconstruct", (0,)),
    ("numpy._core.multiarray", "fromfile", ("x",)),
    ("torch", "load", ("x.pt",)),
    ("torch.hub", "load", ("a/b", "c")),
    ("torch.serialization", "load", ("x.pt",)),
    ("torch.jit", "load", ("x.pt",)),
    ("torch.utils.cpp_extension", "load", ("x", [])),
    ("torch.nn.modules.linear", "Linear", (1, 1)),
    ("torch.storage", "_load_from_bytes", (b"x",)),
    ("torch._utils", "_import_dotted_name", ("hostile_canary.mark",)),
    ("torch.serialization", "os.system", ("touch ran",)),
    ("collections", "OrderedDict.__reduce__", ()),
    ("distill_bench.cli", "main", ()),
    ("functools", "partial", (print,)),
    ("operator", "attrgetter", ("x",)),
    ("copyreg", "_reconstructor", (object, object, None)),
    ("code", "interact", ()),
    ("webbrowser", "open", ("x",)),
    ("ctypes", "CDLL", ("libc.so.6",)),
]
ALLOWED_CLASSES = ["collections OrderedDict", "torch Size", "collections Counter", "builtins set"]


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def short(value: Any) -> bytes:
    """A value's opcodes without their frame."""
    return pickle.dumps(value, 2)[2:-1]


@st.composite
def attacks(draw: st.DrawFn) -> tuple[str, Raw]:
    """Opcodes that would call something, were they followed."""
    module, name, arguments = draw(st.sampled_from(CALLS))
    arguments = tuple(each for each in arguments if not callable(each))
    way = draw(
        st.sampled_from(
            [
                "GLOBAL",
                "STACK_GLOBAL",
                "INST",
                "OBJ",
                "NEWOBJ",
                "NEWOBJ_EX",
                "BUILD",
                "EXT",
                "PERSID",
                "BINPERSID",
                "NAME ONLY",
                "MEMO",
            ]
        )
    )
    named = b"c" + f"{module}\n{name}\n".encode()
    stacked = text(module) + text(name) + b"\x93"
    packed = short(arguments)
    code = {
        "GLOBAL": named + packed + b"R",
        "STACK_GLOBAL": stacked + packed + b"R",
        "INST": b"(" + b"".join(map(short, arguments)) + f"i{module}\n{name}\n".encode(),
        "OBJ": b"(" + named + b"".join(map(short, arguments)) + b"o",
        "NEWOBJ": named + packed + b"\x81",
        "NEWOBJ_EX": named + packed + b"}" + b"\x92",
        "BUILD": b"c"
        + draw(st.sampled_from(ALLOWED_CLASSES)).replace(" ", "\n").encode()
        + b"\n)R"
        + b"}"
        + text("__reduce__")
        + stacked
        + b"s"
        + b"b",
        "EXT": draw(st.sampled_from([b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"])) + packed + b"R",
        "PERSID": b"P" + f"{module}.{name}\n".encode(),
        "BINPERSID": b"(" + text("storage") + named + text("0") + text("cpu") + b"K\x01tQ",
        "NAME ONLY": stacked,
        "MEMO": stacked + b"\x94" + b"0" + b"h" + bytes([draw(st.integers(0, 40))]) + packed + b"R",
    }[way]
    return f"{module}.{name} by {way}", Raw(code)


def nested(bad: Any, wraps: list[str]) -> Any:
    for wrap in wraps:
        bad = {"tuple": (1, bad), "list": [bad, 2], "dict": {"x": bad}, "value": {1: (bad,)}}[wrap]
    return bad


@st.composite
def pickle_cases(draw: st.DrawFn) -> Case:
    """An attack in every slot of every released form."""
    what, bad = draw(attacks())
    wrapped = nested(bad, draw(st.lists(st.sampled_from(["tuple", "list", "dict", "value"]), max_size=3)))
    protocol = draw(st.integers(0, 5))
    form = draw(st.sampled_from(["zip", "zip", "legacy", "bare"]))
    slots = {
        "res images": ("res_DC_digits_ConvNet_2ipc.pt", {"data": [[wrapped, LABELS]], "accs_all_exps": {}}),
        "res labels": ("res_DSA_digits_ConvNet_2ipc.pt", {"data": [[images(), wrapped]], "accs_all_exps": {}}),
        "res accuracies": ("res_DM_digits.pt", {"data": [[images(), LABELS]], "accs_all_exps": {"ConvNet": [wrapped]}}),
        "res further key": ("res_DM_digits.pt", {"data": [[images(), LABELS]], "more": wrapped}),
        "images_best": ("images_best.pt", wrapped),
        "labels_best": ("labels_best.pt", wrapped),
        "lr": ("lr_best.pt", wrapped),
        "datadam": ("syn_data_digits_ipc_2.pt", {"data": [images(), wrapped]}),
        "dcbench": ("labels.pt", wrapped),
        "pair": ("data.pt", [images(), wrapped]),
        "replay buffer": ("replay_buffer_0.pt", [[[wrapped]]]),
    }
    slot = draw(st.sampled_from(sorted(slots)))
    name, content = slots[slot]
    files = {name: makers.pt(content, protocol, form)}
    command = importing([name], "--space", "normalized")
    if slot == "replay buffer":
        command = EXPERTS
    elif slot in ("labels_best", "lr", "dcbench"):
        files["images_best.pt"] = makers.pt(images())
        command = importing(["images_best.pt", name], "--space", "normalized")
    return Case("malicious pickles", f"{what} in {slot}, {form}, protocol {protocol}", placed(files), command, (3,))


# --- broken and lying .pt files


@st.composite
def broken_pt_cases(draw: st.DrawFn) -> Case:
    form = draw(st.sampled_from(sorted(makers.released())))
    files, more = makers.released()[form]
    name = draw(st.sampled_from(sorted(files)))
    files = files | {name: draw(spoiled(files[name]))}
    # damage may turn a form into another, about which something has to be said
    return Case("broken releases", f"{form}, {name}", placed(files), importing(files, *more), (0, 2, 3))


def rebuilt(key: str, numel: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Raw:
    """A tensor whose pickle says of its storage, offset, size and strides what it likes."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + short(numel) + b"tQ"
    rest = short(offset) + short(size) + short(stride) + b"\x89" + b"ccollections\nOrderedDict\n)R"
    return Raw(b"ctorch._utils\n_rebuild_tensor_v2\n" + b"(" + storage + rest + b"t" + b"R")


def meta_tensor(size: tuple[int, ...]) -> Raw:
    dtype = b"ctorch\nfloat32\n"
    arguments = b"(" + dtype + short(size) + short((1,) * len(size)) + b"\x89t"
    return Raw(b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n" + arguments + b"R")


def laughs(levels: int) -> list[Any]:
    """Each level holds the one below twice: small on disk, 2^levels when gone through."""
    inner: list[Any] = [1.0]
    for _ in range(levels):
        inner = [inner, inner]
    return inner


def cycle() -> list[Any]:
    ring: list[Any] = [images()]
    ring.append(ring)
    return ring


CLAIMING = [
    "builtins bytearray", "__builtin__ bytearray", "torch FloatTensor", "torch Size", "torch.storage UntypedStorage",
    "torch LongTensor", "torch.nn.parameter Parameter",
]  # fmt: skip
HUGE = [0, 1, -1, 2**31, 2**40, 2**62, 2**63 - 1, 10**6, 640, 1280, 1281]


@st.composite
def lying_pt_cases(draw: st.DrawFn) -> Case:
    """Declared sizes, recursion, kinds of tensors that no release has, archives that are bombs or lead elsewhere."""
    what = draw(
        st.sampled_from(
            ["claims", "claims", "claims", "legacy claims", "meta", "kinds", "laughs", "cycle", "deep", "compressed",
             "overlapping", "shared", "traversal", "duplicate", "claiming call", "many", "numbers"]
        )
    )  # fmt: skip
    codes: tuple[int, ...] = (3,)
    name, command = "images_best.pt", importing(["images_best.pt"], "--space", "normalized")
    if what in ("claims", "legacy claims"):
        numel, offset = draw(st.sampled_from(HUGE)), draw(st.sampled_from([0, 0, 0, *HUGE]))
        size = tuple(draw(st.lists(st.sampled_from([1, 8, 20, *HUGE]), min_size=0, max_size=5)))
        stride = tuple(draw(st.lists(st.sampled_from([0, 1, 8, 64, *HUGE]), min_size=len(size), max_size=len(size))))
        body = rebuilt("0", numel, offset, size, stride)
        if what == "claims":
            records = [*makers.records_of(body)[:2], ("archive/data/0", bytes(4 * 1280)), ("archive/version", b"3\n")]
            data = makers.zip_of(records)
        else:
            data = makers.pt(body, form="legacy")[: draw(st.integers(0, 5)) or None]
            data += pickle.dumps(["0"], 2) + struct.pack("<q", draw(st.sampled_from(HUGE))) + bytes(4 * 1280)
        codes, what = (0, 2, 3), f"{what} {numel} {offset} {size} {stride}"
    elif what == "meta":
        data = makers.pt(meta_tensor(draw(st.sampled_from([(20, 1, 8, 8), (2**20, 2**20), (2**40, 1, 8, 8)]))))
    elif what == "kinds":
        kind = draw(
            st.sampled_from(
                [
                    "complex64",
                    "bfloat16",
                    "float64",
                    "int8",
                    "bool",
                    "uint16",
                    "int64",
                    "float16",
                    "sparse",
                    "uint32",
                    "float8_e4m3fn",
                ]
            )
        )
        made = images().to_sparse() if kind == "sparse" else images().to(getattr(torch, kind))
        buffer = io.BytesIO()
        torch.save(made if draw(st.booleans()) else {"data": [[made, LABELS]]}, buffer)
        data, codes, what = buffer.getvalue(), (0, 2, 3), f"kind {kind}"
    elif what == "laughs":
        data = makers.pt({"data": [[images(), LABELS]], "more": laughs(draw(st.integers(20, 200)))})
    elif what == "cycle":
        buffer = io.BytesIO()
        torch.save(cycle(), buffer)
        data = buffer.getvalue()
    elif what == "deep":
        depth = draw(st.sampled_from([100, 1000, 100_000]))
        data = makers.pt(Raw(b"]" * depth + b"a" * (depth - 1)))
    elif what == "compressed":
        size = draw(st.sampled_from([2**24, 2**28, 3 * 2**30]))
        records = makers.records_of(rebuilt("0", size // 4, 0, (size // 256, 1, 8, 8), (64, 64, 8, 1)))
        data = makers.raw_zip(records, ("archive/data/0", size))
    elif what == "overlapping":
        copies = draw(st.sampled_from([500, 4000]))
        keys = [f"{k:06d}" for k in range(1, copies)]
        body = [rebuilt(key, 2**18, 0, (2**12, 1, 8, 8), (64, 64, 8, 1)) for key in keys]
        records = [*makers.records_of(body)[:2], ("archive/version", b"3\n"), ("archive/data/000000", bytes(2**20))]
        data = makers.raw_zip(records, aliases=(f"archive/data/{key}" for key in keys))
    elif what == "shared":
        name, big = "res_DM_digits.pt", torch.zeros(4000, 1, 8, 8)
        pair = [big, torch.zeros(4000, dtype=torch.int64)]
        data = makers.pt({"data": [pair] * draw(st.sampled_from([500, 5000]))})
        command = importing([name])
    elif what == "traversal":
        evil = draw(
            st.sampled_from(
                [
                    "../../user/thesis.tex",
                    "/tmp/evil",
                    "archive/../../x",
                    "..\\..\\x",
                    "archive/data/../../../out/set.safetensors",
                ]
            )
        )
        records = makers.records_of(images())
        data, codes = (
            makers.zip_of([*records, (evil, b"evil")] if draw(st.booleans()) else [(evil, b"evil"), *records]),
            (0, 3),
        )
    elif what == "duplicate":
        records = makers.records_of(images())
        chosen = draw(st.sampled_from(records))
        with warnings.catch_warnings(action="ignore"):
            data, codes = makers.zip_of([*records, (chosen[0], draw(st.binary(max_size=20)))]), (0, 3)
    elif what == "claiming call":
        size = draw(st.sampled_from([10**3, 10**9, 10**12, 2**62]))
        name_ = draw(st.sampled_from(CLAIMING))
        made = Raw(b"c" + name_.replace(" ", "\n").encode() + b"\n" + short((size,)) + b"R")
        data, what = makers.pt(made, form=draw(st.sampled_from(["zip", "bare"]))), f"{name_}({size})"
    elif what == "many":
        count = draw(st.sampled_from([10**4, 10**6]))
        data = makers.pt(Raw(b"](" + b"K\x01" * count + b"e"))
    else:
        number = draw(st.sampled_from([10**400, float("nan"), float("inf"), -1, 2**70, True, None, "x", 1j]))
        data = makers.pt({"data": [[images(), LABELS]], "accs_all_exps": {"ConvNet": [number, 0.1]}})
        name, command, codes = "res_DC_digits.pt", importing(["res_DC_digits.pt"]), (0, 3)
    return Case("lying .pt files", what, placed({name: data}), command, codes)


# --- well-formed releases with wrong values


@st.composite
def wrong_value_cases(draw: st.DrawFn) -> Case:
    """Sound pickles and arrays whose numbers, shapes and types are not those of a set."""
    picture, targets = images(), LABELS.clone()
    what = draw(
        st.sampled_from(
            ["nan", "infinite", "huge values", "labels", "label type", "fewer labels", "shape", "soft", "rate", "empty"]
        )
    )
    codes: tuple[int, ...] = (3,)
    files: dict[str, Any] = {}
    if what in ("nan", "infinite", "huge values"):
        value = {
            "nan": float("nan"),
            "infinite": draw(st.sampled_from([float("inf"), -float("inf")])),
            "huge values": 3e38,
        }[what]
        picture.view(-1)[draw(st.integers(0, picture.numel() - 1))] = value
        codes = (0, 3) if what == "huge values" else (3,)
    elif what == "labels":
        targets[draw(st.integers(0, COUNT - 1))] = draw(st.sampled_from([-1, 10, 2**31, 2**62, -(2**63)]))
    elif what == "label type":
        kind = draw(st.sampled_from(["int32", "uint8", "float16", "bool", "complex64", "float64"]))
        targets, codes = targets.to(getattr(torch, kind)), (0, 2, 3)
    elif what == "fewer labels":
        targets = targets[: draw(st.integers(0, COUNT - 1))]
    elif what in ("shape", "empty"):
        shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 8, 20] if what == "shape" else [0, 1, 20]), max_size=6)))
        picture, codes = torch.zeros(shape), (2, 3)
    elif what == "soft":
        shape = draw(st.sampled_from([(20, 9), (20, 1), (19, 10), (20, 0), (20, 10, 1), (0, 10)]))
        targets, codes = torch.randn(shape), (2, 3)
    else:
        rate = draw(st.sampled_from([0.0, -1.0, float("nan"), float("inf"), 1e-45]))
        files["lr.pt"], codes = torch.tensor(rate), (0, 3) if rate == 1e-45 else (3,)
    form = "loose" if files else draw(st.sampled_from(["res", "datadam", "loose", "npz"]))
    more = [
        "--space",
        "normalized",
        *draw(st.sampled_from([[], ["--labels", "logits"], ["--labels", "argmax"], ["--layout", "nhwc"]])),
    ]
    if {"--layout", "--labels"} & set(more) or form == "npz":
        codes = tuple(
            {*codes, 2, 3, *((0,) if what in ("labels", "fewer labels", "soft", "label type", "shape") else ())}
        )
    if form == "npz":
        if targets.dtype == torch.bool:
            targets = targets.to(torch.uint8)
        data = {"set.npz": makers.npz(images=picture.numpy(), labels=targets.numpy())}
    elif form == "loose":
        data = {
            "images.pt": makers.pt(picture),
            "labels.pt": makers.pt(targets),
            **{k: makers.pt(v) for k, v in files.items()},
        }
    else:
        content = {"data": [[picture, targets]] if form == "res" else [picture, targets]}
        data = {"res_DC_digits.pt" if form == "res" else "syn_data_digits.pt": makers.pt(content)}
    if what == "fewer labels" and form == "loose":
        codes = (0, 2, 3)  # one label alone may be taken for a rate
    if "--space" in more and form == "res":
        more = more[2:]
    return Case("wrong values", f"{what} in {form}", placed(data), importing(data, *more), codes)


# --- distilled sets

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
        content[draw(st.sampled_from(["extra", "relabel.x", "teacher.x", "learning_rate", "soft_labels"]))] = (
            tensor.clone()
        )
    elif tensor.ndim:
        content[name] = tensor[: draw(st.integers(0, len(tensor) - 1))]
    never = name in ("images", "labels") and (what == "missing" or "nan" in what or "inf" in what)
    data = makers.distilled(content, makers.card_of(kind))
    return set_case("wrong sets", f"{what} of {name}, {kind}", data, draw(ways), (3,) if never else (0, 3))


WORDS = [
    "", "zca", "digits", "unit", "ConvNet", "../../etc", "\ud800", "\x00", "<script>", "a" * 5000, "folder:/",
    "npz:/dev/zero", "parquet:/dev/stdin", "npz:/dev/stdin", "folder:.", "ConvNetD1W99999999", "ConvNetD9", "ViT",
    "cifar10", "logits", "teacher", "recorded", "probabilities",
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


# --- data of one's own


def making(dataset: str, *more: str) -> tuple[str, ...]:
    return ("synthesize", "random", "--dataset", dataset, "--ipc", "1", "--out", "{out}", "--quiet", *more)


@st.composite
def array_cases(draw: st.DrawFn) -> Case:
    """NumPy archives: lying headers, bombs, labels out of range, objects, names that lead elsewhere."""
    arrays = dict(makers.data_npz())
    members = {f"{name}.npy": makers.npy(array) for name, array in arrays.items()}
    name = draw(st.sampled_from(sorted(members)))
    what = draw(
        st.sampled_from(
            [
                "spoiled",
                "spoiled",
                "member",
                "claim",
                "claim",
                "deep",
                "object",
                "labels",
                "type",
                "bomb",
                "traversal",
                "class names",
                "missing",
            ]
        )
    )
    codes: tuple[int, ...] = (3,)
    data = b""
    if what == "spoiled":
        data, codes = draw(spoiled(makers.zip_of(members.items()))), (0, 3)
    elif what == "member":
        members[name], codes = draw(spoiled(members[name])), (0, 3)
    elif what == "claim":
        shape = draw(
            st.sampled_from(
                [
                    "(10**12,)",
                    "(1000000000000,)",
                    "(9223372036854775807,)",
                    "(1000000, 1000000)",
                    "(-1,)",
                    "()",
                    "(20,)",
                    "(300000000,)",
                    "(20, 8, 8, 0)",
                    "(0,)",
                    "(1e9,)",
                    "('x',)",
                ]
            )
        )
        kind = draw(
            st.sampled_from(
                ["'|u1'", "'<i8'", "'<f4'", "'|V1000000000'", "'<U1000000'", "'O'", "[('a', '<i4')]", "'x'", "'|S9'"]
            )
        )
        members[name] = makers.npy_header(kind, shape, data=bytes(draw(st.sampled_from([0, 20, 160, 1280]))))
        codes, what = (0, 3), f"claim {kind} {shape}"
    elif what == "deep":
        members[name] = makers.npy_header("'|u1'", "(" * draw(st.sampled_from([90, 400, 3000])) + "1" + ")" * 3000)
        codes = (0, 3) if "test" in name else (3,)  # of no use to what is made
    elif what == "object":
        code = b"chostile_canary\nmark\n)R."
        members[name] = makers.npy_header("'|O'", "(1,)", data=b"\x80\x02" + code)
        codes = (0, 3) if "test" in name else (3,)
    elif what == "labels":
        value = draw(st.sampled_from([-1, 10**6, 2**31, 2**40, 2**62]))
        labels = arrays["y_train"].copy()
        labels[draw(st.integers(0, COUNT - 1))] = value
        members["y_train.npy"] = makers.npy(labels)
        what = f"label {value}"
    elif what == "type":
        kind = draw(
            st.sampled_from(["float64", "int16", "complex64", "bool", "float16", "uint64", "datetime64[s]", "S3", "U2"])
        )
        members[name], codes = makers.npy(arrays[name[:-4]].astype(kind)), (0, 3)
    elif what == "bomb":
        size = draw(st.sampled_from([2**28, 3 * 2**30]))
        head = makers.npy_header("'|u1'", f"({size // 64 - 2}, 8, 8)")
        plain = [(k, v) for k, v in members.items() if k != "x_train.npy"]
        data = makers.raw_zip([*plain, ("x.npy", head)], ("x_train.npy", size))
    elif what == "traversal":
        evil = draw(st.sampled_from(["../../user/thesis.tex", "/tmp/evil.npy", "../out/set.safetensors"]))
        members[evil], codes = members[name], (0, 3)
    elif what == "class names":
        value = draw(
            st.sampled_from(
                [
                    numpy.array(["a"] * 10),
                    numpy.array(["a", "b"]),
                    numpy.arange(10),
                    numpy.array("x"),
                    numpy.array(["\ud800" * 2] * 10),
                    numpy.array([], "U1"),
                ]
            )
        )
        members["class_names.npy"], codes = makers.npy(value), (0, 3)
    else:
        del members[name]
        codes = (0, 3)
    files = placed({"data.npz": data or makers.zip_of(members.items())})
    command = making("npz:{root}/in/data.npz", *draw(st.sampled_from([(), (), ("--size", "8"), ("--holdout", "0.2")])))
    return Case("arrays", what, files, command, tuple({*codes, 2}) if "--holdout" in command else codes)


@st.composite
def table_cases(draw: st.DrawFn) -> Case:
    """Parquet files: broken ones, pictures that are bombs, labels out of range, class names that are none."""
    what = draw(
        st.sampled_from(
            ["spoiled", "spoiled", "footer", "picture", "huge picture", "labels", "names", "metadata", "none", "many"]
        )
    )
    rows: list[bytes | None] = [makers.picture(each) for each in makers.pixels()]
    labels: Any = LABELS.tolist()
    index = draw(st.integers(0, COUNT - 1))
    codes: tuple[int, ...] = (3,)
    more: tuple[str, ...] = draw(st.sampled_from([(), ("--size", "8")]))
    data = b""
    if what == "spoiled":
        data, codes = draw(spoiled(makers.sound_parquet())), (0, 3)
    elif what == "footer":
        sound = makers.sound_parquet()
        start = len(sound) - 8 - struct.unpack("<I", sound[-8:-4])[0]
        data, codes = sound[:start] + draw(spoiled(sound[start:])), (0, 3)
    elif what == "picture":
        rows[index], codes = draw(spoiled(rows[index] or b"")), (0, 3)
    elif what == "huge picture":
        width, height = draw(
            st.sampled_from(
                [(100_000, 100_000), (2**31 - 1, 1), (7000, 7000), (0, 0), (2**31 - 1, 2**31 - 1), (1, 60_000_000)]
            )
        )
        body = draw(st.sampled_from([b"", makers.deflated_pixels(7000)]))
        rows[index] = makers.huge_png(width, height, body)
        codes, what = ((0, 3) if (width, height) == (7000, 7000) else (3,)), f"picture of {width} × {height}"
    elif what == "labels":
        labels[index] = draw(st.sampled_from([-1, None, 10, 2**31, 2**40, 2**62]))
        data = makers.parquet(rows, labels, *draw(st.sampled_from([(), (NAMES,), ([],)])))
        codes = (3,)
    elif what == "names":
        data, codes = makers.parquet(rows, labels, draw(junk)), (0, 3)
    elif what == "metadata":
        about = draw(st.sampled_from([b"[" * 10**5, b"{", b"null", b"\xff", b'{"info": []}', b"9" * 5000]))
        data, codes = makers.parquet(rows, labels, metadata=about), (0, 3)
    elif what == "none":
        rows[index] = None
    else:
        big = makers.huge_png(7000, 7000, makers.deflated_pixels(7000))
        count = draw(st.sampled_from([1000, 3000]))
        data = makers.parquet([big] * count, [k % 10 for k in range(count)])
        more = ()
    files = placed({"train.parquet": data or makers.parquet(rows, labels)})
    return Case("tables", what, files, making("parquet:{root}/in/train.parquet", *more), codes)


@st.composite
def picture_cases(draw: st.DrawFn) -> Case:
    """Folders of pictures, as data and as releases: pictures that are broken, huge, or no pictures."""
    forms = draw(st.sampled_from(["PNG", "PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"]))
    ending = {"JPEG": "jpg", "TIFF": "tif"}.get(forms, forms.lower())
    files = {f"new{k // 2:03d}/{k % 2}.{ending}": makers.picture(each, forms) for k, each in enumerate(makers.pixels())}
    name = draw(st.sampled_from(sorted(files)))
    what = draw(st.sampled_from(["spoiled", "spoiled", "huge", "not one", "16 bit", "empty", "name"]))
    codes: tuple[int, ...] = (0, 3)
    if what == "spoiled":
        files[name] = draw(spoiled(files[name]))
    elif what == "huge":
        size = draw(st.sampled_from([(100_000, 100_000), (50_000, 2_000), (2**31 - 1, 1)]))
        files[name], codes = makers.huge_png(*size), (3,)
    elif what == "not one":
        files[name] = draw(
            st.sampled_from(
                [
                    b"<svg onload='x'/>",
                    b"%PDF-1.4",
                    b"GIF89a",
                    b"",
                    b"\x89PNG\r\n\x1a\n",
                    b"%!PS-Adobe-3.0 EPSF-3.0\n(ran) (w) file\n",
                ]
            )
        )
        codes = (3,)
    elif what == "16 bit":
        files[name] = makers.picture(numpy.full((8, 8), draw(st.sampled_from([0, 65535])), numpy.uint16))
    elif what == "empty":
        del files[name]
    else:
        files["new999/x.png"] = files.pop(name)
    if draw(st.booleans()):
        command = importing(["release"])
        return Case(
            "pictures", f"{what} released", placed({f"release/{k}": v for k, v in files.items()}), command, codes
        )
    command = making("folder:{root}/in/data", *draw(st.sampled_from([(), ("--size", "8")])))
    return Case(
        "pictures", f"{what} of one's own", placed({f"data/train/{k}": v for k, v in files.items()}), command, codes
    )


@st.composite
def named_source_cases(draw: st.DrawFn) -> Case:
    """Files of MNIST and CIFAR-10 where the command looks for them: broken idx files, pickles, parquet."""
    what = draw(st.sampled_from(["idx", "idx", "idx shape", "idx labels", "cifar pickle", "parquet"]))
    name, codes = "mnist", (0, 3)
    files = dict(makers.mnist_files())
    path = draw(st.sampled_from(sorted(files)))
    if what == "idx":
        files[path] = draw(spoiled(files[path]))
    elif what == "idx shape":
        shape = tuple(draw(st.lists(st.sampled_from([0, 1, 20, 28, 2**31, 2**32 - 1, 15680]), min_size=0, max_size=4)))
        files[path] = makers.idx(
            numpy.zeros(draw(st.sampled_from([0, 20, 15680])), numpy.uint8),
            shape,
            draw(st.sampled_from([8, 9, 11, 13, 14, 0])),
        )
    elif what == "idx labels":
        labels = LABELS.numpy().astype(numpy.uint8)
        labels[draw(st.integers(0, COUNT - 1))] = draw(st.integers(10, 255))
        files["home/sources/mnist/torchvision/MNIST/raw/train-labels-idx1-ubyte"], codes = makers.idx(labels), (3,)
    elif what == "cifar pickle":
        name, codes = "cifar10", (3,)
        _, bad = draw(attacks())
        data = makers.pt({"data": bad, "labels": bad}, draw(st.integers(0, 5)), "bare")
        folder = "home/sources/cifar10/torchvision/cifar-10-batches-py"
        parts = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta"]
        files = {f"{folder}/{part}": data for part in parts}
    else:
        name, codes = "cifar10", (3,)  # of another size
        folder = "home/sources/cifar10"
        data = makers.sound_parquet()
        files = {f"{folder}/{part}.parquet": draw(spoiled(data)) for part in ("train", "test")}
    return Case("named sources", what, files, making(name), codes)


# --- TOML and results

SUITE = """title = "mine"
datasets = ["digits"]
methods = ["random", "dm"]
ipc = [1, 10]
seeds = [0, 1]
preset = "cpu"
protocols = ["quick-v1"]
reference = "none"
"""
RECIPE = """base = "dm"
title = "mine"
protocol = "dsa-v1"

[defaults]
iterations = 100

[cell.cifar10.10]
image_lr = 2.0

[preset.cpu]
iterations = 10
"""


@st.composite
def toml_cases(draw: st.DrawFn) -> Case:
    """Suites and recipes with unknown keys, keys that come twice, wrong types, no end, or damage."""
    suite = draw(st.booleans())
    text = SUITE if suite else RECIPE
    lines = text.splitlines()
    what = draw(
        st.sampled_from(
            ["spoiled", "spoiled", "unknown", "twice", "value", "value", "deep", "long", "encoding", "numbers"]
        )
    )
    codes: tuple[int, ...] = (2,)
    line = draw(st.sampled_from([k for k, each in enumerate(lines) if "=" in each]))
    key = lines[line].split(" = ")[0]
    data = b""
    if what == "spoiled":
        data, codes = draw(spoiled(text.encode())), (0, 2)
    elif what == "unknown":
        lines.insert(
            line,
            draw(
                st.sampled_from(
                    ["sedes = [1]", "x = 1", "__class__ = 2", "name2 = ''", "'' = 1", "[nothing]", "model_config = {}"]
                )
            ),
        )
    elif what == "twice":
        lines.insert(line, lines[line])
    elif what == "value":
        values = [
            "[]",
            "''",
            "'x'",
            "-1",
            "0",
            "true",
            "nan",
            "inf",
            "[[]]",
            "{}",
            "{a=1}",
            "1979-05-27",
            "['digits', 'digits']",
            "['../x']",
            "[1e400]",
            "[-1]",
            "9e99",
            "'a:b'",
            "['a:b']",
            "'mtt'",
        ]
        value = draw(st.sampled_from(values))
        lines[line], codes, what = f"{key} = {value}", (0, 2), f"{key} = {value}"
    elif what == "deep":
        depth = draw(st.sampled_from([100, 10**4, 10**5]))
        lines[line] = draw(
            st.sampled_from(
                [
                    f"{key} = " + "[" * depth,
                    "a." * depth + "b = 1",
                    f"{key} = " + "{a=" * depth,
                    "[" + "a." * depth + "b]",
                ]
            )
        )
    elif what == "long":
        lines[line], codes = (
            f"{key} = {draw(st.sampled_from(['9' * 5000, '[' + '1,' * 10**5 + ']', repr('x' * 10**6)]))}",
            (0, 2),
        )
    elif what == "encoding":
        data, codes = draw(st.sampled_from([b"\xff\xfe", b"\x00", b"\xef\xbb\xbf"])) + text.encode(), (0, 2)
    else:
        number = draw(st.sampled_from(["0", "-5", "9223372036854775808", "1" + "0" * 30, "1.5", "1e308"]))
        lines[line], codes = f"{key} = [{number}]" if suite and "[" in lines[line] else f"{key} = {number}", (0, 2)
    data = data or "\n".join(lines).encode()
    file = "{root}/in/mine.toml"
    command = ("bench", file, "--dry-run", "--quiet") if suite else ("recipe", "validate", file)
    if suite:
        codes = tuple({*codes, *((3,) if 0 in codes else ())})  # a dataset that is not there
    return Case(
        "TOML", f"{'suite' if suite else 'recipe'} {what}", placed({"mine.toml": data}), command, codes, makes_set=False
    )


ENTRY = """[mine]
method = "rded"
dataset = "digits"
ipc = 2
paper = "mine"
importer = "folder"
protocol = "rded-v1"
claim = { accuracy = 50.0, source = "mine" }
page = "https://example.org/PAGE"

[[mine.files]]
path = "pictures.zip"
member = "."
"""


@st.composite
def registry_cases(draw: st.DrawFn) -> Case:
    """Registries of published sets with unknown keys, addresses that are none, paths that lead elsewhere, damage."""
    lines = ENTRY.splitlines()
    what = draw(st.sampled_from(["spoiled", "unknown", "twice", "value", "path", "url", "deep", "long", "name"]))
    line = draw(st.sampled_from([k for k, each in enumerate(lines) if "=" in each]))
    key = lines[line].split(" = ")[0]
    data, codes = b"", (3,)
    if what == "spoiled":
        data, codes = draw(spoiled(ENTRY.encode())), (2, 3)
    elif what == "unknown":
        lines.insert(line, draw(st.sampled_from(["x = 1", "run = 'rm -rf /'", "'' = 1", "model_config = {}"])))
    elif what == "twice":
        lines.insert(line, lines[line])
    elif what == "value":
        values = ["[]", "''", "-1", "nan", "{}", "1979-05-27", "true", "9e99", "[[]]", "'x'"]
        lines[line] = f"{key} = {draw(st.sampled_from(values))}"
    elif what == "path":
        lines[-2] = f"path = {draw(st.sampled_from(['../x', '/etc/passwd', 'a/../../x', 'C:/x', '', '.', '..']))!r}"
    elif what == "url":
        addresses = ["file:///etc/passwd", "http://example.org/x", "ftp://x/y", "https://", "javascript:x", "x"]
        lines.append(f"urls = [{draw(st.sampled_from(addresses))!r}]")
    elif what == "name":
        lines[0], codes = draw(st.sampled_from(["[Mine]", "['../x']", "['']", "[mine.x]", "[[mine]]"])), (2, 3)
    else:
        lines[line] = f"{key} = " + ("[" * 10**5 if what == "deep" else "9" * 5000)
    files = {"r.toml": data or "\n".join(lines).encode()}
    command = ("download", "mine", "--registry", "{root}/in/r.toml", "--offline", "--quiet")
    return Case("registries", f"{what} {key}", placed(files), command, codes, makes_set=False)


DOWNLOAD = (
    "download", "mine", "--registry", "{root}/in/r.toml", "--offline", "--file", "{root}/in/pictures.zip", "--quiet",
)  # fmt: skip


def tar_of(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for entry, content in entries:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@st.composite
def archive_cases(draw: st.DrawFn) -> Case:
    """Archives of published sets: names that lead out of the folder, links, devices, bombs, damage."""
    pictures = [(f"set/new{k // 2:03d}/{k % 2}.png", makers.picture(each)) for k, each in enumerate(makers.pixels())]
    what = draw(st.sampled_from(["spoiled", "spoiled", "traversal", "link", "bomb", "duplicate", "nothing", "deep"]))
    tar, codes = draw(st.booleans()), (3,)
    entries = list(pictures)
    kind, target = tarfile.REGTYPE, ""
    if what == "traversal":
        names = ["../../../user/thesis.tex", "/tmp/evil", "set/../../x", "..\\x", "C:x", "set/new000/../../../x"]
        entries.insert(draw(st.integers(0, 20)), (draw(st.sampled_from(names)), b"evil"))
    elif what == "link":
        kind = draw(st.sampled_from([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]))
        target, tar = draw(st.sampled_from(["../../../user", "/etc", "set/new000/0.png"])), True
        entries.insert(draw(st.integers(0, 20)), ("set/link", b""))
    elif what == "duplicate":
        entries.append((pictures[draw(st.integers(0, 19))][0], b"again"))
    elif what == "nothing":
        entries, tar = [], False
    elif what == "deep":
        entries, codes = [("a/" * draw(st.sampled_from([100, 3000])) + "x.png", pictures[0][1])], (3,)
    if what == "bomb":
        data, tar = makers.raw_zip(pictures, ("set/new000/9.png", draw(st.sampled_from([2**29, 3 * 2**30])))), False
    elif tar:
        packed = []
        for name, content in entries:
            info = tarfile.TarInfo(name)
            if name == "set/link":
                info.type, info.linkname = kind, target
            packed.append((info, content))
        data = tar_of(packed)
    else:
        with warnings.catch_warnings(action="ignore"):
            data = makers.zip_of(entries)
    if what == "spoiled":
        data, codes = draw(spoiled(data)), (0, 2, 3)
    entry = ENTRY.replace("PAGE", hashlib.sha256(data).hexdigest())
    files = {"r.toml": entry.encode(), "pictures.zip": data}
    return Case("archives", f"{what}{' in tar' * tar}", placed(files), DOWNLOAD, codes, makes_set=False)


RESULT = {
    "kind": "score", "suite": "digits", "dataset": "digits", "method": "dm", "ipc": 1, "seed": 0, "preset": "cpu",
    "protocol": "quick-v1", "network": "ConvNetD2W64", "labels": "hard", "pixel_space": "normalized",
    "accuracies": [71.2, 70.5], "bytes": 2640, "synthesis": {"seconds": 3.0, "peak_memory_mb": 400.0}, "cell_key": "0",
}  # fmt: skip


@st.composite
def result_cases(draw: st.DrawFn) -> Case:
    """Results that somebody contributed, and a board made of them."""
    about: Any = RESULT
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(about)))
        value = draw(junk)
        about = replaced(about, path, lambda _, value=value: value)
        if not isinstance(about, dict):
            break
    data = json.dumps(about).encode()
    if draw(st.integers(0, 3)) == 0:
        data = draw(
            st.one_of(
                spoiled(data),
                st.just(b"[" * 10**5),
                st.just(b'{"kind": "score"'),
                st.just(b'{"x": ' + b"9" * 5000 + b"}"),
            )
        )
    sound = json.dumps(RESULT | {"method": "random"}).encode()
    folder = "out/results/digits/digits"
    files = {f"{folder}/dm/ipc1-seed0.quick-v1.json": data, f"{folder}/random/ipc1-seed0.quick-v1.json": sound}
    more = draw(st.sampled_from([(), ("--json",), ("--html", "{root}/out/board.html")]))
    return Case(
        "results",
        data[:300].decode("latin1"),
        files,
        ("leaderboard", "--results", "{root}/out/results", *more),
        (0, 3),
        makes_set=False,
    )


ALL = {
    "malicious pickles": pickle_cases(),
    "broken releases": broken_pt_cases(),
    "lying .pt files": lying_pt_cases(),
    "wrong values": wrong_value_cases(),
    "broken sets": broken_set_cases(),
    "lying sets": lying_set_cases(),
    "wrong sets": wrong_set_cases(),
    "cards": card_cases(),
    "arrays": array_cases(),
    "tables": table_cases(),
    "pictures": picture_cases(),
    "named sources": named_source_cases(),
    "TOML": toml_cases(),
    "results": result_cases(),
    "registries": registry_cases(),
    "archives": archive_cases(),
}


def sound_cases() -> list[Case]:
    """Of every kind a file that nothing is wrong with: what the others are changes of."""
    cases = [
        Case("sound", form, placed(files), importing(files, *more), (0,))
        for form, (files, more) in makers.released().items()
    ]
    cases += [set_case("sound", kind, makers.sound_set(kind), LOOK, (0,)) for kind in makers.KINDS]
    cases += [
        Case("sound", f"use of {kind}", placed({"set.safetensors": makers.sound_set(kind)}), USE, (0,), makes_set=False)
        for kind in makers.KINDS
    ]
    pictures = {f"new{k // 2:03d}/{k % 2}.png": makers.picture(each) for k, each in enumerate(makers.pixels())}
    arrays = {"data.npz": makers.npz(**makers.data_npz())}
    archive = makers.zip_of((f"set/{name}", content) for name, content in pictures.items())
    suite = ("bench", "{root}/in/mine.toml", "--dry-run", "--quiet")
    replay = {"replay_buffer_0.pt": makers.pt(makers.replay_buffer())}
    entry = {"r.toml": ENTRY.replace("PAGE", "sound").encode(), "pictures.zip": archive}
    results = {"out/results/digits/digits/dm/ipc1-seed0.quick-v1.json": json.dumps(RESULT).encode()}
    board = ("leaderboard", "--results", "{root}/out/results")
    return [
        *cases,
        Case("sound", "arrays", placed(arrays), making("npz:{root}/in/data.npz"), (0,)),
        Case(
            "sound", "table", placed({"t.parquet": makers.sound_parquet()}), making("parquet:{root}/in/t.parquet"), (0,)
        ),
        Case(
            "sound",
            "folder",
            placed({f"d/train/{k}": v for k, v in pictures.items()}),
            making("folder:{root}/in/d"),
            (0,),
        ),
        Case("sound", "released folder", placed({f"d/{k}": v for k, v in pictures.items()}), importing(["d"]), (0,)),
        Case("sound", "mnist", makers.mnist_files(), making("mnist"), (0,)),
        Case("sound", "experts", placed(replay), EXPERTS, (0,), makes_set=False),
        Case("sound", "suite", placed({"mine.toml": SUITE.encode()}), suite, (0,), makes_set=False),
        Case("sound", "recipe", placed({"mine.toml": RECIPE.encode()}), RECIPE_CHECK, (0,), makes_set=False),
        Case("sound", "results", results, board, (0,), makes_set=False),
        Case("sound", "archive", placed(entry), DOWNLOAD, (0,), makes_set=False),
    ]
