/* SPDX-License-Identifier: BSD-2-Clause
 *
 * python.c: aiopip-python, the python3 of tasks whose own one is linked at a fixed address.  It is
 * all that such a file has of its own: the interpreter is in libpython, which ld.so has preloaded
 * for us, so that this one program serves every version and needs none.
 */
#include <unistd.h>

extern __attribute__((weak)) int Py_BytesMain(int argc, char **argv);

int main(int argc, char **argv)
{
    static const char absent[] =
        "aiopip-python: no Py_BytesMain: libpython was not loaded, see above\n";

    if (Py_BytesMain)
        return Py_BytesMain(argc, argv);
    ssize_t written = write(STDERR_FILENO, absent, sizeof absent - 1);
    (void)written;
    return 127;
}
