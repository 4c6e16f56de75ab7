"""Names from outside do nothing where they are shown: on a terminal, in a board, a spreadsheet, a page or a figure."""

import csv
import io
import json
import logging
import re
import tomllib

import pytest
import torch
import yaml
from result_files import score, write

from distill_bench import DistilledSet
from distill_bench.benchmark.leaderboard import board, render, render_page, sources_of, tables
from distill_bench.benchmark.leaderboard.collect import leaderboard_rows
from distill_bench.benchmark.leaderboard.figures import accuracy_figure
from distill_bench.distilled.card import Origin
from distill_bench.distilled.distilled_set import load_distilled
from distill_bench.errors import DataError, UsageError
from distill_bench.hub.formats.result_file import parse_result
from distill_bench.hub.publish import release
from distill_bench.runtime.log import log
from distill_bench.runtime.progress import StreamMonitor
from distill_bench.runtime.text import for_csv, for_json, for_markdown, for_terminal

ESCAPE, OSC, NEWLINE, C1, BIDI, SURROGATE = (chr(code) for code in (27, 0x9D, 10, 0x9B, 0x202E, 0xDCFF))
OBEYED = (
    f"{ESCAPE}[2J",
    f"{ESCAPE}]0;title\a",
    f"{OSC}52;c;x",
    f"a{NEWLINE}error: all is lost",
    C1,
    BIDI,
    SURROGATE,
    "\r",
)
ODD = (
    "a|b",
    "<script>alert(1)</script>",
    "=1+1",
    "@SUM(A1)",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "$x$",
    "$\\bad{",
    "_hidden",
)


def blank_set(digits, **card):
    return DistilledSet.from_tensors(torch.zeros(10, 1, 8, 8), torch.arange(10), digits, **card)


def harmless(text: str) -> bool:
    return not any(character in text for character in (ESCAPE, OSC, C1, BIDI, SURROGATE, "\r", "\a"))


@pytest.mark.parametrize("name", OBEYED)
def test_a_terminal_shows_what_it_would_obey(name):
    shown = for_terminal(name)
    assert harmless(shown) and NEWLINE not in shown
    assert shown.encode().decode("unicode_escape") == name  # nothing is lost
    assert for_terminal("Katze, 猫, é ± – |<$>") == "Katze, 猫, é ± – |<$>"


def test_markdown_reads_as_the_text():
    assert for_markdown("a|b") == "a\\|b"
    assert for_markdown("<script>") == "&lt;script&gt;"
    assert for_markdown("&lt; R&D, a & b") == "&amp;lt; R&amp;D, a & b"
    assert for_markdown("*a* [b](c) `d` #e ~f \\") == "\\*a\\* \\[b\\](c) \\`d\\` \\#e \\~f \\\\"
    assert for_markdown("_a_ fashion_mnist") == "\\_a\\_ fashion_mnist"
    assert for_markdown("a\n\n# b") == "a \\# b"


@pytest.mark.parametrize("text", ["=1", "+1+1", "-1-1", "@x", "＝1", "=\t1"])
def test_no_spreadsheet_computes_a_cell(text):
    assert for_csv(text) == "'" + for_terminal(text)


@pytest.mark.parametrize("value", ["-1.5", "+3", -1.5, 3, None, "dm", "a=b", " x"])
def test_what_is_no_formula_stays_as_it_is(value):
    assert for_csv(value) == value


@pytest.mark.parametrize("name", [*OBEYED[:-2], "\r", *ODD])
def test_json_gives_the_name_back_and_shows_nothing_that_is_obeyed(name):
    text = for_json({"a": [name]}, indent=1)
    assert harmless(text)
    assert json.loads(text) == {"a": [name]}
    assert tomllib.loads(f"x = {for_json(name)}")["x"] == name == yaml.safe_load(for_json(name))


