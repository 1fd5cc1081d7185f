"""The tasks of exchange.py: PiP ID 0 has the book in its memory, the others trade there."""

import random
import signal
import sys
from typing import Any

import numpy as np

import aiopip

RATES = 10_000, 9_170, 10_480  # of a cent of each currency
TRADES, FATAL = 10_000, 5_000  # all of them, and those before the one that is left halfway
ACCOUNT = np.dtype([("cents", "i8", len(RATES)), ("trades", "i8")])
WORDS = [("trader", "i8"), ("victim", "i8"), ("repairer", "i8")]  # PiP IDs


def keep_book(task: aiopip.ThisTask, traders: int) -> None:
    """Be the exchange: export the book and its lock, and stay until the root closes.

    The book has an account for each PiP ID, the first being the exchange's own, and a journal: who
    is in a trade (0: nobody), and what the exchange's account and that one's were before it.
    """
    accounts = ("accounts", ACCOUNT, traders + 1)
    book = np.zeros((), [("rates", "i8", len(RATES)), accounts, ("journal", ACCOUNT, 2), *WORDS])
    book["rates"], book["accounts"]["cents"] = RATES, 50_000
    task.export("book", book)
    task.export("lock", aiopip.Lock())
    task.named_import_sync(task.root, "closed")


def be_trader(task: aiopip.ThisTask) -> None:
    """Trade under the lock, and put right what somebody who died with it has left."""
    book = np.asarray(task.named_import_sync(0, "book"))
    lock = aiopip.Lock(task.named_import_sync(0, "lock"))
    task.export("here", b"")
    task.named_import_sync(task.root, "open")
    while book["accounts"]["trades"][0] < TRADES:
        goods, amount = random.sample(range(len(RATES)), 2), random.randint(1, 300)
        try:
            with lock:
                trade(book, task, goods, amount)
        except aiopip.OwnerDiedError:  # the block was not entered, but the lock is ours
            repair(book, task.pipid)
            lock.recover()
            lock.release()


def trade(book: Any, task: aiopip.ThisTask, goods: list[int], amount: int) -> None:
    """Buy an amount of the first of two currencies for the second, if there is enough of both."""
    cents, trades, us = book["accounts"]["cents"], book["accounts"]["trades"], [0, task.pipid]
    price = -(-amount * book["rates"][goods[0]] // book["rates"][goods[1]])
    if cents[0, goods[0]] < amount or cents[task.pipid, goods[1]] < price or trades[0] == TRADES:
        return
    book["journal"] = book["accounts"][us]
    book["trader"] = task.pipid  # from here on, the trade can be undone
    cents[0, goods] += -amount, price
    if trades[0] == FATAL and not book["victim"]:
        book["victim"] = task.pipid
        task.export("halfway", b"")  # the root waits for this, to kill us
        signal.pause()
    cents[task.pipid, goods] += amount, -price
    trades[us] += 1
    book["trader"] = 0  # from here on, it is done


def repair(book: Any, pipid: int) -> None:
    """Undo the trade that is under way.  Who dies in here leaves it to the next."""
    if book["trader"]:
        book["accounts"][[0, book["trader"]]] = book["journal"]
        book["repairer"], book["trader"] = pipid, 0


if __name__ == "__main__":
    me = aiopip.this_task()
    be_trader(me) if me.pipid else keep_book(me, int(sys.argv[1]))
