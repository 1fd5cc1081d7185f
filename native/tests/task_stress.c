/* SPDX-License-Identifier: BSD-2-Clause
 *
 * task_stress.c: a party of test_stress.c: the address of its board, and its seed.  It ends with 1
 * when something was wrong, and says where.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "stress.h"

static struct stress_party parties[2];

static void *run(void *argument)
{
    struct stress_party *party = argument;

    while (!atomic_load(&party->board->stop)) {
        int line = stress_step(party);
        if (line) {
            fprintf(stderr, "stress.c:%d\n", line);
            exit(1);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    aiopip_peer *peer;
    pthread_t thread;
    uint32_t version;

    if (argc != 3 || aiopip_join(&peer, &version) < 0)
        return 2;
    struct stress_board *board = (struct stress_board *)strtoull(argv[1], NULL, 16);
    uint64_t seed = strtoull(argv[2], NULL, 10);
    for (uint64_t i = 0; i < 2; i++)
        stress_begin(&parties[i], peer, board, seed + i, i == 1);
    if (pthread_create(&thread, NULL, run, &parties[1]) != 0)
        return 3;
    run(&parties[0]);
    pthread_join(thread, NULL);
    return 0;
}
