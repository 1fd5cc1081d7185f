/* End by a fault of its own: segv, abort, fpe, ill, bus, stack. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static volatile int zero;

/* So many calls no stack takes; volatile, since the compiler warns of recursion without an end. */
static volatile int limit = 1 << 30;

static int deeper(int level)
{
    volatile char frame[65536];
    frame[level % 65536] = 1;
    return level < limit ? deeper(level + 1) + frame[0] : 0;
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";

    if (!strcmp(how, "segv"))
        *(volatile int *)8 = 1;
    if (!strcmp(how, "abort"))
        abort();
    if (!strcmp(how, "fpe"))
        return 100 / zero;
    if (!strcmp(how, "ill"))
        __builtin_trap();
    if (!strcmp(how, "bus")) {
        FILE *file = tmpfile();
        char *memory = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fileno(file), 0);
        return memory[0];
    }
    if (!strcmp(how, "stack"))
        return deeper(0);
    return 99;
}
