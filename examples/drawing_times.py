"""What drawing.py measures, and the picture of it: who did which tile from when to when."""

import os
import time
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from rich import print as show
from rich.table import Table

COLOURS = "#4477aa", "#ccbb44", "#228833", "#aa3377"


class Moment(NamedTuple):
    """A time in a process, by the clock that all processes have in common, and its CPU time."""

    pid: int
    ns: int
    cpu_ns: int


def now() -> Moment:
    return Moment(os.getpid(), time.monotonic_ns(), time.process_time_ns())


class Stamp(NamedTuple):
    """From when to when something was done."""

    begun: Moment
    ended: Moment


class Run(NamedTuple):
    """What was drawn, and when: all of it, and the tiles of each stage."""

    drawing: Any
    whole: Stamp
    stages: list[list[Stamp]]

    @property
    def seconds(self) -> float:
        return (self.whole.ended.ns - self.whole.begun.ns) / 1e9

    @property
    def cpu_seconds(self) -> float:
        """The CPU time of all processes, also what they used between their tiles."""
        used: dict[int, list[int]] = {}
        for begun, ended in chain([self.whole], *self.stages):
            used.setdefault(begun.pid, []).extend((begun.cpu_ns, ended.cpu_ns))
        return sum(max(times_ns) - min(times_ns) for times_ns in used.values()) / 1e9


def tell(runs: dict[str, Run]) -> None:
    table = Table("way", "seconds", "CPU seconds", title="the best run of each way")
    for name, run in runs.items():
        table.add_row(name, f"{run.seconds:.2f}", f"{run.cpu_seconds:.2f}")
    show(table)


def draw_times(runs: dict[str, Run], stages: list[str], path: Path) -> None:
    """Draw a line for each process, and there a bar for each tile, of the colour of its stage."""
    pids = [sorted({begun.pid for begun, _ in chain(*run.stages)}) for run in runs.values()]
    figure = Figure((12, 1.5 + 0.6 * sum(map(len, pids))), layout="constrained")
    rows = figure.subplots(len(runs), sharex=True, height_ratios=[*map(len, pids)])
    for axes, (name, run), workers in zip(rows, runs.items(), pids, strict=True):
        for stamps, label, colour in zip(run.stages, stages, COLOURS, strict=True):
            lines = [workers.index(begun.pid) + 1 for begun, _ in stamps]
            left = [(begun.ns - run.whole.begun.ns) / 1e6 for begun, _ in stamps]
            width = [(ended.ns - begun.ns) / 1e6 for begun, ended in stamps]
            axes.barh(lines, width, left=left, color=colour, edgecolor="white", label=label)
        axes.set_title(f"{name}: {run.seconds:.2f} s", loc="left")
        axes.set_yticks(range(1, len(workers) + 1))
    labels = rows[0].get_legend_handles_labels()
    figure.legend(*labels, loc="outside upper right", ncols=len(stages))
    rows[-1].set(xlabel="milliseconds", xlim=(0, None))
    figure.savefig(path)
