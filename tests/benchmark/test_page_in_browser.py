"""The page in headless Chromium: it sorts, filters, opens rows, keeps that in the address, and asks for nothing."""

import json

import pytest
from chromium import CHROMIUM, found_in
from result_files import claim, failure, full, score

from distill_bench.benchmark.leaderboard import Source, merged_rows
from distill_bench.benchmark.leaderboard.page.render import page
from distill_bench.benchmark.leaderboard.page.rows import page_data
from distill_bench.evaluation import Synthesis
from distill_bench.evaluation.compare import with_half_width

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
    pytest.mark.timeout(90),
]
HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
VALUES = [
    (0.64, 0.56), (0.64, 0.6), (-0.02, 0.56), (0.02, None), (-0.004, 0.004), (1.1, 1.1), (88.06, 0.41), (-1.5, 0.04),
    (0.25, 0.35), (0.125, 0.0625), (-0.75, 0.75), (80.35, 12.25), (99.95, 0.05), (0.0, 0.0), (1.0499999, 0.0999999),
]  # fmt: skip
READ = """
const rows = () => [...document.querySelectorAll("#rows tbody tr[data-id]")];
const column = name => [...document.querySelectorAll("#rows thead th")].findIndex(th => th.textContent === name);
const cells = name => rows().map(row => row.children[column(name)].textContent.trim());
const methods = () => cells("Method");
const pick = (id, value) => { $(id).value = value; $(id).dispatchEvent(new Event("change")); };
const type = value => { $("q").value = value; $("q").dispatchEvent(new Event("input")); };
"""


def results():
    papers = {"protocol": "dsa-v1", "network": "ConvNetD3", "preset": "paper", "accuracies": (70.0, 71.0, 69.5)}
    digits = [
        score("random", 1, accuracies=(60.0, 61.0)), score("dm", 1, accuracies=(80.0, 81.0)),
        score("datm", 1, accuracies=(80.2, 81.2), labels="soft", notes=("a doubt",)),
        score("random", 10, accuracies=(90.0, 91.0)), score("dm", 10, accuracies=(95.0, 96.0)),
        score("dsa", 10, protocol="standard-v1", strict=True, labels="teacher"), failure("mtt", 10), full(),
        score("mtt", 2, **papers), score("mtt", 2, pixel_space="zca", **papers),
    ]  # fmt: skip
    own = [score(f"own-{i}", 1, dataset="folder:photos", accuracies=(50.0 + i, 50.5 + i)) for i in range(11)]
    own.append(score("me", 1, dataset="folder:photos", accuracies=(40.0, 40.5)))
    own.append(own[0].model_copy(update={"preset": "small (one-suite-of-mine, another-suite-of-mine)"}))
    return [score(HOSTILE, 1, dataset=HOSTILE), *own, *digits]


@pytest.fixture(scope="module")
def text():
    sources = [Source("checkout", results()), Source("here", [score("dm", 1, accuracies=(70.0, 71.5))])]
    claims = [claim("mtt", ipc=2, accuracy=80.0, std=0.4)]
    return page(page_data(merged_rows(sources, claims), claims))


@pytest.fixture
def look(tmp_path, text):
    def look(script, **options):
        found = found_in(tmp_path, text, READ + script, **options)
        assert (found.get("error"), found["console"], found["requests"]) == (None, [], [])
        return found

    return look


