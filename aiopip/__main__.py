"""`python -m aiopip`: the command `aiopip`, where the package can be imported.

Elsewhere Python prints why it cannot; `python -m aiopip_cli doctor` looks into that.
"""

from __future__ import annotations

import sys

from aiopip._cli import aiopip

if __name__ == "__main__":
    sys.exit(aiopip(sys.argv[1:]))
