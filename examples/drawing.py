"""A photograph becomes a drawing, by stages (drawing_tasks.py) that go over it tile by tile.

They run serially; in a ProcessPoolExecutor, to which each tile goes as a pickle, and its result
comes back so; and in aiopip's pool, whose workers read and write the arrays that we have here.
`drawing.py [FOLDER]` leaves FOLDER/drawing.png, and FOLDER/drawing-times.png: who did what when.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from drawing_picture import cut, photograph, save
from drawing_tasks import MARGINS, STAGES, Stage, do, do_and_return, inner
from drawing_times import Run, Stamp, draw_times, now, tell

import aiopip

RUNS, WORKERS = 3, len(os.sched_getaffinity(0))
Tiles = list[tuple[Any, Any]]  # what is seen for each, and where its result goes
Way = Callable[[Stage, Tiles], Awaitable[list[Stamp]]]


async def serially(stage: Stage, tiles: Tiles) -> list[Stamp]:
    return [do(stage, seen, out) for seen, out in tiles]


async def by_pickles(executor: ProcessPoolExecutor, stage: Stage, tiles: Tiles) -> list[Stamp]:
    stamps = []
    done = executor.map(partial(do_and_return, stage), [seen for seen, _ in tiles])
    for (_, out), (stamp, result) in zip(tiles, done, strict=True):
        out[...] = result
        stamps.append(stamp)
    return stamps


async def in_place(pool: aiopip.Pool, stage: Stage, tiles: Tiles) -> list[Stamp]:
    return await asyncio.gather(*(pool.run(do, stage, seen, out=out) for seen, out in tiles))


async def best(way: Way, photo: Any) -> Run:
    """Draw once to warm up, then some times: the quickest of these."""
    runs = []
    for _ in range(1 + RUNS):
        begun, picture, stamps = now(), photo, []
        for stage in STAGES.values():
            out = np.empty_like(inner(picture, MARGINS[stage]))
            stamps.append(await way(stage, cut(picture, out, MARGINS[stage])))
            picture = out
        runs.append(Run(picture, Stamp(begun, now()), stamps))
    return min(runs[1:], key=lambda run: run.seconds)


async def draw_all_ways(photo: Any) -> dict[str, Run]:
    """Draw by workers that have started and warmed up: no run includes that."""
    runs = {"serially": await best(serially, photo)}
    with ProcessPoolExecutor(WORKERS) as executor:
        runs["ProcessPoolExecutor"] = await best(partial(by_pickles, executor), photo)
    async with aiopip.Root() as root, root.pool(WORKERS) as pool:
        runs["aiopip"] = await best(partial(in_place, pool), photo)
    return runs


if __name__ == "__main__":
    folder = Path((*sys.argv[1:], "demo-output")[0])
    folder.mkdir(parents=True, exist_ok=True)
    runs = asyncio.run(draw_all_ways(photograph(sum(map(MARGINS.__getitem__, STAGES.values())))))
    for run in runs.values():
        np.testing.assert_array_equal(run.drawing, runs["serially"].drawing)
    save(runs["serially"].drawing, folder / "drawing.png")
    draw_times(runs, list(STAGES), folder / "drawing-times.png")
    tell(runs)
    print(f"{folder}/drawing.png: each way drew the same, to the last bit")
