"""Values that somebody, or a script with an empty variable, may give to an option, each with its name."""

import io
import os
import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NUMBERS = {
    "zero": "0",
    "minus zero": "-0.0",
    "minus one": "-1",
    "a half": "0.5",
    "one and a half": "1.5",
    "exponent": "1e3",
    "largest exponent": "1e308",
    "beyond floats": "1e999",
    "smallest float": "5e-324",
    "not a number": "nan",
    "infinity": "inf",
    "minus infinity": "-inf",
    "10**30": str(10**30),
    "2**31": str(2**31),
    "2**63": str(2**63),
    "-2**63": str(-(2**63)),
    "5000 digits": "9" * 5000,
    "hexadecimal": "0x10",
    "Arabic digit": "٣",
    "full-width digit": "１",
    "superscript": "²",
    "fraction sign": "½",
    "underscores": "1_000",
    "thousands": "1,000",
    "spaces around": " 7 ",
    "percent": "20%",
    "yes": "yes",
    "True": "True",
    "null": "null",
}
TEXTS = {
    "empty": "",
    "a space": " ",
    "a tabulator": "\t",
    "NUL": "a\0b",
    "lone surrogate": "a\udcffb",
    "newline": "a\nerror: b",
    "carriage return": "a\rb",
    "escape codes": "\x1b[2J\x1b]0;title\x07",
    "C1 control": "a\x9bb",
    "right to left": "\u202egnp.exe",
    "zero width": "di\u200bgits",
    "combining": "cafe\u0301",
    "composed": "caf\xe9",
    "emoji": "👩‍👩‍👧‍👦",
    "300 characters": "x" * 300,
    "300 wide ones": "漢" * 300,
    "20,000 characters": "y" * 20_000,
    "two hyphens": "--",
    "option": "--help",
    "short option": "-v",
    "a hyphen": "-",
    "id": "dm-cifar10-ipc1",
    "id of none": "no-such-set-ipc1",
    "nonsense function": "no_such_module:function",
    "function without module": ":function",
    "module without function": "json:",
    "no function": "json:__name__",
    "class of the library": "collections:OrderedDict",
    "quits": "awkward_module:anything",
    "raises": "awkward_module:raises",
    "colons": ":::",
    "glob": "*",
    "glob of letters": "[a-",
    "shell": "$(touch ran); `touch ran`",
    "HTML": "<script>alert(1)</script>",
    "template": "{{ 7*7 }} {0} %s %(a)s",
    "markup": "[red]a[/red][/]",
    "quotes": "\"'",
    "backslashes": "..\\..\\a",
    "JSON": '{"a": [1, 2]}',
    "deep JSON": "[" * 5000,
    "commas": ",,,",
    "many names": ",".join(f"c{number}" for number in range(3_000)),
    "twice": "0,0",
    "address": "https://example.org/set.safetensors",
    "file address": "file:///etc/passwd",
    "broken address": "http://[",
}
SETTINGS = {
    "setting without value": "image_lr",
    "setting without name": "=1",
    "setting too large": "image_lr=1e308",
    "setting not a number": "image_lr=nan",
    "setting is a list": "iterations=[1",
    "setting is a table": "teacher={epochs = 1}",
    "setting with dots": "a.b..c=1",
    "setting of itself": "__class__=1",
}
PATHS = {
    "here": ".",
    "above": "..",
    "root": "/",
    "home": "~",
    "home of nobody": "~nobody-here/x",
    "5000 characters": "a/" * 2500,
    "null device": "/dev/null",
    "full device": "/dev/full",
    "zeros": "/dev/zero",
    "pipe": "pipe",
    "socket": "socket",
    "folder": "folder",
    "folder with an ending": "folder.safetensors",
    "closed folder": "closed/x",
    "below proc": "/proc/none/x.safetensors",
    "file of proc": "/proc/self/mem",
    "below a file": "text.txt/x",
    "below a file, by dots": "text.txt/../set.safetensors",
    "closed file": "closed.bin",
    "empty file": "empty.bin",
    "text": "text.txt",
    "JSON of nulls": "null.json",
    "deep JSON file": "deep.json",
    "JSON lines": "null.jsonl",
    "broken TOML": "broken.toml",
    "empty TOML": "empty.toml",
    "deep TOML": "deep.toml",
    "broken link": "broken",
    "circular link": "circle",
    "link to the root": "root",
    "name with a newline": "new\nline.bin",
    "name of no UTF-8": "no\udcffutf8.bin",
    "name of an option": "-rf",
    "glob of sets": "*.safetensors",
}
DATA = {
    "npz of nothing": "npz:",
    "npz of a pipe": "npz:pipe",
    "npz of zeros": "npz:/dev/zero",
    "npz of a folder": "npz:folder",
    "npz labels of 2**63": "npz:labels.npz",
    "npz of many classes": "npz:many.npz",
    "parquet of nothing": "parquet:",
    "parquet of a pipe": "parquet:pipe",
    "parquet of zeros": "parquet:/dev/full",
    "parquet twice a column": "parquet:twice.parquet",
    "parquet labels of 2**63": "parquet:labels.parquet",
    "parquet that unfolds": "parquet:unfolds.parquet",
    "parquet of many rows": "parquet:rows.parquet",
    "parquet of one large page": "parquet:page.parquet",
    "folder of nothing": "folder:",
    "folder of the root": "folder:/",
    "folder of a circle": "folder:circle",
    "folder of pipes": "folder:pipes",
    "folder of many classes": "folder:many",
    "folder of a file": "folder:text.txt",
    "unknown kind of data": "zip:folder",
}
MANY = 3000
"""Classes: more than a dataset of this size has."""