def test_it_sorts_by_every_header_and_says_so(look):
    found = look("""
        const press = name => document.querySelectorAll("#rows thead button")[column(name)].click();
        const way = name => document.querySelectorAll("#rows thead th")[column(name)].getAttribute("aria-sort");
        found.first = [methods(), way("Rank")];
        press("Accuracy ± (%)");
        found.down = [cells("Accuracy ± (%)"), way("Accuracy ± (%)")];
        press("Accuracy ± (%)");
        found.up = [cells("Accuracy ± (%)"), way("Accuracy ± (%)"), document.activeElement.id];
        found.headers = document.querySelectorAll("#rows thead th").length;
        found.buttons = document.querySelectorAll("#rows thead th > button").length;
        for (const button of [...document.querySelectorAll("#rows thead button")]) $(button.id).click();
        found.hash = location.hash;
    """, address="#dataset=digits")  # fmt: skip
    assert found["first"] == [["datm", "dm", "dm here", "random", "dm", "random", "mtt"], "ascending"]
    *scored, last = found["down"][0]
    numbers = [float(cell.split(" ")[0]) for cell in scored]
    assert numbers == sorted(numbers, reverse=True) and last.startswith("failed")
    assert found["down"][1] == "descending"
    assert found["up"][0] == [*reversed(scored), last]
    assert found["up"][1:] == ["ascending", "s-accuracy"]
    assert found["headers"] == found["buttons"] >= 10
    assert "sort=" in found["hash"]


def test_it_filters_searches_and_keeps_that_in_the_address(look):
    found = look("""
        pick("f-budget", "10"); found.ipc = methods();
        pick("f-budget", "all"); pick("f-labels", "soft"); found.soft = methods();
        pick("f-labels", "all"); pick("f-protocol", "all"); found.all = methods().length;
        pick("f-origin", "here"); found.here = methods();
        $("reset").click(); type("DM her"); found.searched = methods();
        found.hash = location.hash; found.focus = document.activeElement.id;
        type("nothing like it"); found.said = $("said").textContent; found.none = methods();
        $("said").querySelector("button").click(); found.widened = [methods().length, document.activeElement.id];
        pick("f-protocol", "all");
        const search = text => { type(text); return methods(); };
        found.shown = ["STRICT", "per view", "soft, fixed", "ipc 10", "10"].map(search);
        $("reset").click(); pick("f-budget", "2"); found.budget = [...$("f-budget").options].map(each => each.text);
        found.other = $("said").textContent; $("said").querySelector("button:last-of-type").click();
        found.protocols = methods();
        $("reset").click(); type("dm her");
        location.hash = found.hash;
        await new Promise(done => setTimeout(done, 50));
        found.again = [methods(), $("q").value];
    """, address="#dataset=digits")  # fmt: skip
    assert found["ipc"] == ["dm", "random", "mtt"]
    assert found["soft"] == ["datm", "mtt"]  # what failed has no labels
    assert found["all"] == 11
    assert found["here"] == ["dm here"]
    assert found["searched"] == ["dm here"] and found["hash"].endswith("q=DM+her")
    assert (found["none"], found["said"].split(". ")[0]) == ([], "No row fits these filters")
    assert "Without the search for nothing like it: 7 rows" in found["said"] and found["widened"] == [7, "q"]
    assert found["shown"] == [["dsa"], ["dsa"], ["datm"], *[["dm", "random", "dsa", "mtt"]] * 2]
    assert found["budget"] == ["all", "1 (4)", "2 (0)", "10 (3)"]
    assert "Without Protocol quick-v1: 2 rows" in found["other"] and found["protocols"] == ["mtt", "mtt"]
    assert found["again"] == [["dm here"], "DM her"]


def test_the_time_of_a_row_is_that_of_its_networks_too(tmp_path):
    took = Synthesis(seconds=10.0, pretraining_seconds=110.0)
    rows = [score("mtt", 1, synthesis=took), score("dm", 1, synthesis=Synthesis(seconds=60.0))]
    rows.append(score("rded", 1, synthesis=Synthesis(seconds=180.0), recipe={"teacher": {"epochs": 2}}))
    found = found_in(tmp_path, page(page_data(merged_rows([Source("checkout", rows)]))), READ + """
        document.querySelectorAll("#rows thead button")[column("Synthesis")].click();
        found.rows = methods().map((method, i) => [method, cells("Synthesis")[i]]);
    """, address="#dataset=digits")  # fmt: skip
    assert found["rows"] == [
        ["dm", "1 min"], ["mtt", "2 min(1.8 min of it pretraining)"], ["rded", "3 min(pretraining unknown)"]
    ]  # fmt: skip


