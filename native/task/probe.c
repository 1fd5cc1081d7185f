/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probe.c: the smallest program; the core runs it to see that tasks run here.
 */
int main(void)
{
    return 0;
}
