/* SPDX-License-Identifier: MIT
 *
 * Event channels between two open files of one process, each the other's remote: delivery, masking, coalescing, and what
 * read, write, poll, RESET and close do. Needs domains A (HVM, 2 vCPUs), B (HVM, 1 vCPU) and P (PV).
 *
 * Wake-ups without a cause exist on real Xen: a row says what may be read, never that no wake-up came.
 */
#include "oracle.h"

#include <poll.h>
#include <pthread.h>

#define NONE "%s", ""
static int left, right;          /* the two files */
static unsigned l_port, r_port;  /* their ports, connected */

static int bind_unbound(int fd, domid_t dom)
{
    struct ioctl_evtchn_bind_unbound_port b = {.remote_domain = dom};

    return ioctl(fd, IOCTL_EVTCHN_BIND_UNBOUND_PORT, &b);
}

static int bind_interdomain(int fd, domid_t dom, unsigned port)
{
    struct ioctl_evtchn_bind_interdomain b = {.remote_domain = dom, .remote_port = port};

    return ioctl(fd, IOCTL_EVTCHN_BIND_INTERDOMAIN, &b);
}

static int bind_virq(int fd, unsigned virq)
{
    struct ioctl_evtchn_bind_virq b = {.virq = virq};

    return ioctl(fd, IOCTL_EVTCHN_BIND_VIRQ, &b);
}

static int notify(int fd, unsigned port)
{
    struct ioctl_evtchn_notify n = {.port = port};

    return ioctl(fd, IOCTL_EVTCHN_NOTIFY, &n);
}

static int unbind(int fd, unsigned port)
{
    struct ioctl_evtchn_unbind u = {.port = port};

    return ioctl(fd, IOCTL_EVTCHN_UNBIND, &u);
}

static int unmask(int fd, unsigned port) { return write(fd, &port, sizeof port); }

static int open_evtchn(void)
{
    int fd = open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    need(fd >= 0, "/dev/xen/evtchn");
    return fd;
}

static int poll_events(int fd, int timeout)
{
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};

    /* POLLOUT is always there: wait for input alone, then ask for both. */
    p.events = POLLIN;
    poll(&p, 1, timeout);
    p.events = POLLIN | POLLOUT;
    poll(&p, 1, 0);
    return p.revents;
}

/* One read of up to `size` bytes, after waiting for an event; ports are printed by name. */
static void read_row(const char *g, const char *call, int fd, size_t size)
{
    unsigned ports[8] = {0};
    ssize_t n;
    char text[128] = "";

    poll_events(fd, 300);
    n = read(fd, ports, size);
    int e = errno;
    for (int i = 0; i < n / 4; i++) {
        strcat(text, i ? "," : "");
        strcat(text, ports[i] == l_port ? "left" : ports[i] == r_port ? "right" : "other");
    }
    errno = e;
    row(g, call, n, "%s", text);
}

static void nothing(const char *g, const char *call, int fd)
{
    row(g, call, (poll_events(fd, 150) & POLLIN) != 0, NONE);
}

static void drain(int fd, unsigned port)
{
    unsigned p;

    while (poll_events(fd, 50) & POLLIN) {
        if (read(fd, &p, 4) != 4) break;
        unmask(fd, port);
    }
}

static void connect_pair(const char *g)
{
    left = open_evtchn();
    right = open_evtchn();
    row(g, "read, nothing bound", read(left, &(unsigned){0}, 4), NONE);
    row(g, "poll, nothing bound", 0, "revents=%#x", poll_events(left, 0));
    l_port = bind_unbound(left, 0);
    row(g, "BIND_UNBOUND(0)", l_port, NONE);
    row(g, "NOTIFY of an unbound port", notify(left, l_port), NONE);
    r_port = bind_interdomain(right, 0, l_port);
    row(g, "BIND_INTERDOMAIN(0, that port)", r_port, NONE);
    drain(left, l_port);
    drain(right, r_port);
}

