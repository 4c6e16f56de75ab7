"""Files that know their content: damage anywhere in them is noticed, and counts as missing."""

import json
import random

import pytest

from distill_bench.runtime.stored import (
    Damaged,
    beside,
    is_intact,
    is_unchanged,
    is_whole,
    read_bytes,
    read_json,
    sum_of,
    with_sum,
    write_bytes,
    write_json,
    write_with_sum,
)

CONTENT = {"accuracy": 85.9, "seconds": 1e-3, "name": "é", "nested": {"2": [1, None, True]}, "empty": {}}


def flips(data: bytes, count: int) -> list[bytes]:
    draw, spoiled = random.Random(0), []
    for _ in range(count):
        place, bit = draw.randrange(len(data)), 1 << draw.randrange(8)
        spoiled.append(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
    return spoiled


def cuts(data: bytes) -> list[bytes]:
    return [data[:end] for end in range(0, len(data), 7)] + [data + b"\0", data + data]


def test_json_comes_back_as_it_was_written_without_its_sum(tmp_path, caplog):
    write_json(tmp_path / "a.json", CONTENT | {"tuple": (1, 2), 3: "three"})
    assert read_json(tmp_path / "a.json", "accuracy") == CONTENT | {"tuple": [1, 2], "3": "three"}
    assert read_json(tmp_path / "none.json") is None and not caplog.messages


def test_no_flip_and_no_cut_of_json_gives_another_content(tmp_path, caplog):
    path, noticed = tmp_path / "a.json", 0
    write_json(path, CONTENT)
    for spoiled in [*flips(path.read_bytes(), 500), *cuts(path.read_bytes())]:
        path.write_bytes(spoiled)
        caplog.clear()
        found = read_json(path)
        assert found == CONTENT or (found is None and str(path) in caplog.text)
        noticed += found is None
    assert noticed > 450  # others changed what JSON does not mean, such as the last line break


@pytest.mark.parametrize("content", [{}, {"accuracy": 1.0}, {"accuracy": 1.0, "sum": 5}, [], "sum"])
def test_json_without_a_sum_of_its_own_counts_as_none(tmp_path, content, caplog):
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert read_json(tmp_path / "a.json") is None and "a.json" in caplog.text


def test_a_sum_is_of_what_json_says_and_not_of_how():
    whole = with_sum(CONTENT)
    assert is_whole(json.loads(json.dumps(whole, indent=3))) and is_whole(dict(reversed(whole.items())))
    assert with_sum(whole) == whole and not is_whole(CONTENT)
    assert not is_whole(whole | {"accuracy": 85.90000000000002})


def test_bytes_come_back_and_no_flip_or_cut_does(tmp_path):
    path, content = tmp_path / "a", bytes(range(256)) * 3
    for written in (b"", content):
        write_bytes(path, written)
        assert read_bytes(path) == written
    for spoiled in [*flips(path.read_bytes(), 300), *cuts(path.read_bytes())]:
        path.write_bytes(spoiled)
        with pytest.raises(Damaged):
            read_bytes(path)


def test_a_file_with_its_sum_beside_it(tmp_path, caplog):
    path = tmp_path / "a.safetensors"
    assert not is_intact(path) and not caplog.messages  # not there, which is no damage
    write_with_sum(path, b"content", {"seconds": 1.0})
    assert is_intact(path) and read_json(beside(path))["seconds"] == 1.0
    path.write_bytes(b"contend")
    assert is_unchanged(path) is False and not is_intact(path) and str(path) in caplog.text
    beside(path).unlink()
    assert is_unchanged(path) is None and not is_intact(path)


def test_what_is_replaced_counts_until_it_is(tmp_path, monkeypatch):
    """A kill between the two writes leaves the old file, whole, beside the new sum."""
    path = tmp_path / "a.safetensors"
    write_with_sum(path, b"old", {})
    monkeypatch.setattr("distill_bench.runtime.stored.write_atomically", lambda *_: None)
    monkeypatch.setattr("distill_bench.runtime.stored.write_json", write_json_really)
    write_with_sum(path, b"new", {})
    assert path.read_bytes() == b"old" and is_unchanged(path)
    path.write_bytes(b"new")
    assert is_unchanged(path)


def write_json_really(path, content):
    path.write_text(json.dumps(with_sum(content)))


def test_what_was_damaged_does_not_count_while_it_is_replaced(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_with_sum(path, b"old", {})
    path.write_bytes(b"bad")
    monkeypatch.setattr("distill_bench.runtime.stored.write_atomically", lambda *_: None)
    monkeypatch.setattr("distill_bench.runtime.stored.write_json", write_json_really)
    write_with_sum(path, b"old", {})
    assert not is_unchanged(path)


def test_a_sum_is_computed_anew_when_the_file_was_written_again(tmp_path):
    path = tmp_path / "a"
    found = set()
    for content in (b"one", b"two", b"one"):
        path.write_bytes(content)
        found.add(sum_of(path))
    assert len(found) == 2
