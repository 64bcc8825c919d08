/* SPDX-License-Identifier: MIT
 *
 * Bad user pointers in every place that takes one: each call fails with EFAULT (or does not look), none crashes the
 * process or hangs, and the same file goes on working. Needs domain 1.
 */
#include "check.h"

static int privcmd, evtchn, hypercall;
static char *read_only, *unmapped, *edge; /* edge: the bytes before it can be used, those after it can't */

struct place {
    const char *name;
    void *at;
};
static struct place places[5];
enum { NULL_POINTER, UNMAPPED, IN_KERNEL, WRAPS, READ_ONLY };

static const char *name_of(const char *what, const char *where)
{
    static char text[128];

    snprintf(text, sizeof text, "%s at %s", what, where);
    return text;
}

/* ioctls whose argument is read first of all. */
static void arguments(void)
{
    static const struct { const char *name; unsigned long cmd; bool evtchn; } calls[] = {
        {"DM_OP", IOCTL_PRIVCMD_DM_OP, false},
        {"HYPERCALL", IOCTL_PRIVCMD_HYPERCALL, false},
        {"MMAP", IOCTL_PRIVCMD_MMAP, false},
        {"MMAPBATCH", IOCTL_PRIVCMD_MMAPBATCH, false},
        {"MMAPBATCH_V2", IOCTL_PRIVCMD_MMAPBATCH_V2, false},
        {"MMAP_RESOURCE", IOCTL_PRIVCMD_MMAP_RESOURCE, false},
        {"RESTRICT", IOCTL_PRIVCMD_RESTRICT, false},
        {"BIND_VIRQ", IOCTL_EVTCHN_BIND_VIRQ, true},
        {"BIND_INTERDOMAIN", IOCTL_EVTCHN_BIND_INTERDOMAIN, true},
        {"BIND_UNBOUND_PORT", IOCTL_EVTCHN_BIND_UNBOUND_PORT, true},
        {"UNBIND", IOCTL_EVTCHN_UNBIND, true},
        {"NOTIFY", IOCTL_EVTCHN_NOTIFY, true},
        {"RESTRICT_DOMID", IOCTL_EVTCHN_RESTRICT_DOMID, true},
    };

    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        for (int p = NULL_POINTER; p <= WRAPS; p++)
            check_errno(name_of(calls[i].name, places[p].name),
                        ioctl(calls[i].evtchn ? evtchn : privcmd, calls[i].cmd, places[p].at), EFAULT);
    check_errno("DM_OP argument half out of reach", ioctl(privcmd, IOCTL_PRIVCMD_DM_OP, edge - 8), EFAULT);
    check_errno("MMAPBATCH_V2 argument half out of reach", ioctl(privcmd, IOCTL_PRIVCMD_MMAPBATCH_V2, edge - 8),
                EFAULT);
}

static void dm_op_buffers(void)
{
    struct xen_dm_op op = {.op = XEN_DMOP_nr_vcpus};
    privcmd_dm_op_t call = {.dom = 1, .num = 1};

    for (int p = NULL_POINTER; p <= WRAPS; p++) {
        call.ubufs = places[p].at;
        check_errno(name_of("DM_OP list", places[p].name), ioctl(privcmd, IOCTL_PRIVCMD_DM_OP, &call), EFAULT);
    }
    for (int p = NULL_POINTER; p <= READ_ONLY; p++)
        check_errno(name_of("DM_OP buffer", places[p].name), dm_op(privcmd, 1, places[p].at, sizeof op), EFAULT);
    for (int p = NULL_POINTER; p <= READ_ONLY; p++) {
        privcmd_dm_op_buf_t list[2] = {{.uptr = &op, .size = sizeof op}, {.uptr = places[p].at, .size = 64}};

        call.num = 2;
        call.ubufs = list;
        check_errno(name_of("DM_OP second buffer", places[p].name), ioctl(privcmd, IOCTL_PRIVCMD_DM_OP, &call), EFAULT);
    }
    memcpy(edge - 16, &op, 16);
    check_errno("DM_OP buffer half out of reach", dm_op(privcmd, 1, edge - 16, sizeof op), EFAULT);
    check_errno("DM_OP buffer over the end of the address space", dm_op(privcmd, 1, (void *)-8l, 4096), EFAULT);
    check_errno("DM_OP buffer as large as can be said", dm_op(privcmd, 1, &op, (size_t)-1), E2BIG);
    call.num = 16;
    call.ubufs = (void *)(edge - 2 * sizeof(privcmd_dm_op_buf_t));
    check_errno("DM_OP list half out of reach", ioctl(privcmd, IOCTL_PRIVCMD_DM_OP, &call), EFAULT);
}