@pytest.mark.parametrize("name", ODD)
def test_a_board_with_odd_names_has_its_cells_and_no_others(name, tmp_path):
    folder = write(tmp_path / "results", [score(method=name, dataset=name, suite=name)])
    render(board(folder), tmp_path)
    text = (tmp_path / "leaderboard.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| 1 |")]
    assert len(re.split(r"(?<!\\)\|", row)) == len(tables.COLUMNS) + 2
    assert "<script" not in text
    (cells,) = csv.DictReader(io.StringIO((tmp_path / "leaderboard.csv").read_text()))
    assert cells["method"].removeprefix("'") == name and not cells["method"].startswith(("=", "+", "-", "@"))
    assert cells["accuracy"] == "89.0"
    render_page(sources_of([folder]), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert re.findall("<script.*?>", page) == ['<script type="application/json" id="data">', "<script>"]
    assert json.loads(page.split('id="data">')[1].split("</script>")[0])["rows"][0]["method"] == name


def test_figures_draw_dollars_and_underscores_as_they_are(monkeypatch):
    rows = leaderboard_rows([score(method=name, dataset=name, suite=name) for name in ODD])
    monkeypatch.setattr("matplotlib.mathtext.MathTextParser.parse", lambda *_, **__: pytest.fail("read as mathematics"))
    assert accuracy_figure(rows)[:4] == b"\x89PNG"


@pytest.mark.parametrize("field", ["suite", "dataset", "method", "preset", "network", "protocol", "pixel_space"])
@pytest.mark.parametrize("name", [f"{ESCAPE}[31mred", f"a{NEWLINE}b", "", "x" * 5000])
def test_a_result_with_a_name_that_cannot_be_shown_is_left_out_and_said(field, name, tmp_path, caplog):
    good, bad = score(), score(seed=1, **{field: name})
    folder = write(tmp_path / "results", [good, bad])
    assert board(folder) == leaderboard_rows([good])
    assert f"its {field}" in caplog.text and "left out" in caplog.text
    assert harmless(caplog.text)


@pytest.mark.parametrize("name", OBEYED)
def test_progress_shows_names_as_they_are(name, capsys):
    StreamMonitor().say(f"cell {name}", "second line")
    said = capsys.readouterr().err
    assert harmless(said)
    assert said == f"cell {for_terminal(name)}\nsecond line\n"


def test_a_bar_shows_brackets_and_escapes_as_text(capsys, monkeypatch):
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with StreamMonitor().stage(f"[red]{BIDI}x", 10) as stage:
        stage.note("[/blink]")
        assert stage._bar.tasks[0].description == "[red]\\u202ex"
        assert "[/blink]" in stage._bar.columns[-1].render(stage._bar.tasks[0]).plain
    assert "[red]" in capsys.readouterr().err


@pytest.mark.parametrize("name", OBEYED)
def test_the_log_shows_names_as_they_are(name, caplog):
    with caplog.at_level(logging.WARNING):
        log.warning("cannot read %s", name)
    assert caplog.messages == [f"cannot read {for_terminal(name)}"]


@pytest.mark.parametrize("name", OBEYED)
@pytest.mark.parametrize(
    "words",
    [("info",), ("evaluate",), ("measure",), ("render", "--out", "x.png"), ("bench",), ("recipe", "show"),
     ("download",), ("verify", "x.safetensors"), ("import", "--dataset", "digits", "--out", "x.safetensors"),
     ("list",),
     ("experts", "show"), ("leaderboard", "--results"), ("export", "--to", "res", "--out", "x.pt"),
     ("publish", "--to", "folder", "--out", "x"),
     ("synthesize", "--dataset", "digits", "--ipc", 1, "--out", "x.safetensors")],
)  # fmt: skip
def test_an_error_is_one_line_that_does_nothing(command, words, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, error = command(*words, name, *(["transfer"] if words == ("measure",) else []))
    assert code in (2, 3) and out == ""
    assert harmless(error) and "Traceback" not in error
    assert error.startswith("error: ") and error.count(NEWLINE) == 1


def test_lines_of_our_own_below_an_error_stay_lines(command, monkeypatch):
    error = UsageError("look:", "a  b", f"c{ESCAPE}")
    assert str(error) == f"look:\na  b\nc{ESCAPE}"

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("distill_bench.methods.recipe.load_recipe", fail)
    assert command("recipe", "validate", "dm") == (2, "", "error: look:\na  b\nc\\x1b\n")


def test_what_a_set_says_of_its_origin_reaches_the_terminal_as_text(command, digits, tmp_path, capsys):
    name = f"a{ESCAPE}]0;x\a{NEWLINE}b{C1}"
    origin = Origin(form="res", files={name: "0" * 64}, assumptions=(name,))
    blank_set(digits, origin=origin, recipe={"note": name}).save(tmp_path / "set.safetensors")
    code, out, _ = command("info", tmp_path / "set.safetensors")
    assert code == 0 and harmless(out)
    assert json.loads(out)["card"]["recipe"]["note"] == name


@pytest.mark.parametrize("name", [*ODD, "a.b", "`x`", "猫", 'say "x"', "a\\b", "# c", "{{ 7 * 7 }}"])
def test_a_method_of_any_name_is_published_as_it_is(digits, name, tmp_path):
    blank_set(digits, method=name).save(tmp_path / "set.safetensors")
    ready = release(tmp_path / "set.safetensors", name="a-set")
    text = ready.files["README.md"].decode()
    assert yaml.safe_load(text.split("---\n")[1])["tags"][2] == name
    (row,) = [line for line in text.splitlines() if line.startswith("| method |")]
    assert row == f"| method | {for_markdown(name)} |"
    assert "<script" not in text.split("---\n")[2]
    assert tomllib.loads(ready.files["registry-entry.toml"].decode())["a-set"]["method"] == name
    assert load_distilled(tmp_path / "set.safetensors").card.method == name


@pytest.mark.parametrize(
    ("option", "text"), [("licence", "a\x7fb"), ("licence", SURROGATE), ("url", "https://a.b/\nc")]
)
def test_what_is_said_of_a_release_can_be_printed_too(digits, option, text, tmp_path):
    blank_set(digits).save(tmp_path / "set.safetensors")
    with pytest.raises(UsageError, match=f"--{option}.*has the character"):
        release(tmp_path / "set.safetensors", **{option: text})


@pytest.mark.parametrize("field", ["method", "dataset", "network", "protocol", "pixel_space"])
def test_a_result_that_is_verified_has_names_that_can_be_printed(field, tmp_path):
    content = score(accuracies=(50.0,)).model_dump(mode="json")
    assert parse_result(json.dumps(content), tmp_path / "r.json").method == "dm"
    content[field] = f"x{ESCAPE}[31m"
    with pytest.raises(DataError, match=f"its {field}.*has the character"):
        parse_result(json.dumps(content), tmp_path / "r.json")
