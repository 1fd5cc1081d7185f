"""A task that has an array of ones, and exports it under each name that it reads: SIZE_BYTES."""

import sys

import numpy as np

import aiopip

array = np.ones(int(sys.argv[1]) // 8)
me = aiopip.this_task()
me.export("ready", array)
for line in sys.stdin:
    me.export(line.strip(), array)
