"""The stages of drawing.py, each of which does a tile: three planes of float32.

What a stage sees of the picture reaches farther than its tile, on each side by what MARGINS says.
No result depends on where its tile begins, so that the tiles fit without a seam.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from drawing_times import Stamp, now

WINDOW = 16  # pixels, a power of two
TONES, LINES = 7, 24  # how many tones a drawing has, and how strong its lines are
GREY = np.array([0.299, 0.587, 0.114], "f4").reshape(3, 1, 1)
Stage = Callable[[Any, Any], None]


def do(stage: Stage, seen: Any, out: Any) -> Stamp:
    """Do a tile where the caller wants it."""
    begun = now()
    stage(seen, out)
    return Stamp(begun, now())


def do_and_return(stage: Stage, seen: Any) -> tuple[Stamp, Any]:
    """Do a tile in a new array, for callers that have no memory in common with us."""
    out = np.empty_like(inner(seen, MARGINS[stage]))
    return do(stage, seen, out), out


def inner(planes: Any, margin: int) -> Any:
    return planes[..., margin:-margin, margin:-margin]


def median(a: Any, b: Any, c: Any, out: Any = None) -> Any:
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c), out=out)


def means(planes: Any) -> Any:
    """Take the mean of each window, by sums of sums."""
    for width in (2**power for power in range(WINDOW.bit_length() - 1)):
        planes = planes[..., width:] + planes[..., :-width]
        planes = planes[..., width:, :] + planes[..., :-width, :]
    return planes / np.float32(WINDOW**2)


def denoise(seen: Any, out: Any) -> None:
    """Take the median of a pixel and the eight around it, by way of sorted columns."""
    rows = seen[:, :-2], seen[:, 1:-1], seen[:, 2:]
    columns = np.minimum.reduce(rows), median(*rows), np.maximum.reduce(rows)
    low, middle, high = [(one[..., :-2], one[..., 1:-1], one[..., 2:]) for one in columns]
    median(np.maximum.reduce(low), median(*middle), np.minimum.reduce(high), out=out)


def flatten(seen: Any, out: Any) -> None:
    """Smooth all but edges, as the guided filter (He, Sun and Tang, 2010) does."""
    mean = means(seen)
    variance = means(seen * seen) - mean * mean
    edge = variance / (variance + np.float32(0.002))
    np.multiply(inner(seen, MARGINS[flatten]), means(edge), out=out)
    out += means(mean - edge * mean)


def ink(seen: Any, out: Any) -> None:
    """Leave a few tones, and draw a line where it is darker than around."""
    grey = (seen * GREY).sum(axis=0)
    middle = inner(grey, MARGINS[ink])
    tone = np.round(middle * TONES) / TONES / np.maximum(middle, np.float32(0.01))
    line = 1 + LINES * (middle - means(means(grey)))
    np.clip(inner(seen, MARGINS[ink]) * (tone * line.clip(0, 1)), 0, 1, out=out)


MARGINS: dict[Stage, int] = {denoise: 1, flatten: WINDOW - 1, ink: WINDOW - 1}
STAGES = {"denoise": denoise, "flatten": flatten, "flatten again": flatten, "ink": ink}
