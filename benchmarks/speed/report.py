"""The harness's findings as Markdown and as a picture."""

import statistics
from io import BytesIO
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = {"reference": "#999999", "reference, tuned": "#56B4E9", "ours": "#0072B2", "arithmetic limit": "#222222"}


def markdown(records: list[dict[str, Any]], everything: dict[str, Any], what: dict[str, str]) -> str:
    """Three tables: the ratios, the parts of each time, and networks side by side."""
    rate, rounds = everything["rate"], everything["rounds"]
    lines = [
        "# Speed",
        "",
        f"{everything['machine']}; medians over rounds, each measurement a fresh process on an idle machine. "
        f"The machine's rate: {rate['sgemm'] / 1e9:.0f} GFLOP/s in a matrix product, "
        f"{rate['convolution'] / 1e9:.0f} in a convolution; the limit is the operations at the higher of the two.",
        "",
        "| case | rounds | ours, s | reference, s | ratio | reference tuned, s | ratio | ours, MB | reference, MB | "
        "limit, s | ours / limit |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in records:
        lines.append(
            f"| {r['case']} | {len(rounds[r['case']]['ours'])} | {r['ours_seconds']} | "
            f"{r['reference_seconds']} | **{r['ratio']}** | {r['reference_tuned_seconds']} | **{r['ratio_tuned']}** | "
            f"{r['ours_mb']} | {r['reference_mb']} | "
            f"{r['limit_seconds']} | {r['ours_seconds'] / r['limit_seconds']:.2f} |"
        )
    lines += [""] + [f"- {r['case']}: {what[r['case']]}." for r in records]
    lines += ["", *_parts(rounds), "", *_side_by_side(records, rounds)]
    return "\n".join(lines).rstrip() + "\n"


def _parts(rounds: dict[str, Any]) -> list[str]:
    lines = [
        "| case | run | an epoch, ms | the test, s | start, s | start without a cache, s |",
        "|---|---|---|---|---|---|",
    ]
    networks = {name: runs for name, runs in rounds.items() if "epoch" in runs["ours"][0]}
    for name, runs in networks.items():
        for run in ("ours", "reference", "reference_tuned"):
            middle = {key: statistics.median(entry[key] for entry in runs[run]) for key in runs[run][0]}
            start = f"{middle['start']:.1f}" if "start" in middle else ""
            cold = f"{runs['cold'][0]['start']:.1f}" if "start" in middle else ""
            lines.append(
                f"| {name} | {run.replace('_', ', ')} | {middle['epoch'] * 1e3:.1f} | {middle['test']:.2f} | "
                f"{start} | {cold} |"
            )
    note = "Start is imports and the first step with its compilation, from the cache of compiled code and without it. "
    return [*lines, "", note + "It is not part of a network's seconds: the networks of an evaluation share it."]


def _side_by_side(records: list[dict[str, Any]], rounds: dict[str, Any]) -> list[str]:
    lines = []
    for r in records:
        for run in set(rounds[r["case"]]) - {"ours", "reference", "reference_tuned", "cold"}:
            pair = rounds[r["case"]][run]
            each = max(entry["seconds"] for entry in pair) / len(pair)
            memory = sum(entry["mb"] for entry in pair)
            lines.append(
                f"| {r['case']} | {each:.2f} | {r['ours_seconds']} | {each / r['ours_seconds']:.2f} | {memory:.0f} | "
                f"{r['ours_mb']} |"
            )
    head = "| networks side by side | 2 processes of 1 thread, s a network | one process, s | ratio | MB | MB |"
    return [head, "|---|---|---|---|---|---|", *lines] if lines else []


def picture(records: list[dict[str, Any]]) -> bytes:
    """A PNG with a group of bars a case: times as fractions of the reference's as it comes."""
    figure = Figure(figsize=(1.6 + 2.1 * len(records), 3.6), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    keys = dict(
        zip(COLOURS, ("reference_seconds", "reference_tuned_seconds", "ours_seconds", "limit_seconds"), strict=True)
    )
    for number, (label, key) in enumerate(keys.items()):
        heights = [r[key] / r["reference_seconds"] for r in records]
        places = [i + 0.2 * (number - 1.5) for i in range(len(records))]
        bars = axes.bar(places, heights, 0.19, color=COLOURS[label], label=label)
        axes.bar_label(bars, [f"{h:.2f}" for h in heights], fontsize=7)
    axes.set_xticks(range(len(records)), [r["case"] for r in records])
    axes.set_ylabel("time / reference's")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    canvas, content = FigureCanvasAgg(figure), BytesIO()
    canvas.print_png(content, metadata={"Software": None})
    return content.getvalue()