def picture(value: int = 7, side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def plant(root: Path) -> None:
    """All that the values name, into a folder."""
    (root / "text.txt").write_text("no data\n")
    (root / "empty.bin").touch()
    (root / "closed.bin").write_bytes(b"closed")
    (root / "closed.bin").chmod(0)
    (root / "null.json").write_text("null")
    (root / "null.jsonl").write_text("null\n{}\n[]\n")
    (root / "deep.json").write_text("[" * 100_000)
    (root / "broken.toml").write_text("a = [")
    (root / "empty.toml").touch()
    (root / "deep.toml").write_text("a = " + "[" * 100_000)
    (root / "new\nline.bin").write_bytes(b"text")
    (root / "no\udcffutf8.bin").write_bytes(b"text")
    (root / "awkward_module.py").write_text(
        "import sys\n\ndef __getattr__(name):\n    sys.exit(7)\n\ndef raises(*_, **__):\n    raise KeyError('x')\n"
    )
    os.mkfifo(root / "pipe")
    _socket(root / "socket")
    for name in ("folder", "folder.safetensors", "closed", "many"):
        (root / name).mkdir()
    (root / "folder" / "kept.txt").write_text("kept")
    (root / "closed").chmod(0o500)
    (root / "broken").symlink_to("nowhere")
    (root / "circle").symlink_to("circle")
    (root / "root").symlink_to("/")
    for number in range(30):
        (root / "many" / "train" / f"c{number}").mkdir(parents=True)
    (root / "pipes" / "train" / "a").mkdir(parents=True)
    os.mkfifo(root / "pipes" / "train" / "a" / "0.png")
    pixels = np.zeros((MANY, 8, 8), np.uint8)
    np.savez(root / "many.npz", images=pixels, labels=np.arange(MANY))
    np.savez(root / "labels.npz", images=pixels[:2], labels=np.array([0, 2**63], np.uint64))
    _parquets(root)


def _socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # whose whole name may be too long for one
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(before)


def _parquets(root: Path) -> None:
    def write(name: str, images: pa.Array, labels: pa.Array, **options: object) -> None:
        pq.write_table(pa.Table.from_arrays([images, labels], ["image", "label"]), root / name, **options)

    one, large = pa.array([picture()]), pa.array([picture() + bytes(8_000_000)])
    twice = pa.Table.from_arrays([one, one, pa.array([0])], ["image", "image", "label"])
    pq.write_table(twice, root / "twice.parquet")
    write("labels.parquet", pa.array([picture()] * 2), pa.array([0, 2**63], pa.uint64()))

    def repeated(value: pa.Array, rows: int) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), value)

    options = {"compression": "zstd", "store_schema": False, "dictionary_pagesize_limit": 2**30}
    for name, value, rows in (("unfolds", large, 2000), ("rows", one, 1_000_000)):
        write(f"{name}.parquet", repeated(value, rows), repeated(pa.array([0]), rows).cast(pa.int64()), **options)
    write("page.parquet", pa.array([picture() + bytes(2**25)]), pa.array([0]), **options | {"use_dictionary": False})
