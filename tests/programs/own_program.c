/* Ask in all ways which program this is: a line for each, "way answer".
 *
 *   own_program                  what the links and files say
 *   own_program HOW [ARG...]     start it again, by execve, execv, execvp, posix_spawn, vfork or syscall
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void tell(const char *way, const char *answer, long length)
{
    if (length < 0)
        printf("%s %s\n", way, strerror(errno));
    else
        printf("%s %.*s\n", way, (int)length, answer);
}

static void tell_links(void)
{
    char text[PATH_MAX], path[64];

    tell("readlink", text, readlink("/proc/self/exe", text, sizeof text));
    tell("thread-self", text, readlink("/proc/thread-self/exe", text, sizeof text));
    snprintf(path, sizeof path, "/proc/%d/exe", getpid());
    tell("pid", text, readlink(path, text, sizeof text));
    tell("readlinkat", text, readlinkat(AT_FDCWD, "/proc/self/exe", text, sizeof text));
    tell("syscall", text, syscall(SYS_readlink, "/proc/self/exe", text, sizeof text));
    tell("syscall-at", text, syscall(SYS_readlinkat, 99, "/proc/self/exe", text, sizeof text));
    tell("realpath", realpath("/proc/self/exe", text), (long)strlen(text));
    tell("short", text, readlink("/proc/self/exe", text, 3));
    tell("none", text, readlink("/proc/self/exe", text, 0));
    tell("longer", text, readlink("/proc/self/exes", text, sizeof text));
    tell("shorter", text, readlink("/proc/self/ex", text, sizeof text));
    snprintf(path, sizeof path, "/proc/%d/exe", getppid());
    tell("parent", text, readlink(path, text, sizeof text));
    tell("cwd", text, readlink("/proc/self/cwd", text, sizeof text));
}

static void tell_file(const char *way, int descriptor)
{
    struct stat status;

    if (descriptor < 0 || fstat(descriptor, &status) < 0)
        printf("%s %s\n", way, strerror(errno));
    else
        printf("%s %lu\n", way, (unsigned long)status.st_ino);
}

static void tell_files(void)
{
    FILE *file = fopen("/proc/self/exe", "rb");

    tell_file("open", open("/proc/self/exe", O_RDONLY));
    tell_file("openat", openat(AT_FDCWD, "/proc/thread-self/exe", O_RDONLY));
    tell_file("fopen", file ? fileno(file) : -1);
    if (file)
        fclose(file);
    tell_file("syscall-open", (int)syscall(SYS_open, "/proc/self/exe", O_RDONLY));
    tell_file("syscall-openat", (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/exe", O_RDONLY));
}

int main(int argc, char **argv)
{
    char *again[] = {argv[0], NULL}, exe[] = "/proc/self/exe";
    const char *how = argc > 1 ? argv[1] : "";
    int status = 0;
    pid_t pid;

    if (!strcmp(how, "execve"))
        execve(exe, again, environ);
    else if (!strcmp(how, "execv"))
        execv(exe, again);
    else if (!strcmp(how, "execvp"))
        execvp(exe, again);
    else if (!strcmp(how, "syscall"))
        syscall(SYS_execve, exe, again, environ);
    else if (!strcmp(how, "posix_spawn"))
        return posix_spawn(&pid, exe, NULL, NULL, again, environ) ||
               waitpid(pid, &status, 0) != pid || status;
    else if (!strcmp(how, "vfork")) {
        if ((pid = vfork()) == 0) {
            execv(exe, again);
            _exit(1);
        }
        return waitpid(pid, &status, 0) != pid || status;
    } else if (!strcmp(how, "fork")) {
        if ((pid = fork()) == 0) {
            tell_links();
            tell_files();
            return 0;
        }
        return waitpid(pid, &status, 0) != pid || status;
    } else {
        tell_links();
        tell_files();
        return 0;
    }
    return 1;
}
