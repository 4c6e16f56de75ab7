"""Data of one's own, and the files of named sources."""

import struct
from typing import Any

import makers
import numpy
from arena import Case
from common import importing, placed, spoiled
from hypothesis import strategies as st
from makers import COUNT, LABELS, NAMES
from own_format import junk
from releases import attacks


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
