"""Writes the page of the bench, and its plots, from the results alone."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.load.machine import warning
from tests.load.row import Row

Result = Mapping[str, Any]

_INTRODUCTION = """# Speed, beside floors

Written by `make bench`; the figures in full are in `build/bench.json`, and those of this page in
`docs/bench/results.json`, so that a row can be measured anew by itself. Every row is a ratio: what this system does,
and beside it, measured in turn on the same machine in the same session, a floor that does the least with the same
libraries, or the system itself in another state. Peers' figures are quoted as they were published and were not measured
here. Medians of the runs, with the smallest and the largest.

To run it again: `make bench` (all rows, about an hour on two cores; nothing else should run), `make
bench ROWS="create whole-sop"` for some, `RESUME=1` to go on after an interruption, `FULL=1` for the largest numbers,
`QUICK=1` for a smoke run whose figures mean nothing and which leaves this page alone.
"""


def write(page: Path, results: Mapping[str, Result], order: Sequence[Row]) -> None:
    """Write the page, and its plots as SVG into a folder of the same name beside it."""
    plots = page.with_suffix("")
    plots.mkdir(parents=True, exist_ok=True)
    rows = [(row.name, results[row.name]) for row in order if row.name in results]
    known = {name for name, _ in rows}
    rows += [(name, result) for name, result in results.items() if name not in known]
    parts = [_INTRODUCTION, _machine([result for _, result in rows]), _summary(rows)]
    drawn = {_ratios(rows, plots)}
    parts.append(f"![Ratios]({plots.name}/ratios.svg)\n")
    for name, result in rows:
        parts.append(_section(name, result, plots, drawn))
    for left in set(plots.glob("*.svg")) - drawn:
        left.unlink()
    missing = [row.name for row in order if row.name not in results]
    if missing:
        parts.append(f"Not measured yet: {', '.join(missing)}.\n")
    page.write_text("\n".join(parts), encoding="utf-8")


def _machine(results: Sequence[Result]) -> str:
    if not results:
        return ""
    told = results[-1]["machine"]
    paces = [result["machine"]["pace"] for result in results if "pace" in result["machine"]]
    versions = ", ".join(f"{name} {version}" for name, version in told["packages"].items())
    lines = [
        "## The machine",
        "",
        f"{told['cores']} cores ({told['processor'] or 'unnamed'}), {told['memory_gib']} GiB, {told['system']}; Python "
        f"{told['python']}, Kafka {told['kafka']}, {versions}.",
        "",
        "Kafka, mongod, the SMTP server, the services and the load generator share it."
        + (f" A core made {min(paces):g} to {max(paces):g} million turns of plain Python a second." if paces else ""),
        "",
    ]
    busy = [f"- {result['title']}: {said}" for result in results if (said := warning(result["machine"]))]
    if busy:
        lines += ["**Warnings.** Some rows were measured on a machine that was not idle:", "", *busy, ""]
    return "\n".join(lines)


def _summary(rows: Sequence[tuple[str, Result]]) -> str:
    lines = [
        "## What was wanted",
        "",
        "| Row | What | Ours | Beside it | Ratio | Wanted | Met |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in rows:
        lines += [
            f"| [{name}](#{name}) | {c['what']} | {_median(c['ours'], c['unit'])} | {_against(c)} | {_ratio(c)} "
            f"| {c['wanted']} | {'yes' if c['met'] else '**no**'} |"
            for c in result["comparisons"]
            if c["met"] is not None
        ]
    return "\n".join([*lines, ""])


def _section(name: str, result: Result, plots: Path, drawn: set[Path]) -> str:
    lines = [f'<a id="{name}"></a>', f"## {result['title']}", "", result["how"], ""]
    if said := warning(result["machine"]):
        lines += [f"**{said}**", ""]
    lines += ["| What | Ours: median (min-max) | Beside it | Ratio | Wanted |", "|---|---|---|---|---|"]
    lines += [
        f"| {c['what']} | {_spread(c['ours'], c['unit'])} | {_against(c, spread=True)} | {_ratio(c)} | {c['wanted']} |"
        for c in result["comparisons"]
    ]
    lines.append("")
    if result["proofs"]:
        failed = [what for what, proved in result["proofs"].items() if not proved]
        told = f"**not so: {'; '.join(failed)}**" if failed else "all so"
        lines += [f"Checked afterwards, {told}: {'; '.join(result['proofs'])}.", ""]
    lines += [f"{note}\n" for note in result["notes"]]
    if result["cpu_seconds"]:
        path = plots / f"cpu-{name}.svg"
        _processors(result["cpu_seconds"], result["machine"]["cores"], path)
        drawn.add(path)
        lines += [f"![Who used the processors]({plots.name}/{path.name})", ""]
    for number, series in enumerate(result["series"], 1):
        path = plots / f"{name}-{number}.svg"
        _line_plot(series, path)
        drawn.add(path)
        lines += [f"![{series['title']}]({plots.name}/{path.name})", ""]
    lines += [
        f"Measured {result['measured_at'][:16].replace('T', ' ')} UTC at commit `{result['commit']}` in "
        f"{result['seconds']:.0f} s; before it {100 * result['machine']['busy_before']:.0f} % of the processors busy"
        f"{_pace(result['machine'])}.",
        "",
    ]
    return "\n".join(lines)


def _pace(machine: Mapping[str, Any]) -> str:
    """How fast the machine was then; rows that were kept from before this was measured do not tell."""
    return f", and a core made {machine['pace']:g} million turns of plain Python a second" if "pace" in machine else ""


def _median(spread: Mapping[str, Any], unit: str) -> str:
    return f"{spread['median']:g} {unit}".strip()


def _spread(spread: Mapping[str, Any], unit: str) -> str:
    text = _median(spread, unit)
    return text if len(spread["values"]) == 1 else f"{text} ({spread['min']:g}-{spread['max']:g})"


def _against(comparison: Mapping[str, Any], *, spread: bool = False) -> str:
    if comparison["against"] is None:
        return ""
    told = (_spread if spread else _median)(comparison["against"], comparison["unit"])
    return f"{comparison['against_name']}: {told}"


def _ratio(comparison: Mapping[str, Any]) -> str:
    return f"{comparison['ratio']:.2f}x" if comparison["ratio"] is not None else ""


def _ratios(rows: Iterable[tuple[str, Result]], plots: Path) -> Path:
    """All ratios for which something is wanted, on one logarithmic axis."""
    shown = [
        (f"{name}: {c['what']}", c["ratio"], c["wanted"], c["met"])
        for name, result in rows
        for c in result["comparisons"]
        if c["ratio"] is not None and c["met"] is not None
    ]
    figure = Figure(figsize=(9, 0.6 + 0.32 * max(1, len(shown))), layout="constrained")
    axes = figure.subplots()
    for at, (_, ratio, wanted, met) in enumerate(reversed(shown)):
        axes.plot([1, ratio], [at, at], color="#888", linewidth=1)
        axes.plot(ratio, at, "o", color="#2a7" if met else "#c33")
        axes.annotate(f"{ratio:.2f}x, wanted {wanted}", (ratio, at), (6, 4), textcoords="offset points", fontsize=7)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(shown)), [label for label, *_ in reversed(shown)], fontsize=8)
    axes.set_xlabel("ratio to the floor (green: as wanted)")
    axes.margins(x=0.25)
    return _saved(figure, plots / "ratios.svg")


def _processors(uses: Mapping[str, Mapping[str, float]], cores: int, path: Path) -> None:
    """Who used the processors in each run, in shares of all of them."""
    names = sorted({name for used in uses.values() for name in used} - {"wall", "machine"})
    totals = {name: sum(used.get(name, 0) for used in uses.values()) for name in names}
    names.sort(key=lambda name: -totals[name])
    figure = Figure(figsize=(9, 1.2 + 0.3 * len(uses)), layout="constrained")
    axes = figure.subplots()
    colours = mpl.colormaps["tab20"]
    left = [0.0] * len(uses)
    for index, name in enumerate(names):
        shares = [100 * used.get(name, 0) / (cores * max(used["wall"], 0.01)) for used in uses.values()]
        axes.barh(list(uses), shares, left=left, label=name, color=colours(index % 20))
        left = [before + share for before, share in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel(f"% of {cores} cores")
    axes.set_title("Who used the processors", fontsize=10)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    _saved(figure, path)


def _line_plot(series: Mapping[str, Any], path: Path) -> None:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, values in series["lines"].items():
        axes.plot(series["x"], values, label=name, linewidth=1.2)
    axes.set_title(series["title"], fontsize=10)
    axes.set_xlabel(series["x_label"])
    axes.set_ylabel(series["y_label"])
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    _saved(figure, path)


def _saved(figure: Figure, path: Path) -> Path:
    """The same figures give the same file."""
    with mpl.rc_context({"svg.hashsalt": "lapor", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    return path
