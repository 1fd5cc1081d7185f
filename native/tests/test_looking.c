/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_looking.c: where a task's memory is, and a socket by which others ask.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "deny.h"
#include "tasks.h"

/* ---- A socket --------------------------------------------------------------------------------- */

static struct sockaddr_un address;
static socklen_t address_bytes;

/* In the abstract namespace: it is gone with the last descriptor. */
static int listen_somewhere(void)
{
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "aiopip-test-%d", (int)getpid());
    address_bytes =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(address.sun_path + 1));
    CHECK(listener >= 0);
    CHECK(bind(listener, (struct sockaddr *)&address, address_bytes) == 0);
    CHECK(listen(listener, 8) == 0);
    return listener;
}

/* 0, or the errno of connect. */
static int come_and_go(void)
{
    int asker = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int result = connect(asker, (struct sockaddr *)&address, address_bytes) == 0 ? 0 : errno;

    close(asker);
    return result;
}

static int accepted(int listener)
{
    int count = 0, asker;

    while ((asker = accept(listener, NULL, NULL)) >= 0) {
        close(asker);
        count++;
    }
    CHECK_EQUAL(errno, EAGAIN);
    return count;
}

static void test_client_is_told_whenever_somebody_comes(void)
{
    aiopip_client *client = open_client(4);
    int listener = listen_somewhere();

    CHECK_EQUAL(come_and_go(), 0); /* before it is heeded */
    CHECK_EQUAL(aiopip_heed(client, listener), 0);
    await(client, 0, AIOPIP_EVENT_CALLED);
    CHECK_EQUAL(accepted(listener), 1);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(come_and_go(), 0);
        await(client, 0, AIOPIP_EVENT_CALLED);
        CHECK_EQUAL(accepted(listener), 1);
    }
    close_client(client);
    close(listener);
}

/* It may be told of them one by one, or of some at once, but of the last one always. */
static void test_nobody_is_forgotten_who_comes_with_others(void)
{
    aiopip_client *client = open_client(4);
    int listener = listen_somewhere(), count = 0;

    CHECK_EQUAL(aiopip_heed(client, listener), 0);
    for (int i = 0; i < 5; i++)
        CHECK_EQUAL(come_and_go(), 0);
    while (count < 5) {
        await(client, 0, AIOPIP_EVENT_CALLED);
        count += accepted(listener);
    }
    CHECK_EQUAL(finish(client, spawn(client, "exit", "3")), 3 << 8);
    close_client(client);
    close(listener);
}

static void test_closed_client_lets_the_socket_go(void)
{
    aiopip_client *client = open_client(4), *other = open_client(4);
    int listener = listen_somewhere();

    CHECK_EQUAL(aiopip_heed(client, listener), 0);
    CHECK_EQUAL(come_and_go(), 0);
    await(client, 0, AIOPIP_EVENT_CALLED);
    CHECK_EQUAL(accepted(listener), 1);
    CHECK_EQUAL(aiopip_close(client), 0);
    close(listener);
    CHECK_SOON(come_and_go() == ECONNREFUSED);
    CHECK_EQUAL(finish(other, spawn(other, "exit", "0")), 0);
    close_client(other);
}

static int descriptors(void)
{
    int count = 0;

    for (int i = 0; i < 1024; i++)
        count += fcntl(i, F_GETFD) >= 0;
    return count;
}

static void test_closed_core_leaves_no_descriptor(void)
{
    int before = descriptors();
    aiopip_client *client = open_client(4);
    int listener = listen_somewhere();

    CHECK_EQUAL(aiopip_heed(client, listener), 0);
    CHECK_EQUAL(come_and_go(), 0);
    await(client, 0, AIOPIP_EVENT_CALLED);
    close_client(client);
    close(listener);
    CHECK_EQUAL(descriptors(), before);
    CHECK_EQUAL(come_and_go(), ECONNREFUSED);
}

/* ---- Memory ----------------------------------------------------------------------------------- */

static int mappings_in_spans(const struct aiopip_span *spans, int count)
{
    int found = 0;

    for (int i = 0; i < count; i++)
        found += check_mappings_in(spans[i].start, spans[i].end);
    return found;
}

static void test_spans_are_those_of_one_live_task(void)
{
    aiopip_client *client = open_client(4);
    struct aiopip_span spans[AIOPIP_SPANS], others[AIOPIP_SPANS];
    struct spawned task = spawn(client, "pause", NULL), other = spawn(client, "pause", NULL);

    await(client, task.generation, AIOPIP_EVENT_STARTED);
    await(client, other.generation, AIOPIP_EVENT_STARTED);
    int count = aiopip_spans(client, task.pipid, task.generation, spans);
    int other_count = aiopip_spans(client, other.pipid, other.generation, others);
    CHECK(count > 0 && other_count > 0);
    CHECK(spans[0].end <= others[0].start || others[0].end <= spans[0].start);
    CHECK(mappings_in_spans(spans, count) > 2);
    /* They may still be loading. */
    CHECK_SOON(mappings_in_spans(spans, count) + mappings_in_spans(others, other_count) ==
               mappings_of_tasks());
    CHECK_EQUAL(aiopip_spans(client, task.pipid, task.generation + 9, spans), -ESRCH);
    CHECK_EQUAL(aiopip_spans(client, 3, 1, spans), -ESRCH);
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, SIGKILL), 0);
    CHECK_EQUAL(finish(client, task), SIGKILL);
    CHECK_EQUAL(aiopip_spans(client, task.pipid, task.generation, spans), -ESRCH);
    CHECK_EQUAL(aiopip_kill(client, other.pipid, other.generation, SIGKILL), 0);
    CHECK_EQUAL(finish(client, other), SIGKILL);
    close_client(client);
}

int main(void)
{
    const struct denied no_private_table[] = {{SYS_pidfd_getfd, EPERM}, {0, 0}};

    RUN(test_client_is_told_whenever_somebody_comes);
    RUN(test_nobody_is_forgotten_who_comes_with_others);
    RUN(test_closed_client_lets_the_socket_go);
    RUN(test_closed_core_leaves_no_descriptor);
    RUN(test_spans_are_those_of_one_live_task);
    deny(no_private_table); /* the reaper has the process's descriptors, then */
    RUN(test_client_is_told_whenever_somebody_comes);
    RUN(test_closed_client_lets_the_socket_go);
    RUN(test_closed_core_leaves_no_descriptor);
    return 0;
}