def test_the_whole_split_is_said_for_the_rows_that_are_shown(tmp_path):
    study = {"suite": "probes", "protocol": "probe-v1", "labels": "targets"}
    rows = [score("dm", 1), full(), score("krr-st", 1, **study), full(71.0, **{**study, "protocol": "probe-full-v1"})]
    rows.append(score("mine", 1, suite="evaluated", synthesis=None))
    found = found_in(tmp_path, page(page_data(merged_rows([Source("checkout", rows)]))), READ + """
        const said = () => $("reference").textContent;
        pick("f-protocol", "quick-v1"); found.quick = said();
        pick("f-protocol", "probe-v1"); found.probe = said();
        pick("f-protocol", "all"); found.all = said();
        pick("f-protocol", "quick-v1"); type("mine"); found.guest = said();
    """, address="#dataset=digits")  # fmt: skip
    quick = "Whole training split: 98.0 % (full-v1, ConvNetD2W64, one network)."
    probe = "Whole training split: 71.0 % (probe-full-v1, ConvNetD2W64, one network)."
    assert (found["quick"], found["probe"]) == (quick, probe)
    assert found["all"].count("Whole training split") == 2 and quick in found["guest"]


def test_a_row_opens_and_tells_everything(look):
    found = look("""
        const button = () => rows()[0].querySelector("button");
        found.before = button().getAttribute("aria-expanded");
        button().click();
        const details = $(button().getAttribute("aria-controls"));
        found.open = [button().getAttribute("aria-expanded"), document.activeElement === button(), details.className];
        found.text = details.textContent; found.link = [...details.querySelectorAll("a")].map(a => a.href);
        found.command = details.querySelector("pre").textContent;
        found.hash = location.hash;
        button().click(); found.closed = document.querySelectorAll(".details").length;
    """, address="#dataset=digits")  # fmt: skip
    assert (found["before"], found["open"], found["closed"]) == ("false", ["true", True, "details"], 0)
    for expected in (
        "80.20  81.20",
        "a doubt",
        "of seed 0",
        "Guo et al., ICLR 2024",
        "2.6 kB, 2.1 kbit per class",
        "10 s",
    ):
        assert expected in found["text"]
    assert found["link"] == ["https://arxiv.org/abs/2310.05773"]
    assert (
        found["command"] == "distill-bench bench digits --only method=datm,ipc=1,seed=0,protocol=quick-v1 --networks 2"
    )
    assert "open=" in found["hash"]


def test_ranks_and_ties_are_shown_and_what_is_best_at_a_glance(look):
    found = look(f"found.written = {json.dumps(VALUES)}.map(pair => plusMinus(...pair, '+'));" + """
        found.ranks = cells("Rank"); found.best = rows().map(row => row.className.includes("best"));
        found.glance = [...document.querySelectorAll("#glance tbody tr")].map(row => row.textContent);
        found.claims = [...document.querySelectorAll("#claims tbody tr")].map(row =>
            [...row.children].map(cell => cell.textContent));
        document.querySelector("#glance a").click(); await new Promise(done => setTimeout(done, 50));
        found.hash = location.hash;
    """, address="#dataset=digits&budget=1")  # fmt: skip
    assert found["written"] == [with_half_width(*pair, "+") for pair in VALUES] and "−0" not in found["written"][2]
    assert found["ranks"][:2] == ["1=", "1="] and found["best"][0]
    assert "datm (soft) 80.7 ± 6.4" in found["glance"][0] and "tie of" in found["glance"][0]
    assert "dataset=digits" in found["hash"] and "budget=1" in found["hash"]
    assert sorted(row[7] for row in found["claims"]) == ["normalized", "zca"]
    assert {row[4][0] + " " + row[5] for row in found["claims"]} == {"− does not hold: measured below"}


