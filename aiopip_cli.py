"""The entry of the command `aiopip`, which has to run where `import aiopip` fails.

There `aiopip doctor` is wanted most: on another C library or an old one, and in sources that are
not built.  The package's `__init__` refuses such machines, and everybody who imports it has to hear
so; so this one module lies beside the package.  What it needs of the package imports the standard
library alone, and then is loaded without that `__init__`.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys


def main() -> int:
    """Run the command `aiopip`; returns the exit status."""
    if sys.version_info < (3, 10):  # noqa: UP036  an older one runs this file all the same
        sys.exit("aiopip needs Python 3.10 or newer; this is {}.{}".format(*sys.version_info))
    refusal = _load_package()
    from aiopip._cli import aiopip

    return aiopip(sys.argv[1:], refusal)


def _load_package() -> str:
    """Import aiopip, or put it in place without its contents: empty, or why it cannot be used."""
    try:
        import aiopip._ffi  # noqa: F401  the package alone leaves the extension for later
    except ImportError as error:
        spec = importlib.machinery.PathFinder.find_spec("aiopip")
        if spec is None:
            raise  # this module was copied away from its package
        sys.modules["aiopip"] = importlib.util.module_from_spec(spec)
        return str(error)
    return ""


if __name__ == "__main__":
    sys.exit(main())
