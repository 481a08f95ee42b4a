"""The table, the bars, the file and the plot."""

import json
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from places import PLOT, RESULTS
from works import LIMIT_NAME, MORE_IS_BETTER, Table


def write(tables: list[Table], note: str) -> None:
    """Prints the results and writes target/bench/results.json and results.png."""
    print(f"\n{note}")
    for table in tables:
        _print_table(table)
    _print_bars(tables)
    RESULTS.write_text(json.dumps([_result(table, note) for table in tables], indent=2) + "\n")
    _plot(tables, note)
    print(f"\nwritten: {RESULTS} and {PLOT.name}")


def _result(table: Table, note: str) -> dict[str, Any]:
    figures = {name: table.figure(name) for name in table.samples}
    return {
        "work": table.work,
        "unit": table.unit,
        "ours": figures.pop(table.ours, None),
        "limit": figures.pop(LIMIT_NAME, None),
        "peers": figures,
        "notes": table.notes,
        "bars": [{"bar": bar.what, "met": bar.is_met} for bar in table.bars],
        "machine": note,
    }


def _print_table(table: Table) -> None:
    title = f"{table.work} ({table.unit})"
    print(f"\n{title:37}{'p50':>9} {'p99':>9} {'samples':>8}   ours is")
    for name in table.samples:
        figure = table.figure(name)
        is_compared = name != table.ours and table.ours in table.samples
        better = f"{table.factor(name):8.2f} x" if is_compared else ""
        print(f"  {name:35}{figure['p50']:9.1f} {figure['p99']:9.1f} {figure['samples']:8}{better}")
    for what, value in table.notes.items():
        print(f"  {what}: {value}")


def _print_bars(tables: list[Table]) -> None:
    print()
    for bar in (bar for table in tables for bar in table.bars):
        print(f"{'met   ' if bar.is_met else 'MISSED'}  {bar.what}")
        if bar.why and not bar.is_met:
            print(f"        {bar.why}")


def _plot(tables: list[Table], note: str) -> None:
    columns = 3
    rows = -(-len(tables) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(15, 3.2 * rows), squeeze=False)
    for axis in axes.flat[len(tables) :]:
        axis.set_visible(False)
    for axis, table in zip(axes.flat, tables, strict=False):
        names = list(table.samples)[::-1]
        middle = [table.figure(name)["p50"] for name in names]
        colors = {table.ours: "tab:blue", LIMIT_NAME: "tab:gray"}
        bars = axis.barh(names, middle, color=[colors.get(name, "tab:orange") for name in names])
        axis.bar_label(bars, [f"{value:.1f}" for value in middle], padding=3)
        axis.margins(x=0.15)
        better = "more" if table.unit in MORE_IS_BETTER else "less"
        axis.set_title(f"{table.work}: p50, {table.unit} ({better} is better)", fontsize=10)
    figure.suptitle(note, fontsize=9)
    figure.tight_layout()
    figure.savefig(PLOT, dpi=110)
    plt.close(figure)