def test_charts_have_few_lines_names_and_a_text(look):
    found = look("""
        found.panels = [...document.querySelectorAll("#curves svg")].map(svg =>
            [svg.getAttribute("role"), svg.getAttribute("aria-label"),
                svg.querySelectorAll("path[d^='M '][style*='width:2']").length]);
        found.costs = [...document.querySelectorAll("#costs svg")].map(svg => svg.getAttribute("aria-label"));
        const ofMark = (line, name) => line.nextSibling.querySelector("path").getAttribute(name);
        const look = line => [line.getAttribute("stroke-dasharray"), line.getAttribute("style"),
            ofMark(line, "style"), ofMark(line, "d")].join();
        const looks = svg => [...svg.querySelectorAll("path[style*='stroke-width:2']")].map(look);
        const alike = looks => new Set(looks).size < looks.length;
        found.alike = [...document.querySelectorAll("#curves svg")].map(looks).filter(alike);
        const marks = [...document.querySelectorAll("#costs svg")].at(-1).querySelectorAll("a.point");
        found.marks = [...marks].map(mark => mark.getAttribute("aria-label"));
        found.stops = [...marks].filter(mark => mark.tabIndex === 0).length;
        const press = key => new KeyboardEvent("keydown", { key, bubbles: true });
        const key = name => document.activeElement.dispatchEvent(press(name));
        marks[0].focus(); key("ArrowRight"); key("ArrowRight"); key("ArrowLeft");
        found.reached = document.activeElement === marks[1];
        const texts = [...document.querySelectorAll("svg.chart text")].map(text => ({
            text: text.firstChild.textContent, box: text.getBBox(), view: text.closest("svg").viewBox.baseVal }));
        const beyond = ({ box, view }) => box.x < 0 || box.x + box.width > view.width || box.y < 0;
        found.beyond = texts.filter(beyond).map(({ text }) => text);
        found.labels = texts.map(({ text }) => text).filter(text => !/^[0-9]/.test(text));
        marks[1].dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
        found.opened = document.querySelector("tr.details").previousSibling.textContent;
        found.focus = document.activeElement.getAttribute("aria-expanded");
        found.tabs = [...document.querySelectorAll("#curves svg")].map(svg =>
            [...svg.querySelectorAll("a.point")].filter(mark => mark.tabIndex === 0).length);
        const point = [...document.querySelectorAll("#curves a.point")].at(-1);
        found.point = point.getAttribute("aria-label");
        point.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
        found.pointed = document.querySelector("tr.details").previousSibling.textContent;
    """, address="#dataset=folder:photos")  # fmt: skip
    assert len(found["panels"]) == 2  # twelve methods without a family
    assert all(role == "group" and "at IPC 1" in said and lines <= 8 for role, said, lines in found["panels"])
    assert sum(lines for _, _, lines in found["panels"]) == 13 and found["alike"] == []
    assert found["beyond"] == [] and {"own-1", "me"} <= set(found["labels"]), (
        "no preset where the method alone tells a line apart"
    )
    assert "own-0, cpu" in found["labels"] and any("…" in label for label in found["labels"])
    assert len(found["costs"]) == 2 and all(said.startswith("Pareto front: own-10") for said in found["costs"])
    assert len(found["marks"]) == 13 and found["stops"] == 1 and found["reached"]
    method = found["marks"][1].split(",")[0]
    assert ", IPC 1: " in found["marks"][1] and method in found["opened"] and found["focus"] == "true"
    assert found["tabs"] == [1, 1] and ", IPC 1: " in found["point"]
    assert found["point"].split(",")[0] in found["pointed"]


def test_names_of_results_do_nothing(look):
    found = look("""
        const link = [...document.querySelectorAll("#datasets a")].find(a => a.textContent.includes("script"));
        location.hash = link.getAttribute("href"); await new Promise(done => setTimeout(done, 50));
        rows()[0].querySelector("button").click();
        found.method = methods()[0]; found.title = document.title; found.heading = $("board-title").textContent;
        found.images = document.querySelectorAll("img").length;
    """)  # fmt: skip
    assert (found["method"], found["heading"]) == (HOSTILE, f"Board: {HOSTILE}")
    assert (found["title"], found["images"]) == ("distill_bench leaderboard", 0)


