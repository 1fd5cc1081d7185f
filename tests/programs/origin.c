/* Say what $ORIGIN is for this program: dlinfo(RTLD_DI_ORIGIN). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>

int main(void)
{
    char origin[PATH_MAX];

    if (dlinfo(dlopen(NULL, RTLD_NOW), RTLD_DI_ORIGIN, origin) != 0)
        return 1;
    return puts(origin) < 0;
}
