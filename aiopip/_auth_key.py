"""multiprocessing's authentication key in a worker: that of the program which owns the pool."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODULE = "multiprocessing.process"


def tell(key: bytes) -> None:
    """Tell multiprocessing, which has been imported."""
    sys.modules[MODULE].current_process().authkey = key


def find(finder: "Any", key: bytes, path: "Any", target: "Any") -> "Any":
    """The spec of its module, by which that is told when it is imported.

    Args:
        finder: who asks, for all others to be asked; it is in `sys.meta_path` until then.
        key: what is told.
        path: as of `find_spec`.
        target: likewise.
    """
    for other in sys.meta_path:
        others = None if other is finder else getattr(other, "find_spec", None)
        spec = others and others(MODULE, path, target)
        if spec is not None:
            spec.loader = _Loader(spec.loader, finder, key)
            return spec
    return None


class _Loader:
    """What loads the module, as if this were not here, and tells it the key."""

    def __init__(self, loader: "Any", finder: "Any", key: bytes) -> None:
        self._loader = loader
        self._finder = finder
        self._key = key

    def create_module(self, spec: "Any") -> "Any":
        return self._loader.create_module(spec)

    def exec_module(self, module: "Any") -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        tell(self._key)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
