"""The table, the bars, the file and the plot."""

import json
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from measure import TRANSFER, Work
from peers import Library, Plain
from places import PLOT, RESULTS

OURS, LIMIT = Library.name, Plain.name
# What this library promises: ours against another one, as the factor by which ours is better.
BARS = [
    ("warm", LIMIT, 1 / 1.15),
    ("warm", "OpenSSH", 3),
    ("warm", "paramiko", 8),
    ("connect", LIMIT, 1 / 1.1),
    ("upload", "OpenSSH", 1.1),
    ("download", "OpenSSH", 1.1),
]

Figure = dict[str, float]


def write(works: list[Work], note: str) -> None:
    """Prints the results and writes target/bench/results.json and results.png."""
    results = [_result(work, note) for work in works]
    print(note)
    for result in results:
        _print_table(result)
    _print_bars(results)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    _plot(results, note)
    print(f"\nwritten: {RESULTS} and {PLOT.name}")


def _result(work: Work, note: str) -> dict[str, Any]:
    figures = {name: _figure(work.unit, seconds) for name, seconds in work.samples.items()}
    result = {"work": work.name, "unit": work.unit, "ours": figures.pop(OURS, None)}
    result |= {"limit": figures.pop(LIMIT, None), "peers": figures, **work.notes}
    result["machine"] = note
    return result


def _figure(unit: str, seconds: list[float]) -> Figure:
    """Median and the sample that 99 % are not worse than."""
    ordered = sorted(seconds)
    figure: Figure = {"samples": len(ordered)}
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        at = ordered[min(len(ordered) - 1, int(share * len(ordered)))]
        value = at * 1000 if unit == "ms" else TRANSFER / at / 1e6
        figure[name] = round(value, 3 if unit == "ms" else 1)
    return figure


def _factor(result: dict[str, Any], other: Figure) -> float:
    """How many times better ours is: shorter, or faster."""
    ours, theirs = result["ours"]["p50"], other["p50"]
    return theirs / ours if result["unit"] == "ms" else ours / theirs


def _figures(result: dict[str, Any]) -> dict[str, Figure]:
    named = {OURS: result["ours"], LIMIT: result["limit"], **result["peers"]}
    return {name: figure for name, figure in named.items() if figure}


def _print_table(result: dict[str, Any]) -> None:
    title = f"{result['work']} ({result['unit']})"
    print(f"\n{title:29}{'p50':>8} {'p99':>8} {'samples':>9}   ours is")
    for name, figure in _figures(result).items():
        better = "" if name == OURS else f"{_factor(result, figure):8.2f} x"
        print(f"  {name:27}{figure['p50']:8.1f} {figure['p99']:8.1f} {figure['samples']:9}{better}")
    for name, value in result.items():
        if isinstance(value, int):
            print(f"  {name}: {value}")


def _print_bars(results: list[dict[str, Any]]) -> None:
    by_work = {result["work"]: result for result in results}
    print()
    for work, other, least in BARS:
        if work not in by_work or other not in (figures := _figures(by_work[work])):
            continue
        factor = _factor(by_work[work], figures[other])
        verdict = "met" if factor >= least else "MISSED"
        print(f"bar: {work:9} ours {factor:5.2f} x {other:10} at least {least:4.2f}  {verdict}")


def _plot(results: list[dict[str, Any]], note: str) -> None:
    columns = 3
    rows = -(-len(results) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(15, 3.2 * rows), squeeze=False)
    for axis in axes.flat[len(results) :]:
        axis.set_visible(False)
    for axis, result in zip(axes.flat, results, strict=False):
        figures = _figures(result)
        names = list(figures)[::-1]
        middle = [figures[name]["p50"] for name in names]
        colors = [{OURS: "tab:blue", LIMIT: "tab:gray"}.get(name, "tab:orange") for name in names]
        bars = axis.barh(names, middle, color=colors)
        axis.bar_label(bars, [f"{value:.1f}" for value in middle], padding=3)
        axis.margins(x=0.15)
        better = "less" if result["unit"] == "ms" else "more"
        axis.set_title(f"{result['work']}: p50, {result['unit']} ({better} is better)", fontsize=10)
    figure.suptitle(note, fontsize=9)
    figure.tight_layout()
    figure.savefig(PLOT, dpi=110)
    plt.close(figure)