static void delivery(void)
{
    const char *g = "evtchn delivery";
    unsigned both[2];

    connect_pair(g);
    row(g, "NOTIFY", notify(right, r_port), NONE);
    row(g, "poll, event pending", 0, "revents=%#x", poll_events(left, 300));
    read_row(g, "read", left, 4);
    nothing(g, "readable again", left);
    row(g, "NOTIFY while masked", notify(right, r_port), NONE);
    row(g, "NOTIFY while masked, twice", notify(right, r_port), NONE);
    nothing(g, "readable while masked", left);
    row(g, "read while masked", read(left, both, 4), NONE);
    row(g, "write(port)", unmask(left, l_port), NONE);
    read_row(g, "read after write", left, 4);
    row(g, "write(port) once more", unmask(left, l_port), NONE);
    nothing(g, "readable: the notifies were one", left);
    row(g, "NOTIFY", notify(right, r_port), NONE);
    row(g, "NOTIFY again before the read", notify(right, r_port), NONE);
    read_row(g, "read of 8", left, 8);
    unmask(left, l_port);
    drain(left, l_port);
    row(g, "NOTIFY to the right", notify(left, l_port), NONE);
    read_row(g, "read on the right", right, 4);
    unmask(right, r_port);
    row(g, "NOTIFY of the other file's port", notify(left, r_port), NONE);
    row(g, "UNBIND of the other file's port", unbind(left, r_port), NONE);
    row(g, "write of the other file's port", unmask(left, r_port), NONE);
    row(g, "write(port), not masked", unmask(left, l_port), NONE);
    row(g, "write of port 0xffffffff", unmask(left, 0xffffffff), NONE);
    both[0] = both[1] = l_port;
    row(g, "write of 2 ports", write(left, both, 8), NONE);
    row(g, "write of 7 bytes", write(left, both, 7), NONE);
    row(g, "write of 0 bytes", write(left, both, 0), NONE);
    row(g, "write from NULL", write(left, nowhere, 4), NONE);
    row(g, "read of 0 bytes", read(left, both, 0), NONE);
    row(g, "read of 3 bytes, nothing pending", read(left, both, 3), NONE);
    row(g, "read of 4, nothing pending", read(left, both, 4), NONE);
}

static void buffers(void)
{
    const char *g = "evtchn read";
    unsigned many[2000];
    ssize_t n;

    row(g, "NOTIFY", notify(right, r_port), NONE);
    poll_events(left, 300);
    row(g, "read of 3 bytes, one pending", read(left, many, 3), NONE);
    row(g, "read into NULL, one pending", read(left, nowhere, 4), NONE);
    read_row(g, "read of 4: the event is still there", left, 4);
    unmask(left, l_port);
    row(g, "NOTIFY", notify(right, r_port), NONE);
    poll_events(left, 300);
    n = read(left, many, sizeof many);
    row(g, "read of 8000, one pending", n, NONE);
    row(g, "RESET", ioctl(left, IOCTL_EVTCHN_RESET, 0), NONE);
    unmask(left, l_port);
    row(g, "NOTIFY", notify(right, r_port), NONE);
    poll_events(left, 300);
    row(g, "RESET, one pending", ioctl(left, IOCTL_EVTCHN_RESET, 0), NONE);
    row(g, "read after RESET", read(left, many, 4), NONE);
    row(g, "NOTIFY, still masked", notify(right, r_port), NONE);
    nothing(g, "readable", left);
    row(g, "write(port)", unmask(left, l_port), NONE);
    read_row(g, "read", left, 4);
    unmask(left, l_port);
}

/* Two ports of one file: order of arrival, one read for both. */
static void two_ports(void)
{
    const char *g = "evtchn two ports";
    unsigned second = bind_unbound(left, 0), far = bind_interdomain(right, 0, second), ports[4];
    int n;

    drain(left, second);
    drain(right, far);
    notify(right, r_port);
    poll_events(left, 300);
    notify(right, far);
    usleep(100000);
    n = read(left, ports, 16);
    row(g, "read of 16, two pending", n, "%s,%s", ports[0] == l_port ? "first" : "other", ports[1] == second ? "second" : "other");
    row(g, "read again", read(left, ports, 16), NONE);
    unmask(left, l_port);
    unmask(left, second);
    notify(right, r_port);
    poll_events(left, 300);
    notify(right, far);
    usleep(100000);
    n = read(left, ports, 4);
    row(g, "read of 4, two pending", n, "%s", ports[0] == l_port ? "first" : "other");
    n = read(left, ports, 4);
    row(g, "read of 4, one left", n, "%s", ports[0] == second ? "second" : "other");
    row(g, "UNBIND of a pending port", unbind(left, second), NONE);
    row(g, "NOTIFY towards the unbound port", notify(right, far), NONE);
    row(g, "BIND_INTERDOMAIN to the unbound port", bind_interdomain(right, 0, second), NONE);
    row(g, "UNBIND", unbind(right, far), NONE);
    unmask(left, l_port);
}