/* Pages of the heap and of the stack that the program has made inaccessible are as bad as any. */
static void guarded_pages(void)
{
    struct xen_dm_op op = {.op = XEN_DMOP_nr_vcpus};
    char on_stack[3 * PAGE], *pages[2] = {aligned_alloc(PAGE, 3 * PAGE), on_stack};

    for (int i = 0; i < 2; i++) {
        char *page = (char *)(((uintptr_t)pages[i] + PAGE - 1) & ~(PAGE - 1)) + (i ? 0 : PAGE);
        const char *where = i ? "a guarded page of the stack" : "a guarded page of the heap";

        memcpy(page, &op, sizeof op);
        mprotect(page, PAGE, PROT_READ);
        check_errno(name_of("read-only, DM_OP buffer", where), dm_op(privcmd, 1, page, sizeof op), EFAULT);
        mprotect(page, PAGE, PROT_NONE);
        check_errno(name_of("DM_OP argument", where), ioctl(privcmd, IOCTL_PRIVCMD_DM_OP, page), EFAULT);
        check_errno(name_of("DM_OP buffer", where), dm_op(privcmd, 1, page, sizeof op), EFAULT);
        check_errno(name_of("NOTIFY", where), ioctl(evtchn, IOCTL_EVTCHN_NOTIFY, page), EFAULT);
        mprotect(page, PAGE, PROT_READ | PROT_WRITE);
        check_result(name_of("accessible again", where), dm_op(privcmd, 1, page, sizeof op), 0);
    }
    free(pages[0]);
}

static void mappings(void)
{
    void *area = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, privcmd, 0);
    xen_pfn_t gfns[2] = {1, 0x70000}; /* the second is not populated: an error is written */
    int errors[2];

    for (int p = NULL_POINTER; p <= WRAPS; p++) {
        check_errno(name_of("MMAPBATCH_V2 frames", places[p].name), map_frames(privcmd, 1, area, 2, places[p].at, errors),
                    EFAULT);
        check_errno(name_of("MMAPBATCH_V2 errors", places[p].name), map_frames(privcmd, 1, area, 2, gfns, places[p].at),
                    EFAULT);
    }
    check_errno("MMAPBATCH_V2 errors at a read-only page", map_frames(privcmd, 1, area, 2, gfns, (int *)read_only), EFAULT);
    for (int p = NULL_POINTER; p <= IN_KERNEL; p++)
        check_errno(name_of("MMAPBATCH_V2 address", places[p].name),
                    map_frames(privcmd, 1, places[p].at, 2, gfns, errors), EINVAL);
    check_errno("MMAPBATCH_V2 at memory that is no privcmd area", map_frames(privcmd, 1, read_only, 1, gfns, errors),
                EINVAL);
    for (int p = NULL_POINTER; p <= WRAPS; p++) {
        privcmd_mmapbatch_t batch = {.num = 2, .dom = 1, .addr = (uint64_t)(uintptr_t)area, .arr = places[p].at};
        privcmd_mmap_t map = {.num = 1, .dom = 1, .entry = places[p].at};

        check_errno(name_of("MMAPBATCH frames", places[p].name), ioctl(privcmd, IOCTL_PRIVCMD_MMAPBATCH, &batch), EFAULT);
        check_errno(name_of("MMAP entries", places[p].name), ioctl(privcmd, IOCTL_PRIVCMD_MMAP, &map), EFAULT);
    }
    munmap(area, 4 * PAGE);
}