@pytest.mark.parametrize(("width", "dark"), [(390, True), (820, False), (1440, True)])
def test_nothing_overflows_and_text_can_be_read(look, width, dark):
    found = look("""
        rows()[0].querySelector("button").click();
        found.wide = [document.documentElement.scrollWidth, document.documentElement.clientWidth];
        const right = selector => document.querySelector(selector).getBoundingClientRect().right;
        const room = $("board").getBoundingClientRect().right;
        found.beyond = ["#rows td.accuracy", "#rows td.accuracy b", ".opened"].filter(each => right(each) > room + 1);
        const wider = [...document.querySelectorAll(".scroll")].filter(node => node.scrollWidth > node.clientWidth + 1);
        found.sideways = wider.map(node => node.parentElement.id);
        $("glance").style.minWidth = "3000px"; dispatchEvent(new Event("resize"));
        const boxes = [...document.querySelectorAll("#costs svg")].map(svg =>
            [...svg.querySelectorAll(":scope > text")].map(text => text.getBBox()));
        const cover = (a, b) => a !== b && Math.abs(a.x - b.x) < Math.min(a.width, b.width) && Math.abs(a.y - b.y) < 10;
        found.covered = boxes.flatMap(all => all.filter(a => all.some(b => cover(a, b)))).length;
        found.hint = getComputedStyle($("glance").parentElement, "::before").content;
        $("glance").style.minWidth = "0";
        const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        const parts = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(c => linear(c / 255));
        const luminance = colour => parts(colour).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        const painted = node => node === document.body || !getComputedStyle(node).backgroundColor.endsWith(", 0)");
        const ground = node => painted(node) ? getComputedStyle(node).backgroundColor : ground(node.parentElement);
        const contrast = node => {
            const [light, dark] = [getComputedStyle(node).color, ground(node)].map(luminance).sort((a, b) => b - a);
            return (light + 0.05) / (dark + 0.05);
        };
        const says = node => [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
        const texts = [...document.querySelectorAll("body *")].filter(says);
        found.texts = texts.length;
        found.faint = texts.filter(node => !node.closest("script, noscript, svg, option") && contrast(node) < 4.5)
            .map(node => node.outerHTML.slice(0, 80));
        found.ground = getComputedStyle(document.body).backgroundColor;
    """, address="#dataset=digits&protocol=all", width=width, dark=dark)  # fmt: skip
    assert found["wide"][0] <= found["wide"][1] == width
    assert found["beyond"] == [] and found["sideways"] == (["claims"] if width == 820 else [])
    assert "scroll this table sideways" in found["hint"] and found["covered"] == 0
    assert found["faint"] == [] and found["texts"] > 100
    assert found["ground"] == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")


def test_landmarks_labels_and_the_theme_button(look, text):
    found = look("""
        const all = selector => [...document.querySelectorAll(selector)];
        const parts = ["main", "nav[aria-label]", "header", "footer", "form[aria-label]", "a.skip"];
        found.opened = [DATA.datasets[0] !== "digits" && $("board-title").textContent, $("s-time").title];
        found.here = all("#glance .own").map(mark => mark.parentElement.textContent);
        found.landmarks = parts.map(selector => all(selector).length);
        found.captions = all("table[id]").map(table => Boolean(table.caption && table.caption.textContent.length > 10));
        found.unlabelled = all("select, input").filter(node => !node.labels.length).length;
        const theme = () => [document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor];
        $("theme").click(); $("theme").click(); found.dark = theme();
        $("theme").click(); found.system = theme();
        document.querySelector("a.skip").click(); found.skipped = document.activeElement.id;
    """)  # fmt: skip
    assert found["opened"][0] == "Board: digits", "which has a row made here and is not the first"
    assert "the row that ran first" in found["opened"][1] and "the row that ran first" in text
    assert found["here"] == ["here dm 70.8 ± 9.5, rank 3"]
    assert found["landmarks"] == [1] * 6
    assert found["captions"] == [True] * 2 and found["unlabelled"] == 0
    assert found["dark"] == ["dark", "rgb(20, 24, 29)"] and found["system"] == ["system", "rgb(255, 255, 255)"]
    assert found["skipped"] == "board"
