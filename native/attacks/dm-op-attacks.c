/*
 * The attacks of `postern audit` that make sense on a live interface, made by a real process on its own restricted
 * /dev/xen/privcmd. It knows the interface by heart and includes no Xen header: any machine with a C compiler can run it.
 *
 *     dm-op-attacks A B           attacks from a file restricted to domain A (2 vCPUs); B (1 vCPU) is the victim
 *     dm-op-attacks honest B      one honest call, to see that everything still works
 *     dm-op-attacks child FD B    what an exec'd program does with a file it was left
 *
 * One line an attack: id, stopped or through, and why, with tabs between. The exit status is 0 where all were stopped.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct buf { uint64_t uptr, size; };
struct dm_op_arg { uint16_t dom, num; uint64_t ubufs; };
struct hypercall { uint64_t op, arg[5]; };
struct mmap_resource { uint16_t dom; uint32_t type, id, idx; uint64_t num, addr; };
struct mmapbatch_v2 { uint32_t num; uint16_t dom; uint64_t addr, arr, err; };

#define IO(nr, size) _IOC(_IOC_NONE, 'P', nr, size)
#define HYPERCALL IO(0, sizeof(struct hypercall))
#define MMAPBATCH_V2 IO(4, sizeof(struct mmapbatch_v2))
#define DM_OP IO(5, sizeof(struct dm_op_arg))
#define RESTRICT IO(6, sizeof(uint16_t))
#define MMAP_RESOURCE IO(7, sizeof(struct mmap_resource))

#define CREATE_IOREQ_SERVER 1
#define MAP_IO_RANGE 3
#define DESTROY_IOREQ_SERVER 6
#define TRACK_DIRTY_VRAM 7
#define MODIFIED_MEMORY 11
#define REMOTE_SHUTDOWN 16
#define NR_VCPUS 20

#define KERNEL 0xffff888000000000ul
#define USER_END 0x7ffffffff000ul
#define RACE_ROUNDS 300

struct op { uint32_t op, pad; uint32_t u[6]; };

static int fd;
static uint16_t A, B;
static int failures;
static uint8_t *page; /* two pages: blocks, with a guard behind what is used */

static void report(const char *id, int stopped, const char *why)
{
    printf("%s\t%s\t%s\n", id, stopped ? "stopped" : "through", why);
    if (!stopped)
        failures++;
}

/* Stopped where it failed with one of up to three errnos. */
static void refused(const char *id, int ret, int e1, int e2, int e3)
{
    int e = errno;

    if (ret < 0 && (e == e1 || e == e2 || e == e3))
        report(id, 1, strerrorname_np(e));
    else
        report(id, 0, ret < 0 ? strerrorname_np(e) : "it succeeded");
}

static int call_on(int file, uint16_t dom, uint16_t num, const struct buf *bufs)
{
    struct dm_op_arg arg = { .dom = dom, .num = num, .ubufs = (uintptr_t)bufs };

    return ioctl(file, DM_OP, &arg);
}

static int dm_op(uint16_t dom, const void *op, uint64_t size, uint64_t block, uint64_t block_size)
{
    struct buf bufs[2] = { { (uintptr_t)op, size }, { block, block_size } };

    return call_on(fd, dom, block_size || block ? 2 : 1, bufs);
}

static struct op track(uint32_t nr)
{
    return (struct op){ .op = TRACK_DIRTY_VRAM, .u = { nr } };
}

static int vcpus(int file, uint16_t dom)
{
    struct op op = { .op = NR_VCPUS };
    struct buf buf = { (uintptr_t)&op, sizeof op };

    return call_on(file, dom, 1, &buf) < 0 ? -1 : (int)op.u[0];
}

/* ---- addresses ---- */

