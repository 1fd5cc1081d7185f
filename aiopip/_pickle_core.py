"""The C half of `pickle`, without the modules that it imports and does not use.

Of `functools` it wants `partial`, which is C's, and gets with it `collections`, `operator` and
`reprlib`: a fifth of an interpreter's start, while eight of them start.
"""

import sys

if "functools" in sys.modules:
    import _pickle
else:
    import _functools  # type: ignore[import-not-found]

    sys.modules["functools"] = _functools
    try:
        import _pickle
    finally:
        del sys.modules["functools"]

PickleBuffer = _pickle.PickleBuffer
Pickler = _pickle.Pickler
PicklingError = _pickle.PicklingError
dumps = _pickle.dumps
loads = _pickle.loads