static void *late_notify(void *unused)
{
    (void)unused;
    usleep(200000);
    notify(right, r_port);
    return NULL;
}

static void blocking(void)
{
    const char *g = "evtchn blocking";
    pthread_t thread;
    unsigned port = 0;
    int n;

    fcntl(left, F_SETFL, fcntl(left, F_GETFL) & ~O_NONBLOCK);
    pthread_create(&thread, NULL, late_notify, NULL);
    n = read(left, &port, 4);
    row(g, "read waits for the other thread's NOTIFY", n, "%s", port == l_port ? "left" : "other");
    pthread_join(thread, NULL);
    unmask(left, l_port);
    pthread_create(&thread, NULL, late_notify, NULL);
    struct pollfd p = {.fd = left, .events = POLLIN};
    n = poll(&p, 1, 5000);
    row(g, "poll waits for the other thread's NOTIFY", n, "revents=%#x", p.revents);
    pthread_join(thread, NULL);
    read(left, &port, 4);
    unmask(left, l_port);
    fcntl(left, F_SETFL, fcntl(left, F_GETFL) | O_NONBLOCK);
}

static void closing(void)
{
    const char *g = "evtchn close";
    int again;

    notify(right, r_port);
    poll_events(left, 300);
    row(g, "close with an event pending", close(left), NONE);
    row(g, "NOTIFY towards the closed file", notify(right, r_port), NONE);
    row(g, "write(port) on the other side", unmask(right, r_port), NONE);
    again = open_evtchn();
    row(g, "a new file: read", read(again, &(unsigned){0}, 4), NONE);
    row(g, "a new file: BIND_UNBOUND takes the freed port", (unsigned)bind_unbound(again, 0) == l_port, NONE);
    row(g, "UNBIND of the other side", unbind(right, r_port), NONE);
    close(again);
    close(right);
}

static void binding(void)
{
    const char *g = "evtchn binding";
    int e = open_evtchn(), other = open_evtchn(), first, port;

    row(g, "BIND_VIRQ(0), the kernel's timer", bind_virq(e, 0), NONE);
    row(g, "BIND_VIRQ(4)", (port = bind_virq(e, 4)) >= 0 ? 0 : -1, NONE);
    row(g, "BIND_VIRQ(4) again", bind_virq(e, 4), NONE);
    row(g, "BIND_VIRQ(4) from another file", bind_virq(other, 4), NONE);
    row(g, "UNBIND", unbind(e, port), NONE);
    row(g, "BIND_VIRQ(4) after UNBIND", (port = bind_virq(other, 4)) >= 0 ? 0 : -1, NONE);
    row(g, "BIND_VIRQ(23)", bind_virq(e, 23) >= 0 ? 0 : -1, NONE);
    row(g, "BIND_VIRQ(24)", bind_virq(e, 24), NONE);
    row(g, "BIND_VIRQ(0xffffffff)", bind_virq(e, 0xffffffff), NONE);
    row(g, "BIND_UNBOUND(0x7ff0), this domain", bind_unbound(e, DOMID_SELF) >= 0 ? 0 : -1, NONE);
    row(g, "BIND_UNBOUND(999)", bind_unbound(e, NOBODY) >= 0 ? 0 : -1, NONE);
    row(g, "BIND_INTERDOMAIN(0, a virq's port)", bind_interdomain(e, 0, port), NONE);
    row(g, "BIND_INTERDOMAIN(0, port 0)", bind_interdomain(e, 0, 0), NONE);
    first = bind_unbound(e, A);
    row(g, "BIND_INTERDOMAIN(0, a port kept for A)", bind_interdomain(e, 0, first), NONE);
    row(g, "BIND_INTERDOMAIN(A, port 0)", bind_interdomain(e, A, 0), NONE);
    row(g, "BIND_INTERDOMAIN(P, port 1)", bind_interdomain(e, P, 1), NONE);
    for (port = 0; port < 100 && bind_unbound(e, A) >= 0; port++) continue;
    row(g, "100 more BIND_UNBOUND(A)", port, NONE);
    close(e);
    close(other);
    e = open_evtchn();
    row(g, "after close the lowest port is free again", bind_unbound(e, 0), NONE);
    close(e);
}

int main(void)
{
    delivery();
    buffers();
    two_ports();
    blocking();
    closing();
    binding();
    return 0;
}
