/* SPDX-License-Identifier: MIT
 *
 * An event channel file's reads and writes: their sizes, poll, O_NONBLOCK, several ports, and what closing gives back.
 * Channels between two files of this one process, through dom0 itself. Needs domain 1.
 */
#include "check.h"

static int here, there;

/* A channel whose one end belongs to `here` and the other to `there`, with nothing waiting. */
static void channel(uint32_t *near, uint32_t *far)
{
    uint32_t port;

    *near = (uint32_t)bind_unbound(here, 0);
    *far = (uint32_t)bind_interdomain(there, 0, *near);
    while (readable_within(there, 20)) { /* binding makes an event up */
        if (read(there, &port, 4) == 4) (void)!write(there, &port, 4);
    }
    while (readable_within(here, 20)) {
        if (read(here, &port, 4) == 4) (void)!write(here, &port, 4);
    }
}

/*
 * Writes reach the host as messages, in order with this file's calls but not with notifications, which overtake them: an
 * unmask that was not needed could come after the next event. So wait for it where a test makes one.
 */
static void settle(void)
{
    check_errno("a port that is none", notify(here, 100000), ENOTCONN);
}

static void sizes(uint32_t near, uint32_t far)
{
    uint32_t ports[2048];
    unsigned char bytes[8];

    memset(ports, 0, sizeof ports);
    check_result("read of 0 bytes", read(here, bytes, 0), 0);
    for (size_t n = 1; n < 4; n++) check_result("read of too few bytes", read(here, bytes, n), 0);
    check_result("write of 0 bytes", write(here, bytes, 0), 0);
    for (size_t n = 1; n < 4; n++) check_result("write of too few bytes", write(here, bytes, n), 0);
    check_result("the file after that", notify(there, far), 0);
    check("the event comes", readable_within(here, 5000), "nothing");
    memset(bytes, 0xee, sizeof bytes);
    check_result("read of 7 bytes", read(here, bytes, 7), 4);
    check("is the port", memcmp(bytes, &near, 4) == 0, "%02x%02x%02x%02x", bytes[3], bytes[2], bytes[1], bytes[0]);
    check("and no more", bytes[4] == 0xee, "%02x", bytes[4]);
    ports[0] = near;
    ports[1] = 0xffffffff; /* nobody's */
    check_result("write of 7 bytes", write(here, ports, 7), 4);
    check_result("write of two ports", write(here, ports, 8), 8);
    settle();
    check_result("notify again", notify(there, far), 0);
    check("it was unmasked", readable_within(here, 5000), "nothing");
    check_result("read of a page and more", read(here, ports, sizeof ports), 4);
    memset(ports, 0, sizeof ports);
    ports[0] = near;
    check_result("write of a page", write(here, ports, 4096), 4096);
    check_result("notify a third time", notify(there, far), 0);
    check("unmasked by the first of a page", readable_within(here, 5000), "nothing");
    check_result("read", read(here, ports, 4), 4);
    (void)!write(here, ports, 4);
    settle();
}

static void masking(uint32_t near, uint32_t far)
{
    uint32_t port = 0;

    for (int i = 0; i < 5; i++) check_result("notify five times", notify(there, far), 0);
    check("one event", readable_within(here, 5000), "nothing");
    check_result("read it", read(here, &port, 4), 4);
    check("no second one while it is masked", !readable_within(here, 50), "readable");
    check_result("notify while masked", notify(there, far), 0);
    check("still nothing", !readable_within(here, 50), "readable");
    check_result("unmask", write(here, &near, 4), 4);
    check("now it comes", readable_within(here, 5000), "nothing");
    check_result("read that", read(here, &port, 4), 4);
    check_result("unmask", write(here, &near, 4), 4);
}

static void waiting(uint32_t near, uint32_t far)
{
    struct pollfd p = {.fd = here, .events = POLLIN | POLLOUT};
    int quick = device("evtchn", O_NONBLOCK | O_CLOEXEC);
    uint32_t port, mine;

    check("poll: writable, not readable", poll(&p, 1, 0) == 1 && p.revents == POLLOUT, "revents %#x", p.revents);
    check_result("notify", notify(there, far), 0);
    check("poll: readable", readable_within(here, 5000), "nothing");
    check_result("read", read(here, &port, 4), 4);
    check_result("unmask", write(here, &near, 4), 4);
    check_errno("O_NONBLOCK at open", read(quick, &port, 4), EAGAIN);
    mine = (uint32_t)bind_unbound(quick, 1);
    check("O_NONBLOCK calls are carried out", (int)mine > 0, "%d", (int)mine);
    check_result("and its writes", write(quick, &mine, 4), 4);
    fcntl(here, F_SETFL, fcntl(here, F_GETFL) | O_NONBLOCK);
    check_errno("O_NONBLOCK later", read(here, &port, 4), EAGAIN);
    fcntl(here, F_SETFL, fcntl(here, F_GETFL) & ~O_NONBLOCK);
    close(quick);
}

static void owning(uint32_t near, uint32_t far)
{
    int other = device("evtchn", O_CLOEXEC);
    struct ioctl_evtchn_unbind unbind = {.port = near};

    check_errno("another file's port: notify", notify(other, near), ENOTCONN);
    check_errno("another file's port: unbind", ioctl(other, IOCTL_EVTCHN_UNBIND, &unbind), ENOTCONN);
    check_result("another file's port: unmask is passed over", write(other, &near, 4), 4);
    check_result("unbind", ioctl(here, IOCTL_EVTCHN_UNBIND, &unbind), 0);
    check_errno("after unbind", notify(here, near), ENOTCONN);
    check_result("the far end still is", notify(there, far), 0);
    close(other);
}

static void many(void)
{
    enum { N = 200 };
    uint32_t near[N], far[N], port;
    int seen = 0;
    static unsigned char got[1 << 17];

    for (int i = 0; i < N; i++) {
        near[i] = (uint32_t)bind_unbound(here, 0);
        far[i] = (uint32_t)bind_interdomain(there, 0, near[i]);
    }
    /* nobody reads meanwhile: none may be lost, none may come twice */
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < N; i++) notify(there, far[i]);
    while (readable_within(here, 200))
        if (read(here, &port, 4) == 4 && port < sizeof got && !got[port]++) seen++;
    for (int i = 0; i < N; i++)
        if (got[near[i]] != 1) seen = -1;
    check("200 ports that nobody read", seen == N, "%d seen", seen);
}

/* Reset drops what waits to be read; ports stay. */
static void reset(uint32_t near, uint32_t far)
{
    uint32_t port;

    notify(there, far);
    check("an event waits", readable_within(here, 5000), "nothing");
    check_result("RESET", ioctl(here, IOCTL_EVTCHN_RESET, 0), 0);
    check("nothing waits", !readable_within(here, 50), "readable");
    check_result("unmask", write(here, &near, 4), 4);
    notify(there, far);
    check("the port still works", readable_within(here, 5000), "nothing");
    check_result("read", read(here, &port, 4), 4);
    (void)!write(here, &near, 4);
}

int main(void)
{
    uint32_t near, far;
    int first;

    begin();
    here = device("evtchn", O_CLOEXEC);
    there = device("evtchn", O_CLOEXEC);
    channel(&near, &far);
    sizes(near, far);
    masking(near, far);
    waiting(near, far);
    reset(near, far);
    owning(near, far);
    many();
    first = bind_unbound(here, 1);
    close(here);
    close(there);
    here = device("evtchn", O_CLOEXEC);
    check("closing gives ports back", bind_unbound(here, 1) <= first, "port above %d", first);
    return end();
}