/* Answers that find no place: the call is refused or its bytes are lost, but the next call gets its own answer. */
static void answers(void)
{
    xen_pfn_t *frames = (xen_pfn_t *)(read_only + 64);
    void *area = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, privcmd, 0);
    privcmd_mmapbatch_t batch = {.num = 1, .dom = 1, .addr = (uint64_t)(uintptr_t)area, .arr = frames};

    check_errno("MMAPBATCH error mark in a read-only page", ioctl(privcmd, IOCTL_PRIVCMD_MMAPBATCH, &batch), EFAULT);
    munmap(area, PAGE);
    check_errno("MMAP_RESOURCE size query in a read-only page",
                ioctl(privcmd, IOCTL_PRIVCMD_MMAP_RESOURCE, read_only + 128), EFAULT);
    check_result("the file after all that", nr_vcpus(privcmd, 1, NULL), 0);
}

static void other_calls(void)
{
    int port = bind_unbound(evtchn, 1);
    uint32_t word = (uint32_t)port;

    for (int p = NULL_POINTER; p <= WRAPS; p++)
        check_errno(name_of("evtchn write", places[p].name), write(evtchn, places[p].at, 4), EFAULT);
    check_result("evtchn write after that", write(evtchn, &word, 4), 4);
    for (int p = NULL_POINTER; p <= WRAPS; p++) {
        privcmd_hypercall_t call = {.op = __HYPERVISOR_memory_op, .arg = {7, (uintptr_t)places[p].at}};

        check_errno(name_of("add_to_physmap argument", places[p].name), ioctl(privcmd, IOCTL_PRIVCMD_HYPERCALL, &call), EFAULT);
    }
    check_errno("a path at NULL", open(places[NULL_POINTER].at, O_RDWR), EFAULT);
    check_errno("a path in an unmapped page", open(unmapped, O_RDWR), EFAULT);
    memcpy(edge - 5, "/dev/", 5); /* and then what is not memory */
    check_errno("a path that runs out of reach", open(edge - 5, O_RDWR), EFAULT);
    strcpy(edge - 10, "/dev/null");
    check("a path that ends where memory does", open(edge - 10, O_RDWR) >= 0, "errno %d", errno);
    check_errno("a path in the kernel half", open(KERNEL, O_RDWR), EFAULT);
    check("mmap of more than there is", mmap(NULL, (size_t)1 << 50, PROT_READ, MAP_SHARED, hypercall, 0) == MAP_FAILED,
          "succeeded");
    check("mmap with a wild hint", mmap(KERNEL, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, privcmd, 0) == MAP_FAILED,
          "succeeded");
    check("mmap of nothing", mmap(NULL, 0, PROT_READ, MAP_SHARED, privcmd, 0) == MAP_FAILED, "succeeded");
}

int main(void)
{
    privcmd_mmap_resource_t query = {.dom = 1, .type = 0, .id = 0};
    xen_pfn_t hole = 0x70000;
    char *pages;
    unsigned vcpus = 0;

    begin();
    privcmd = device("privcmd", O_CLOEXEC);
    evtchn = device("evtchn", O_CLOEXEC);
    hypercall = device("hypercall", O_CLOEXEC);
    pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    read_only = pages;
    edge = pages + 2 * PAGE;
    unmapped = (char *)0x10000000; /* far from where anything is put by itself */
    memcpy(read_only + 64, &hole, sizeof hole);
    memcpy(read_only + 128, &query, sizeof query);
    mprotect(read_only, PAGE, PROT_READ);
    mprotect(edge, PAGE, PROT_NONE); /* not unmapped: the next mmap would take the place */
    places[NULL_POINTER] = (struct place){"NULL", NULL};
    places[UNMAPPED] = (struct place){"an unmapped page", unmapped};
    places[IN_KERNEL] = (struct place){"the kernel half", KERNEL};
    places[WRAPS] = (struct place){"the last page", (void *)-4096l};
    places[READ_ONLY] = (struct place){"a read-only page", read_only};
    arguments();
    dm_op_buffers();
    guarded_pages();
    mappings();
    other_calls();
    answers();
    check_result("nr_vcpus at the end", nr_vcpus(privcmd, 1, &vcpus), 0);
    check("its answer", vcpus == 1, "%u vCPUs", vcpus);
    return end();
}
