/* SPDX-License-Identifier: BSD-2-Clause
 *
 * task_seeding.c: a task that says what it knows of the processor, at an address in the root's memory.
 */
#include <stdlib.h>

#include "processor.h"

int main(int argc, char **argv)
{
    if (argc > 1)
        processor_facts((uint64_t *)strtoull(argv[1], NULL, 16));
    return 0;
}
