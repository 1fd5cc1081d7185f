"""dask's delayed calls by its own processes, and by aiopip's workers.

Principal components of the measurements of 569 tumours that scikit-learn ships, over 200 samples
drawn with replacement: how far the first component's weights vary.  dask pickles each sample to its
worker; aiopip's workers see it where it is.

    pip install aiopip scikit-learn dask    # not among those of `make demo`: run it by hand
    python examples/executor_dask.py
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a worker a processor, and a thread a worker

import dask
import numpy as np
from sklearn.datasets import load_breast_cancer

import aiopip

SAMPLES = 200
ENLARGED = 20
WORKERS = 2


def first_component(sample: Any) -> Any:
    """The direction of the largest variance, its largest weight positive."""
    scaled = (sample - sample.mean(axis=0)) / sample.std(axis=0)
    weights = np.linalg.eigh(scaled.T @ scaled)[1][:, -1]
    return weights * np.sign(weights[np.argmax(np.abs(weights))])


def spread(components: list[Any]) -> Any:
    """The standard deviation of each weight."""
    return np.std(components, axis=0)


def main() -> int:
    data = np.tile(load_breast_cancer().data, (ENLARGED, 1))
    random = np.random.default_rng(0)
    samples = [data[random.integers(0, len(data), len(data))] for _ in range(SAMPLES)]
    expected = spread([first_component(sample) for sample in samples])
    parts = [dask.delayed(first_component)(dask.delayed(sample)) for sample in samples]
    graph = dask.delayed(spread)(parts)
    spawn = multiprocessing.get_context("spawn")
    agree = True
    for name, pool in (
        ("ProcessPoolExecutor", ProcessPoolExecutor(WORKERS, spawn)),
        ("aiopip.PoolExecutor", aiopip.PoolExecutor(WORKERS)),
    ):
        with pool:
            dask.compute(*parts[:4], scheduler=pool)  # the workers are started and have imported
            begin = time.perf_counter()
            (found,) = dask.compute(graph, scheduler=pool)
            took_s = time.perf_counter() - begin
        same = bool(np.allclose(found, expected, rtol=1e-9))
        agree = agree and same
        print(f"{name}  {took_s:6.2f} s  {'same result' if same else 'OTHER RESULT'}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
