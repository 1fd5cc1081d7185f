"""The examples do what they say, and stay short enough to be read."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
LINES_MAX = 79


def run(name: str, *args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run an example to its end."""
    line = [sys.executable, EXAMPLES / name, *args]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=env or None)


def test_examples_are_short() -> None:
    lines = {
        path.name: len(path.read_text().splitlines())
        for path in EXAMPLES.iterdir()
        if path.suffix in (".c", ".py")
    }
    assert {"unmodified.py", "heat.py", "wordcount.py", "exchange.py", "drawing.py"} <= lines.keys()
    assert not {name: count for name, count in lines.items() if count > LINES_MAX}


@pytest.mark.timeout(180)
def test_unmodified_programs_write_what_they_write_as_children() -> None:
    pytest.importorskip("rich")
    done = run("unmodified.py")
    assert done.returncode == 0, done.stdout + done.stderr
    installed = [name for name in ("sort", "sha256sum", "gzip", "xz") if shutil.which(name)]
    for name in installed:
        assert name in done.stdout
    assert " 0 of them not as subprocess's" in done.stdout


def test_unmodified_fails_without_any_program(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    done = run("unmodified.py", PATH=str(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "0 outputs of tasks" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.timeout(180)
def test_heat_draws_the_plate(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("rich")
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "not" / "there yet"
    done = run("heat.py", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "to the last bit" in done.stdout
    with image.open(folder / "heat.png") as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (1152, 768))
        pixels = numpy.asarray(picture).astype(int)
    # Pale walls at 0 degrees, the upper disks hot and red, the lower ones cold and blue.
    redness = pixels[..., 0] - pixels[..., 2]
    assert pixels[[0, -1]].min() > 180
    assert all(redness[164, x] > 30 for x in (90, 1060))
    assert all(redness[604, x] < -30 for x in (90, 1060))
    assert len(numpy.unique(pixels.reshape(-1, 3), axis=0)) > 500
    assert [path.name for path in folder.iterdir()] == ["heat.png"]


@pytest.mark.timeout(180)
def test_wordcount_counts_the_standard_library() -> None:
    pytest.importorskip("numpy")
    pytest.importorskip("rich")
    done = run("wordcount.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\bself +│ +\d{4,} ", done.stdout)
    assert "each exactly as often" in done.stdout
    assert done.stderr == ""


def test_wordcount_counts_what_is_hard_to_read(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    pytest.importorskip("rich")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "picture.png").write_bytes(b"ignored " * 3)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 caf\xe9s")  # "caf" twice, and an "s"
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.c")).write_text("int straße; int τέλος;", "utf-8")
    done = run("wordcount.py", tmp_path, "3")
    assert done.returncode == 0, done.stdout + done.stderr
    words = dict(re.findall(r"│ (\w+) +│ (\d+) +│", done.stdout))
    assert words == {"caf": "2", "int": "2", "straße": "1", "τέλος": "1"}
    assert "both found 6 words, 4 different" in done.stdout
    assert " of 24 parts " in done.stdout


def test_exchange_keeps_all_money() -> None:
    pytest.importorskip("numpy")
    pytest.importorskip("rich")
    done = run("exchange.py")
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.search(r"trader (\d) was killed halfway; trader (\d) repaired", done.stdout)
    assert said is not None
    assert len({*said.groups()} & {*"1234"}) == 2
    before, halfway, after = (
        re.findall(r"\d+", next(line for line in done.stdout.splitlines() if f"sum {when}" in line))
        for when in ("before", "halfway", "after")
    )
    assert before == after == ["250000"] * 3
    assert sum(money != "250000" for money in halfway) == 2
    trades = re.findall(r"│ (?:exchange|trader \d) .* (\d+) +│$", done.stdout, re.MULTILINE)
    assert trades[0] == "10000"
    assert sum(map(int, trades[1:])) == 10000
    assert done.stderr == ""


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("name", "packages", "said"),
    [
        ("executor_asyncio.py", ("sklearn", "PIL"), "same pixels"),
        ("executor_joblib.py", ("sklearn",), "all have the same results"),
        ("executor_dask.py", ("sklearn", "dask"), "same result"),
    ],
)
def test_executors_find_what_the_stock_ones_find(
    name: str, packages: tuple[str, ...], said: str
) -> None:
    # Not imported here: they start threads that stay.
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    done = run(name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in done.stdout
    assert "aiopip" in done.stdout
    assert "OTHER" not in done.stdout
    assert done.stderr == ""


@pytest.mark.timeout(180)
def test_drawing_is_the_same_each_way(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("matplotlib")
    pytest.importorskip("rich")
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "not" / "there yet"
    done = run("drawing.py", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "to the last bit" in done.stdout
    rows = re.findall(r"│ (\w+) +│ (\d+\.\d\d) +│ (\d+\.\d\d) +│", done.stdout)
    assert [name for name, *_ in rows] == ["serially", "ProcessPoolExecutor", "aiopip"]
    assert all(float(number) > 0 for _, *numbers in rows for number in numbers)
    assert {path.name for path in folder.iterdir()} == {"drawing.png", "drawing-times.png"}
    with image.open(folder / "drawing.png") as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (1024, 1200))
        pixels = numpy.asarray(picture).astype(int)
    # The background is blue, of few tones; the coat is black, as lines are; the collar is white.
    background = pixels[500:600, 900:1000]
    assert background[..., 2].min() > background[..., 0].max()
    assert numpy.ptp(background, axis=(0, 1)).max() < 32
    assert pixels[850:900, 250:400].max() < 8
    assert (pixels[760:800, 435:450].min(axis=2) > 240).mean() > 0.5
    with image.open(folder / "drawing-times.png") as picture:
        colours = {bytes(colour).hex() for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    assert {"4477aa", "ccbb44", "228833", "aa3377"} <= colours  # of the stages
