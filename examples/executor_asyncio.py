"""Photographs sharpened by asyncio's run_in_executor: in stock workers, and in aiopip's.

scikit-learn ships two photographs.  ProcessPoolExecutor pickles each one to its worker, and what
comes back; PoolExecutor's workers see it where it is, and may write into the caller's own array.

    pip install aiopip scikit-learn pillow    # not among those of `make demo`: run it by hand
    python examples/executor_asyncio.py
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_sample_images

import aiopip

AMOUNTS = [number / 8 for number in range(8)]
WORKERS = 2


def sharpen(photograph: Any, amount: float) -> Any:
    """The photograph with its edges stressed."""
    return photograph + amount * (photograph - ndimage.uniform_filter(photograph, (5, 5, 1)))


def sharpen_into(out: Any, photograph: Any, amount: float) -> None:
    """The same, written to where it is wanted."""
    out[...] = sharpen(photograph, amount)


async def returned(pool: Any, photographs: list[Any]) -> list[Any]:
    todo = [(photograph, amount) for photograph in photographs for amount in AMOUNTS]
    loop = asyncio.get_running_loop()
    return await asyncio.gather(*(loop.run_in_executor(pool, sharpen, *one) for one in todo))


async def in_place(pool: Any, photographs: list[Any]) -> list[Any]:
    todo = [(photograph, amount) for photograph in photographs for amount in AMOUNTS]
    outs = [np.empty_like(photograph) for photograph, _ in todo]
    loop = asyncio.get_running_loop()
    pairs = zip(outs, todo, strict=True)
    calls = (loop.run_in_executor(pool, sharpen_into, out, *one) for out, one in pairs)
    await asyncio.gather(*calls)
    return outs


async def main() -> int:
    photographs = [image.astype(np.float32) / 255 for image in load_sample_images().images]
    expected = [sharpen(photograph, amount) for photograph in photographs for amount in AMOUNTS]
    stock = ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn"))
    ours = aiopip.PoolExecutor(WORKERS)
    agree = True
    for name, pool, work in (
        ("ProcessPoolExecutor", stock, returned),
        ("aiopip.PoolExecutor", ours, returned),
        ("          in place ", ours, in_place),
    ):
        await work(pool, photographs)  # the workers are started, and have imported SciPy
        begin = time.perf_counter()
        found = await work(pool, photographs)
        took_ms = (time.perf_counter() - begin) * 1000
        same = all(map(np.array_equal, found, expected))
        agree = agree and same
        print(f"{name}  {took_ms:7.1f} ms  {'same pixels' if same else 'OTHER PIXELS'}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
