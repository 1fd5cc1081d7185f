/* SPDX-License-Identifier: BSD-2-Clause
 *
 * heat.c: one band of rows of a plate on which heat spreads; heat.py starts BANDS of it as tasks.
 *
 * The band is an ordinary static variable.  Each task has one of its own, at an address that is valid
 * in all of them: neighbours read its edge rows, and heat.py all of it, where they lie.
 */
#include <linux/futex.h>
#include <pip/pip.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BANDS 4 /* as in heat.py */
#define ROWS 96
#define COLS 576
#define STEPS 6000
#define SPINS 300 /* a neighbour on another processor is rarely further behind */

static struct band {
    _Atomic uint32_t go;   /* heat.py: the plate is as it shall be at the beginning */
    _Atomic uint32_t step; /* steps done; heat[step % 2] is the newest */
    double heat[2][ROWS][COLS];
    double rate[ROWS][COLS]; /* how quickly a cell follows its neighbours; 0: it never does */
} band;

/* Wait until the word, which only grows, has reached the goal. */
static void wait_for(_Atomic uint32_t *word, uint32_t goal)
{
    for (uint32_t i = 0, now; (now = atomic_load_explicit(word, memory_order_acquire)) < goal; i++)
        if (i >= SPINS)
            syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, now, NULL);
}

static void relax_row(const double *restrict up, const double *restrict here,
                      const double *restrict down, const double *restrict rate,
                      double *restrict next)
{
    for (int x = 1; x < COLS - 1; x++)
        next[x] = here[x] + rate[x] * (up[x] + down[x] + (here[x - 1] + here[x + 1]) - 4 * here[x]);
}

/* A neighbour that has done `step` steps has written the row that is read here, and has read ours of
 * the step before, which is overwritten here.  So one wait serves both, and neighbours are never
 * more than a step apart. */
static void relax(struct band *above, struct band *below, uint32_t step)
{
    uint32_t now = step % 2;

    wait_for(&above->step, step);
    wait_for(&below->step, step);
    for (int y = 0; y < ROWS; y++) /* where there is no neighbour, a wall is, with a rate of 0 */
        relax_row(y > 0 ? band.heat[now][y - 1] : above->heat[now][ROWS - 1], band.heat[now][y],
                  y < ROWS - 1 ? band.heat[now][y + 1] : below->heat[now][0], band.rate[y],
                  band.heat[!now][y]);
    atomic_store_explicit(&band.step, step + 1, memory_order_release);
    syscall(SYS_futex, &band.step, FUTEX_WAKE_PRIVATE, 2);
}

int main(void)
{
    void *above = &band, *below = &band;
    int pipid, error;

    if ((error = pip_get_pipid(&pipid)) != 0 || (error = pip_named_export(&band, "band")) != 0 ||
        (pipid > 0 && (error = pip_named_import(pipid - 1, &above, "band")) != 0) ||
        (pipid < BANDS - 1 && (error = pip_named_import(pipid + 1, &below, "band")) != 0)) {
        fprintf(stderr, "heat: error %d; heat.py starts this program\n", error);
        return 1;
    }
    while (!atomic_load_explicit(&band.go, memory_order_acquire))
        usleep(200); /* heat.py has no futex to wake us with */
    for (uint32_t step = 0; step < STEPS; step++)
        relax(above, below, step);
    return 0; /* the neighbours' imports keep the band for as long as they read it */
}
