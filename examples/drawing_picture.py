"""The pictures of drawing.py: three planes of float32, from 0 to 1."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.cbook import get_sample_data
from PIL import Image

SCALE = 4
TILE = 450  # pixels


def photograph(border: int) -> Any:
    """Load matplotlib's, at the size that a camera's has, its edges continued by a border."""
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        size = image.width * SCALE, image.height * SCALE
        pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), "f4")
    planes = pixels.transpose(2, 0, 1) / np.float32(255)
    return np.pad(planes, [(0, 0), (border, border), (border, border)], "edge")


def cut(picture: Any, out: Any, margin: int) -> list[tuple[Any, Any]]:
    """Cut into tiles: views of the picture with a margin around each, and of where they end up."""
    reach = TILE + 2 * margin
    return [
        (picture[:, y : y + reach, x : x + reach], out[:, y : y + TILE, x : x + TILE])
        for y in range(0, out.shape[1], TILE)
        for x in range(0, out.shape[2], TILE)
    ]


def save(picture: Any, path: Path) -> None:
    """Write a picture at half its size."""
    rgb = np.round(picture.transpose(1, 2, 0) * 255).astype("u1")
    Image.fromarray(rgb).reduce(2).save(path)
