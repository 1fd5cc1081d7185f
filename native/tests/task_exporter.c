/* SPDX-License-Identifier: BSD-2-Clause
 *
 * task_exporter.c: a task that exports a page as "page" when a byte comes in, and ends with 7 when
 * standard input does.
 */
#include <unistd.h>

#include "pip/pip.h"

int main(void)
{
    static char page[4096] = "of the exporter";
    char byte;

    while (read(0, &byte, 1) > 0)
        if (pip_named_export(page, "page") != 0)
            return 1;
    return 7;
}