static void addresses(void)
{
    struct op t = track(512), n = { .op = NR_VCPUS }, m = { .op = MODIFIED_MEMORY, .u = { 4 } };
    struct dm_op_arg arg = { .dom = A, .num = 1, .ubufs = KERNEL };
    uint8_t *top = mmap((void *)(USER_END - 4096), 4096, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    uint64_t end = top == MAP_FAILED ? (uintptr_t)page + 8192 : USER_END;

    refused("kernel-struct", dm_op(A, (void *)KERNEL, 32, 0, 0), EFAULT, 0, 0);
    refused("kernel-argument", ioctl(fd, DM_OP, &arg), EFAULT, 0, 0);
    refused("kernel-ioctl-argument", ioctl(fd, DM_OP, (void *)KERNEL), EFAULT, 0, 0);
    refused("kernel-bitmap", dm_op(A, &t, 32, KERNEL, 64), EFAULT, 0, 0);
    refused("kernel-extents", dm_op(A, &m, 32, KERNEL, 64), EFAULT, 0, 0);
    refused("wraps-to-user", dm_op(A, &t, 32, KERNEL, -KERNEL + 64), EFAULT, E2BIG, 0);
    refused("largest-size", dm_op(A, &t, 32, end - 8, UINT64_MAX), EFAULT, E2BIG, 0);
    refused("straddles-split", dm_op(A, &t, 32, end - 8, 64), EFAULT, 0, 0);
    n.op = NR_VCPUS;
    memcpy((void *)(end - 12), &n, 12);
    refused("struct-straddles-split", dm_op(A, (void *)(end - 12), 32, 0, 0), EFAULT, 0, 0);
    if (top != MAP_FAILED)
        munmap(top, 4096);
}

/* ---- races ---- */

static struct dm_op_arg raced;
static struct buf raced_bufs[2];
static volatile int racing;

static void *flip_handle(void *unused)
{
    volatile uint64_t *word = &raced_bufs[1].uptr;

    for (int i = 0; racing; i++)
        *word = i & 1 ? (uintptr_t)page : KERNEL;
    return unused;
}

static void *flip_size(void *unused)
{
    volatile uint64_t *word = &raced_bufs[1].size;

    for (int i = 0; racing; i++)
        *word = i & 1 ? 8 : UINT64_MAX;
    return unused;
}

static void *flip_domid(void *unused)
{
    volatile uint16_t *word = &raced.dom;

    for (int i = 0; racing; i++)
        *word = i & 1 ? A : B;
    return unused;
}

static void *flip_mapping(void *unused)
{
    while (racing) {
        munmap(page, 4096);
        usleep(50);
        mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        usleep(50);
    }
    return unused;
}

/* Calls while the other thread changes things: each may fail with one of two errnos, none may do more than it should. */
static void race(const char *id, void *(*thread)(void *), struct op start, int e1, int e2)
{
    const char *wrong = NULL;
    int succeeded = 0, failed = 0;
    pthread_t other;
    char why[64];

    memset(page + 4096, 0x5a, 4096);
    racing = 1;
    pthread_create(&other, NULL, thread, NULL);
    for (int i = 0; i < RACE_ROUNDS && !wrong; i++) {
        struct op op = start;

        raced = (struct dm_op_arg){ .dom = A, .num = 2, .ubufs = (uintptr_t)raced_bufs };
        raced_bufs[0] = (struct buf){ (uintptr_t)&op, sizeof op };
        raced_bufs[1] = (struct buf){ (uintptr_t)page, 8 };
        if (ioctl(fd, DM_OP, &raced) == 0) {
            succeeded++;
            if (op.op == NR_VCPUS && op.u[0] != 2)
                wrong = "the other domain answered";
        } else if (errno == e1 || errno == e2) {
            failed++;
        } else {
            wrong = strerrorname_np(errno);
        }
    }
    racing = 0;
    pthread_join(other, NULL);
    for (int i = 0; i < 4096; i++)
        if (page[4096 + i] != 0x5a)
            wrong = "memory behind the block changed";
    snprintf(why, sizeof why, "%d calls worked, %d were refused", succeeded, failed);
    report(id, !wrong, wrong ? wrong : why);
}

static void races(void)
{
    race("swap-handle", flip_handle, track(64), EFAULT, EFAULT);
    race("swap-size", flip_size, track(64), EFAULT, E2BIG);
    race("swap-domid", flip_domid, (struct op){ .op = NR_VCPUS }, EPERM, EPERM);
    race("unmap-in-call", flip_mapping, track(64), EFAULT, EFAULT);
    mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

/* ---- memory that has gone ---- */

static void stale(const char *self)
{
    struct op t = track(64);
    void *gone = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int status = 0;
    pid_t child;

    munmap(gone, 4096);
    refused("stale-unmap", dm_op(A, &t, 32, (uintptr_t)gone, 8), EFAULT, 0, 0);
    fflush(stdout);
    child = fork();
    if (child == 0)
        _exit(vcpus(fd, B) < 0 ? errno : 0);
    waitpid(child, &status, 0);
    report("forked-file", WEXITSTATUS(status) == EPERM, WEXITSTATUS(status) ? strerrorname_np(WEXITSTATUS(status)) : "the child's call worked");
    child = fork();
    if (child == 0) {
        char file[16], other[16];

        snprintf(file, sizeof file, "%d", fd);
        snprintf(other, sizeof other, "%u", B);
        execl(self, self, "child", file, other, (char *)NULL);
        _exit(2);
    }
    waitpid(child, &status, 0);
    report("stale-exec", WEXITSTATUS(status) == EPERM, WEXITSTATUS(status) ? strerrorname_np(WEXITSTATUS(status)) : "the exec'd program's call worked");
}

/* ---- domids and restriction ---- */

static void domids(void)
{
    static const uint16_t others[] = { 0, 999, 0x7ff0, 0x7ff1, 0x7ff2, 0x7ff3, 0x7ff4, 0x7fff, 0xffff };
    struct op down = { .op = REMOTE_SHUTDOWN, .u = { 3 } };
    struct hypercall version = { .op = 17 };
    struct mmap_resource resource = { .dom = B };
    uint64_t gfn = 0;
    int32_t err = 0;
    void *area = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct mmapbatch_v2 batch = { 1, B, (uintptr_t)area, (uintptr_t)&gfn, (uintptr_t)&err };
    const char *through = NULL;
    uint16_t none = 0x7ff4;

    refused("other-domid", dm_op(B, &down, 32, 0, 0), EPERM, 0, 0);
    for (unsigned i = 0; i < sizeof others / sizeof others[0]; i++)
        if (vcpus(fd, others[i]) >= 0 || errno != EPERM)
            through = "a domid was not refused with EPERM";
    report("domid-sweep", !through, through ? through : "EPERM");
    refused("restrict-again", ioctl(fd, RESTRICT, &B), EINVAL, 0, 0);
    refused("restrict-to-nobody", ioctl(fd, RESTRICT, &none), EINVAL, 0, 0);
    refused("plain-hypercall", ioctl(fd, HYPERCALL, &version), EPERM, 0, 0);
    refused("map-other-domain", ioctl(fd, MMAPBATCH_V2, &batch), EPERM, 0, 0);
    refused("map-other-resource", ioctl(fd, MMAP_RESOURCE, &resource), EPERM, 0, 0);
}

/* ---- counts and sizes ---- */

static void counts(void)
{
    struct op t = track(512), n = { .op = NR_VCPUS };
    struct buf bufs[17];
    int ret;

    for (int i = 0; i < 17; i++)
        bufs[i] = (struct buf){ (uintptr_t)page, 64 };
    bufs[0] = (struct buf){ (uintptr_t)&t, 32 };
    ret = call_on(fd, A, 0, NULL);
    report("count-zero", ret <= 0, ret == 0 ? "nothing happens" : "refused");
    refused("missing-block", call_on(fd, A, 1, bufs), EINVAL, 0, 0);
    refused("count-3", call_on(fd, A, 3, bufs), E2BIG, 0, 0);
    refused("count-16", call_on(fd, A, 16, bufs), E2BIG, 0, 0);
    refused("count-17", call_on(fd, A, 17, bufs), E2BIG, 0, 0);
    refused("count-largest", call_on(fd, A, 0xffff, bufs), E2BIG, 0, 0);
    memset(page, 0, 4096);
    refused("size-zero", dm_op(A, page, 0, 0, 0), EFAULT, EINVAL, 0);
    refused("size-zero-unaligned", dm_op(A, page + 100, 0, 0, 0), EFAULT, 0, 0);
    refused("short-struct", dm_op(A, &n, 11, 0, 0), EFAULT, 0, 0);
    refused("size-large", dm_op(A, page, 4097, 0, 0), E2BIG, 0, 0);
    refused("size-largest", dm_op(A, page, UINT64_MAX, 0, 0), E2BIG, 0, 0);
}

/* ---- leaks ---- */

static void leaks(void)
{
    struct op t = track(512), small = track(64), n = { .op = NR_VCPUS };
    int first, second, wrong = 0;

    memset(page, 0xa5, 4096);
    memcpy(page, &n, 12);
    if (dm_op(A, page, 12, 0, 0) < 0)
        wrong = 1;
    for (int i = 12; i < 4096; i++)
        wrong |= page[i] != 0xa5;
    report("uninitialised-results", !wrong, wrong ? "bytes behind the struct changed" : "nothing but the result is written");
    dm_op(A, &small, 32, (uintptr_t)page, 8);
    dm_op(A, &t, 32, 0, 0);
    first = errno;
    dm_op(A, &t, 32, (uintptr_t)page, 128);
    dm_op(A, &t, 32, 0, 0);
    second = errno;
    report("errno-of-missing", first == second, strerrorname_np(first));
    dm_op(A, &t, 32, KERNEL, 64);
    first = errno;
    dm_op(A, &t, 32, 0xffffffffff000000ul, 64);
    second = errno;
    report("errno-of-mapping", first == second, strerrorname_np(first));
}

/* ---- the rest ---- */

static void others(void)
{
    struct op create = { .op = CREATE_IOREQ_SERVER }, range = { .op = MAP_IO_RANGE, .u = { 0, 0, 0x2000, 0, 0x1000, 0 } };
    struct op destroy = { .op = DESTROY_IOREQ_SERVER }, t = track(0x8000), off = track(0);
    uint16_t id;
    int ret;

    if (dm_op(A, &create, 32, 0, 0) == 0) {
        memcpy(&id, (uint8_t *)&create + 12, 2); /* behind handle_bufioreq and its padding */
        memcpy(range.u, &id, 2);
        memcpy(destroy.u, &id, 2);
        refused("inverted-range", dm_op(A, &range, 32, 0, 0), EINVAL, 0, 0);
        dm_op(A, &destroy, 32, 0, 0);
    } else {
        report("inverted-range", 0, "there was no ioreq server to try it on");
    }
    ret = dm_op(A, &t, 32, (uintptr_t)page, 4096);
    report("long-operation", ret == 0, ret == 0 ? "it ends, and others were served" : strerrorname_np(errno));
    dm_op(A, &off, 32, (uintptr_t)page, 8);
}

static int restricted(uint16_t dom)
{
    fd = open("/dev/xen/privcmd", O_RDWR);
    if (fd < 0 || ioctl(fd, RESTRICT, &dom) < 0) {
        perror("dm-op-attacks: /dev/xen/privcmd");
        return -1;
    }
    return 0;
}

/* As a device model does once it has what it needs. */
static void drop_privileges(void)
{
    if (geteuid() != 0)
        return;
    if (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0) {
        perror("dm-op-attacks: dropping privileges");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3 && strcmp(argv[1], "honest") == 0) {
        struct op t = track(64);

        B = (uint16_t)atoi(argv[2]);
        page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (restricted(B) < 0 || vcpus(fd, B) != 1 || dm_op(B, &t, 32, (uintptr_t)page, 8) != 0)
            return 1;
        return page[0] == 0xff ? 0 : 1;
    }
    if (argc == 4 && strcmp(argv[1], "child") == 0) {
        fd = atoi(argv[2]);
        return vcpus(fd, (uint16_t)atoi(argv[3])) < 0 ? errno : 0;
    }
    if (argc != 3) {
        fprintf(stderr, "usage: dm-op-attacks A B\n");
        return 2;
    }
    A = (uint16_t)atoi(argv[1]);
    B = (uint16_t)atoi(argv[2]);
    page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (restricted(A) < 0)
        return 2;
    stale(argv[0]); /* first: a program with no rights left may not reach the host at all, which would prove little */
    drop_privileges();
    addresses();
    races();
    domids();
    counts();
    leaks();
    others();
    return failures ? 1 : 0;
}
