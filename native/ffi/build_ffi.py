"""The source of `aiopip._native`, for `cffi-gen-src exec-python build_ffi.py _native.c`.

API mode: the compiler checks the declarations against `aiopip.h`, and the extension is linked with
`libaiopip.so`.
"""

from pathlib import Path

from cffi import FFI

ffibuilder = FFI()
for name in ("aiopip.cdef", "calls.cdef"):
    ffibuilder.cdef(Path(__file__).with_name(name).read_text(encoding="utf-8"))
ffibuilder.set_source("aiopip._native", '#include "aiopip_calls.h"')
