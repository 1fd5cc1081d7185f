"""Heat spreads on a plate: C tasks (heat.c) own a band of it each, and Python looks on in place.

Each task exports its band, a C struct that is a NumPy record here: what is written into it the task
sees, what the task computes is seen here.  `heat.py [FOLDER]` draws it: FOLDER/heat.png.
"""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track

import aiopip

BANDS, ROWS, COLS, STEPS = 4, 96, 576, 6000  # as in heat.c
CELLS = (ROWS, COLS)
BAND = np.dtype([("go", "u4"), ("step", "u4"), ("heat", "f8", (2, *CELLS)), ("rate", "f8", CELLS)])
COLOURS = bytes.fromhex("080a30 184090 2890be 78c8c8 f5f0e1 fcc86e f07832 be232d 500528")


def plate() -> tuple[Any, Any]:
    """Make the plate: where it is hot (1) and cold (-1), and how fast a cell follows the others."""
    y, x = np.mgrid[: BANDS * ROWS, :COLS] - np.array([BANDS * ROWS / 2, COLS / 2]).reshape(2, 1, 1)
    radius = np.hypot(x, y)
    swirl = np.cos(2 * np.pi * radius / 84 - np.arctan2(y, x))
    heat = -np.sign(swirl) * (abs(swirl) > 0.95) * (abs(radius - 81) < 69)
    heat -= np.sign(y) * (np.hypot(abs(x) - 225, abs(y) - 110) < 22)
    return heat, np.pad(np.where(heat, 0, 0.25)[1:-1, 1:-1], 1)  # sources and walls never do


def serial(heat: Any, rate: Any) -> Any:
    """Compute the same by NumPy alone, in the same order of operations, so that no bit differs."""
    for _ in range(STEPS):
        around = heat[:-2, 1:-1] + heat[2:, 1:-1] + (heat[1:-1, :-2] + heat[1:-1, 2:])
        heat[1:-1, 1:-1] += rate[1:-1, 1:-1] * (around - 4 * heat[1:-1, 1:-1])
    return heat


def draw(heat: Any, path: Path) -> None:
    """Write a picture of twice the size, with a line at each tenth of a degree."""
    colour = 4 + 4 * np.asarray(Image.fromarray(heat.astype("f4")).resize((1152, 768))).clip(-1, 1)
    rgb = np.stack([np.interp(colour, range(9), list(COLOURS[i::3])) for i in range(3)], axis=-1)
    level = np.floor(colour * 2.495 + 0.5)
    rgb[1:, 1:][(level[1:, 1:] != level[:-1, 1:]) | (level[1:, 1:] != level[1:, :-1])] *= 0.82
    Image.fromarray(rgb.astype("u1")).save(path)


async def compute(program: str) -> Any:
    """Have tasks do all steps.  What they leave stays mapped for as long as the arrays live."""
    async with aiopip.Root() as root:
        tasks = [await root.spawn(program, pipid=pipid) for pipid in range(BANDS)]
        bands = [np.asarray((await task.named_import("band")).cast(BAND, ())) for task in tasks]
        for band, heat, rate in zip(bands, *(np.split(p, BANDS) for p in plate()), strict=True):
            band["heat"], band["rate"] = heat, rate
        for band in bands:
            band["go"] = 1
        for step in track(range(1, STEPS + 1), "heat spreads"):
            while min(int(band["step"]) for band in bands) < step:
                await asyncio.sleep(0.02)
                if any(task.status for task in tasks):
                    sys.exit(f"a task failed: {tasks}")
    return np.concatenate([band["heat"][STEPS % 2] for band in bands])


if __name__ == "__main__":
    picture = Path((*sys.argv[1:], "demo-output")[0], "heat.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    pipcc, code = Path(sys.executable).with_name("pipcc"), Path(__file__).with_suffix(".c")
    with tempfile.TemporaryDirectory() as temp:
        subprocess.run([pipcc, "-O3", "-ffp-contract=off", code, "-o", f"{temp}/heat"], check=True)
        final = asyncio.run(compute(f"{temp}/heat"))
    draw(final, picture)
    np.testing.assert_array_equal(final, serial(*plate()))
    print(f"{picture}: the plate is as NumPy alone computes it, to the last bit")
