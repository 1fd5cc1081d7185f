/* A task that does as it is told on stdin, a command a line, and answers each with a line.
 *
 * Numbers of errors are answered by name, so that a failing test can be read. */
#define _GNU_SOURCE
#include <errno.h>
#include <pip/pip.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 8
#define NAMES 100

static int in_data = 41;
static double *grid;
static size_t items;
static int numbers[THREADS][NAMES];

static const char *name_of(int error)
{
    return error ? strerrorname_np(error) : "OK";
}

static void make_grid(size_t count)
{
    items = count;
    grid = mmap(NULL, count * sizeof *grid, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0);
    for (size_t i = 0; i < count; i++)
        grid[i] = (double)i;
}

static double sum(void)
{
    double total = 0;
    for (size_t i = 0; i < items; i++)
        total += grid[i];
    return total;
}

static void import(int pipid, const char *name, int wait)
{
    int *found = NULL;
    int error = wait ? pip_named_import(pipid, (void **)&found, "%s", name)
                     : pip_named_tryimport(pipid, (void **)&found, "%s", name);
    printf("%s %d\n", name_of(error), found ? *found : -1);
}

/* In a child by fork nothing works. */
static void ask_child(void)
{
    int pipid = -7;
    void *address = &pipid;
    fflush(stdout);
    if (fork() == 0) {
        printf("%d ", pip_isa_task());
        printf("%s ", name_of(pip_get_pipid(&pipid)));
        printf("%s ", name_of(pip_named_export(&pipid, "child")));
        printf("%s ", name_of(pip_named_import(0, &address, "child")));
        printf("%s ", name_of(pip_named_tryimport(0, &address, "child")));
        printf("%d\n", pipid == -7 && address == &pipid);
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
}

static void *export_many(void *argument)
{
    int thread = (int)(intptr_t)argument;
    for (int i = 0; i < NAMES; i++) {
        numbers[thread][i] = thread * 1000 + i;
        if (pip_named_export(&numbers[thread][i], "number-%d-%d", thread, i) != 0)
            return argument;
    }
    return NULL;
}

static void export_by_threads(void)
{
    pthread_t threads[THREADS];
    void *failed = NULL, *result;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, export_many, (void *)(intptr_t)i);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &result);
        failed = result ? result : failed;
    }
    puts(failed ? "failed" : "OK");
}

static void tell_addresses(void)
{
    int on_stack = 43;
    printf("%p %p %p %p\n", (void *)&on_stack, (void *)&in_data, (void *)grid, (void *)&sum);
}

static void do_memory(char *first, char *second, char *third)
{
    if (!strcmp(first, "grid")) {
        make_grid(strtoul(second, NULL, 0));
        puts("OK");
    } else if (!strcmp(first, "get"))
        printf("%g\n", grid[atoi(second)]);
    else if (!strcmp(first, "set")) {
        grid[atoi(second)] = atof(third);
        puts("OK");
    } else if (!strcmp(first, "sum"))
        printf("%.0f\n", sum());
    else if (!strcmp(first, "read-only"))
        puts(name_of(mprotect(grid, items * sizeof *grid, PROT_READ) ? errno : 0));
    else if (!strcmp(first, "unmap"))
        puts(name_of(munmap(grid, items * sizeof *grid) ? errno : 0));
    else if (!strcmp(first, "addresses"))
        tell_addresses();
}

static void do_command(char *first, char *second, char *third)
{
    int pipid = -1;

    if (!strcmp(first, "who")) {
        int error = pip_get_pipid(&pipid);
        printf("%d %s %d\n", pip_isa_task(), name_of(error), pipid);
    } else if (!strcmp(first, "export"))
        puts(name_of(pip_named_export(&in_data, "%s", second)));
    else if (!strcmp(first, "export-grid"))
        puts(name_of(pip_named_export(grid, "%s", second)));
    else if (!strcmp(first, "export-at"))
        puts(name_of(pip_named_export((void *)strtoul(third, NULL, 0), "%s", second)));
    else if (!strcmp(first, "export-null"))
        puts(name_of(pip_named_export(&in_data, NULL)));
    else if (!strcmp(first, "export-nul"))
        puts(name_of(pip_named_export(&in_data, "a%cb", 0)));
    else if (!strcmp(first, "try-nul"))
        puts(name_of(pip_named_tryimport(0, NULL, "a%cb", 0)));
    else if (!strcmp(first, "import"))
        import(atoi(second), third, 1);
    else if (!strcmp(first, "try"))
        import(atoi(second), third, 0);
    else if (!strcmp(first, "try-null"))
        puts(name_of(pip_named_tryimport(atoi(second), NULL, NULL)));
    else if (!strcmp(first, "child"))
        ask_child();
    else if (!strcmp(first, "threads"))
        export_by_threads();
    else if (!strcmp(first, "exit"))
        pip_exit(atoi(second));
    else if (!strcmp(first, "kill"))
        raise(SIGKILL);
    else
        do_memory(first, second, third);
}

int main(void)
{
    char line[1024], first[512], second[512], third[512];

    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        first[0] = second[0] = third[0] = 0;
        if (sscanf(line, "%511s %511s %511s", first, second, third) > 0)
            do_command(first, second, third);
    }
    return 0;
}
