"""scikit-learn's n_jobs by joblib's backends: loky, and aiopip.

A cross validation and a grid search over the handwritten digits that scikit-learn ships.  joblib
copies arguments to loky's workers, large arrays by way of files; aiopip's see them in place.

    pip install aiopip scikit-learn    # not among those of `make demo`: run it by hand
    python examples/executor_joblib.py
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

import aiopip

if TYPE_CHECKING:
    from collections.abc import Callable

JOBS = 2


def validate(data: Any, target: Any) -> Any:
    """How well a digit is told by its nearest neighbours, in 10 parts."""
    return cross_val_score(KNeighborsClassifier(3), data, target, cv=10)


def search(data: Any, target: Any) -> Any:
    """The scores of 12 support vector machines."""
    grid = {"C": [0.1, 1, 10], "gamma": [1e-4, 5e-4, 1e-3, 5e-3]}
    found = GridSearchCV(SVC(), grid, cv=4).fit(data, target)
    return found.cv_results_["mean_test_score"]


def many(data: Any, _target: Any) -> Any:
    """Small calls on a large array: 400 columns' means."""
    large = np.tile(data, (40, 1))
    calls = (joblib.delayed(np.mean)(large[:, at % 64]) for at in range(400))
    return np.array(joblib.Parallel()(calls))


def timed(function: Callable[[Any, Any], Any], *args: Any) -> tuple[float, Any]:
    begin = time.perf_counter()
    found = function(*args)
    return time.perf_counter() - begin, found


def main() -> int:
    aiopip.register_joblib()
    data, target = load_digits(return_X_y=True)
    agree = True
    for function in (validate, search, many):
        alone_s, expected = timed(function, data, target)
        print(f"{function.__name__:>10}: one process {alone_s:6.2f} s", end="")
        for backend in ("loky", "aiopip"):
            with joblib.parallel_config(backend=backend, n_jobs=JOBS):
                validate(data[:400], target[:400])  # the workers are started and have imported
                took_s, found = timed(function, data, target)
            same = np.array_equal(found, expected)
            agree = agree and same
            print(f", {backend} {took_s:6.2f} s{'' if same else ' WITH OTHER RESULTS'}", end="")
        print()
    print("all have the same results" if agree else "the results differ")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
