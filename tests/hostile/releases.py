"""Files that methods released: pickles that run code, .pt files that are broken, lie, or hold wrong values."""

import io
import pickle
import struct
import warnings
from typing import Any

import makers
import torch
from arena import Case
from common import EXPERTS, importing, placed, spoiled
from hypothesis import strategies as st
from makers import COUNT, LABELS, Raw, images

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
