/*
 * DM_OP as an unmodified program makes it, through libxendevicemodel, against an echo of the same sizes between two C
 * processes over the same kind of socket. Both are measured here, taking turns every batch, so that what the machine
 * does meanwhile hits both alike.
 *
 *     dm-op-client OPERATION DOMID ROUNDS BATCH [CPU]     OPERATION: nr_vcpus, set_isa_irq_level, track_dirty_vram, ioctl
 *
 * Prints one JSON object a round: {"op":[p50,p99],"echo":[p50,p99]}, microseconds. `ioctl` stands for the floor of any
 * real privcmd: it measures an ioctl that the kernel refuses, in place of the DM op.
 */
#include "bench.h"
#include "protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xendevicemodel.h>

static xendevicemodel_handle *dmod;
static domid_t domid;
static int plain_fd;

static int nr_vcpus(unsigned i)
{
    unsigned int vcpus = 0;

    (void)i;
    return xendevicemodel_nr_vcpus(dmod, domid, &vcpus) < 0 || vcpus == 0 ? -1 : 0;
}

static int set_isa_irq_level(unsigned i)
{
    return xendevicemodel_set_isa_irq_level(dmod, domid, 4, i & 1);
}

/* Two buffers: the operation's, and one for the bitmap of 64 pages. */
static int track_dirty_vram(unsigned i)
{
    unsigned long bitmap = 0;

    (void)i;
    return xendevicemodel_track_dirty_vram(dmod, domid, 0x100, 64, &bitmap);
}

static int plain_ioctl(unsigned i)
{
    (void)i;
    return ioctl(plain_fd, _IO('z', 99)) < 0 && errno == ENOTTY ? 0 : -1;
}

static const struct operation {
    const char *name;
    int (*run)(unsigned i);
    size_t request, reply; /* beside the protocol's own structs */
    unsigned nr_blocks;
} operations[] = {
    { "nr_vcpus", nr_vcpus, 16 + 16 + sizeof(struct xen_dm_op), sizeof(struct xen_dm_op), 3 },
    { "set_isa_irq_level", set_isa_irq_level, 16 + 16 + sizeof(struct xen_dm_op), 0, 3 },
    { "track_dirty_vram", track_dirty_vram, 16 + 32 + sizeof(struct xen_dm_op) + 8, 8, 4 },
    { "ioctl", plain_ioctl, 0, 0, 0 },
};

/* The other side of the echo: as little as can be done. */
static void serve(int fd, size_t reply)
{
    char buffer[4096] = { 0 };

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (recv(fd, buffer, sizeof buffer, 0) > 0)
        if (send(fd, buffer, reply, MSG_NOSIGNAL) < 0)
            break;
    _exit(0);
}

int main(int argc, char **argv)
{
    const struct operation *operation = NULL;
    int pair[2], rounds, batch;
    char buffer[4096] = { 0 };
    uint32_t *op, *echo;
    size_t request, reply;

    if (argc < 5)
        return 2;
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
        if (!strcmp(operations[i].name, argv[1]))
            operation = &operations[i];
    if (!operation)
        return 2;
    domid = (domid_t)atoi(argv[2]);
    rounds = atoi(argv[3]);
    batch = atoi(argv[4]);
    if (argc > 5) {
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET(atoi(argv[5]), &set);
        if (sched_setaffinity(0, sizeof set, &set) < 0)
            die("sched_setaffinity");
    }
    request = sizeof(struct postern_request) + operation->nr_blocks * sizeof(struct postern_block) + operation->request;
    reply = sizeof(struct postern_reply) + operation->reply;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0)
        die("socketpair");
    if (fork() == 0) {
        close(pair[0]);
        serve(pair[1], reply);
    }
    close(pair[1]);
    if (operation->run == plain_ioctl) {
        if ((plain_fd = open("/dev/null", O_RDWR)) < 0)
            die("/dev/null");
    } else if (!(dmod = xendevicemodel_open(NULL, 0))) {
        die("xendevicemodel_open");
    }
    op = calloc((size_t)batch, sizeof *op);
    echo = calloc((size_t)batch, sizeof *echo);
    if (!op || !echo)
        die("calloc");
    for (int round = -2; round < rounds; round++) { /* two rounds to warm up */
        for (int i = 0; i < batch; i++) {
            uint64_t start = now_ns();

            if (operation->run((unsigned)i) < 0)
                die(operation->name);
            op[i] = (uint32_t)(now_ns() - start);
        }
        for (int i = 0; i < batch; i++) {
            uint64_t start = now_ns();

            if (send(pair[0], buffer, request, MSG_NOSIGNAL) < 0 || recv(pair[0], buffer, sizeof buffer, 0) < 0)
                die("echo");
            echo[i] = (uint32_t)(now_ns() - start);
        }
        if (round < 0)
            continue;
        printf("{");
        print_percentiles("op", op, (size_t)batch);
        printf(",");
        print_percentiles("echo", echo, (size_t)batch);
        printf("}\n");
        fflush(stdout);
    }
    return 0;
}
