"""A currency exchange lies in the memory of one task, and others (exchange_tasks.py) trade there.

One of them is killed between the halves of a trade.  Who gets the lock next is told so, and undoes
that trade, as a journal in the same memory says: no cent may be made or lost.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich import print as show
from rich.table import Table

import aiopip

CURRENCIES = "euros", "dollars", "francs"
TRADERS = 4


async def first_to_export(name: str, tasks: list[aiopip.Task]) -> aiopip.Task:
    """Wait for whichever of the tasks exports this name first."""
    imports = {asyncio.ensure_future(task.named_import(name)): task for task in tasks}
    done, others = await asyncio.wait(imports, return_when=asyncio.FIRST_COMPLETED)
    for one in others:
        one.cancel()
    for one in done:
        one.result()
    return imports[done.pop()]


async def trade() -> list[Any]:
    """Have the tasks trade: the accounts before, in the middle of a trade, and in the end."""
    async with aiopip.Root() as root:
        line = sys.executable, Path(__file__).with_name("exchange_tasks.py"), f"{TRADERS}"
        exchange, *traders = [await root.spawn(*line, pipid=pipid) for pipid in range(TRADERS + 1)]
        book = np.asarray(await exchange.named_import("book"))  # the exchange's own memory
        before = book["accounts"].copy()
        for trader in traders:
            await trader.named_import("here")
        started = time.perf_counter()
        root.export("open", b"")
        victim = await first_to_export("halfway", traders)
        halfway = book["accounts"].copy()  # the victim has the lock: nothing moves
        victim.kill()
        failed = [trader for trader in traders if await trader.wait() and trader != victim]
        print(f"{TRADERS} traders took {time.perf_counter() - started:.2f} s")
        root.export("closed", b"")
    if failed or not book["repairer"] or book["trader"]:
        sys.exit(f"failed: {failed}; the book: {book}")
    print(f"trader {victim.pipid} was killed halfway; trader {book['repairer']} repaired its trade")
    return [before, halfway, book["accounts"]]  # which stays mapped while somebody looks at it


if __name__ == "__main__":
    before, halfway, after = asyncio.run(trade())
    table = Table("in cents", *CURRENCIES, "trades")
    names = ["exchange", *(f"trader {pipid}" for pipid in range(1, TRADERS + 1))]
    for name, old, new in zip(names, before, after, strict=True):
        changes = zip(old["cents"], new["cents"], strict=True)
        table.add_row(name, *(f"{a} -> {b}" for a, b in changes), f"{new['trades']}")
    table.add_section()
    sums = [accounts["cents"].sum(axis=0).tolist() for accounts in (before, halfway, after)]
    for name, row in zip(("before", "halfway", "after"), sums, strict=True):
        table.add_row(f"sum {name}", *map(str, row))
    show(table)
    if sums[0] != sums[2] or sums[0] == sums[1]:
        sys.exit("money was made or lost")
    print("of each currency there is what there was, to the cent")
