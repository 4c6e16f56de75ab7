"""Suites, recipes, results, registries, and the archives that these lead to."""

import hashlib
import io
import json
import tarfile
import warnings
from typing import Any

import makers
from arena import Case
from common import placed, spoiled
from hypothesis import strategies as st
from own_format import junk, places, replaced

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
    "networks": 2, "accuracies": [71.0, 70.0], "accuracy": 70.5, "std": 0.5,
    "ci_low": 64.14689763191265, "ci_high": 76.85310236808735,
    "learning_rate": 0.01, "strict": False, "set_sha256": "0", "train_fingerprint": "0", "test_fingerprint": "0",
    "bytes": 2640, "synthesis": {"seconds": 3.0, "peak_memory_mb": 400.0}, "cell_key": "0",
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
    if draw(st.booleans()):
        files = {"out/results/digits.jsonl": b"\n".join([sound, data.replace(b"\n", b" "), b""])}
    more = draw(st.sampled_from([(), ("--json",), ("--html", "{root}/out/board.html")]))
    return Case(
        "results",
        data[:300].decode("latin1"),
        files,
        ("leaderboard", "--results", "{root}/out/results", *more),
        (0, 3),
        makes_set=False,
    )
