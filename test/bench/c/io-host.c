/*
 * A Xen host of one thread in C, as far as one guest's port accesses need one: fills the slot of vCPU 0, rings the device
 * model, waits for its answer. It plays against a device model that the real host has brought up, with the real host's
 * own descriptors, while that host is stopped.
 *
 *     io-host PORT     descriptors: 0 and 1 commands and answers, 3 the ioreq server's pages, 4 the event channel file's
 *                      connection, 5 the doorbell that the device model rings; PORT is the device model's own
 *
 * A command is `MODE COUNT`; its answer is one JSON object, {"io":[p50,p99]} in microseconds. MODE `same` waits as the
 * host does: for everything, in epoll, each event taken as it comes. MODE `least` waits for the doorbell alone, then
 * takes what the device model has written to its connection: the fewest calls that the interface allows a process.
 */
#include "bench.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xen/hvm/ioreq.h>

enum { PAGES = 3, CONNECTION = 4, DOORBELL = 5 };
#define SCRATCH_PORT 0x3ff /* the serial port's scratch register */

static volatile ioreq_t *slot;
static uint32_t port;
static int epoll;

/* Takes what the device model unmasks. */
static void take_unmasked(void)
{
    uint32_t ports[16];

    while (recv(CONNECTION, ports, sizeof ports, MSG_DONTWAIT) < 0)
        if (errno != EINTR)
            break;
}

static int answered(void)
{
    uint8_t flags = __atomic_load_n((uint8_t *)slot + 30, __ATOMIC_ACQUIRE);

    return (flags & 0xf) == STATE_IORESP_READY;
}

static void wait_same(void)
{
    struct epoll_event events[64];

    while (!answered()) {
        int n = epoll_wait(epoll, events, 64, -1);

        for (int i = 0; i < n; i++)
            if (events[i].data.fd == CONNECTION)
                take_unmasked();
    }
}

static void wait_least(void)
{
    struct pollfd wait = { .fd = DOORBELL, .events = POLLIN };
    uint64_t rings;

    while (!answered())
        if (poll(&wait, 1, -1) > 0 && read(DOORBELL, &rings, sizeof rings) < 0 && errno != EAGAIN)
            die("doorbell");
    take_unmasked();
}

/* One access; the answer is returned. */
static uint64_t access_port(int dir, uint64_t data, void (*wait)(void))
{
    uint64_t answer;
    uint8_t flags = (uint8_t)(STATE_IOREQ_READY | dir << 5);

    slot->addr = SCRATCH_PORT;
    slot->data = data;
    slot->count = 1;
    slot->size = 1;
    slot->type = IOREQ_TYPE_PIO;
    __atomic_store_n((uint8_t *)slot + 30, flags, __ATOMIC_SEQ_CST);
    if (send(CONNECTION, &port, sizeof port, MSG_NOSIGNAL) != sizeof port)
        die("send");
    wait();
    answer = slot->data;
    __atomic_store_n((uint8_t *)slot + 30, (uint8_t)(flags & 0xf0), __ATOMIC_SEQ_CST);
    return answer & 0xff;
}

static void play(void (*wait)(void), size_t count)
{
    uint32_t *ns = calloc(count, sizeof *ns);

    if (!ns)
        die("calloc");
    access_port(IOREQ_WRITE, 0x5a, wait);
    for (size_t i = 0; i < count; i++) {
        uint64_t start = now_ns();

        if (access_port(IOREQ_READ, 0, wait) != 0x5a) {
            fprintf(stderr, "io-host: the register does not hold what was written to it\n");
            exit(1);
        }
        ns[i] = (uint32_t)(now_ns() - start);
    }
    printf("{");
    print_percentiles("io", ns, count);
    printf("}\n");
    fflush(stdout);
    free(ns);
}

int main(int argc, char **argv)
{
    struct epoll_event doorbell = { .events = EPOLLIN | EPOLLET, .data.fd = DOORBELL };
    struct epoll_event connection = { .events = EPOLLIN, .data.fd = CONNECTION };
    char line[64], mode[16];
    size_t count;
    void *pages;

    if (argc < 2)
        return 2;
    port = (uint32_t)strtoul(argv[1], NULL, 0);
    pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, PAGES, 0);
    if (pages == MAP_FAILED)
        die("mmap");
    slot = (volatile ioreq_t *)((char *)pages + 4096);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, DOORBELL, &doorbell) < 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, CONNECTION, &connection) < 0)
        die("epoll");
    while (fgets(line, sizeof line, stdin))
        if (sscanf(line, "%15s %zu", mode, &count) == 2)
            play(strcmp(mode, "least") ? wait_same : wait_least, count);
    return 0;
}
