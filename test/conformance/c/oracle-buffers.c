/* SPDX-License-Identifier: MIT
 *
 * Where a DM_OP's structures may lie: what is not the caller's to read and write is EFAULT, before anything takes effect.
 * Needs domains A (HVM, 2 vCPUs), B (HVM, 1 vCPU) and P (PV).
 */
#include "oracle.h"

#define NONE "%s", ""
#define G "buffers"
static int fd;
static const struct xen_dm_op in_text = {.op = XEN_DMOP_nr_vcpus};
static struct xen_dm_op in_data = {.op = XEN_DMOP_nr_vcpus};

static void *page_of(int prot, int flags, int file)
{
    struct xen_dm_op *op = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, flags, file, 0);

    need(op != MAP_FAILED, "mmap");
    *op = (struct xen_dm_op){.op = XEN_DMOP_nr_vcpus};
    mprotect(op, PAGE, prot);
    return op;
}

static void ask(const char *call, void *block)
{
    row(G, call, dm_op1(fd, A, block, sizeof(struct xen_dm_op)), NONE);
}

static void kinds_of_memory(void)
{
    struct xen_dm_op on_stack = {.op = XEN_DMOP_nr_vcpus}, *heap = malloc(sizeof *heap);
    int anon = MAP_PRIVATE | MAP_ANONYMOUS, shared = MAP_SHARED | MAP_ANONYMOUS;
    int memfd = memfd_create("oracle", 0);
    xen_pfn_t gfn = 0x10;
    void *p;

    *heap = on_stack;
    ask("stack", &on_stack);
    ask("heap", heap);
    ask("data segment", &in_data);
    ask("constant in the program", (void *)&in_text);
    ask("anonymous private page", page_of(PROT_READ | PROT_WRITE, anon, -1));
    ask("anonymous shared page", page_of(PROT_READ | PROT_WRITE, shared, -1));
    ask("read-only page", page_of(PROT_READ, anon, -1));
    ask("read-only shared page", page_of(PROT_READ, shared, -1));
    ask("page without access", page_of(PROT_NONE, anon, -1));
    ask("write-only page", page_of(PROT_WRITE, anon, -1));
    ask("executable page", page_of(PROT_READ | PROT_WRITE | PROT_EXEC, anon, -1));
    need(ftruncate(memfd, 2 * PAGE) == 0, "ftruncate");
    ask("shared file", page_of(PROT_READ | PROT_WRITE, MAP_SHARED, memfd));
    ask("private file", page_of(PROT_READ | PROT_WRITE, MAP_PRIVATE, memfd));
    p = page_of(PROT_READ | PROT_WRITE, MAP_SHARED, memfd);
    need(ftruncate(memfd, 0) == 0, "ftruncate");
    ask("shared file, truncated", p);
    p = page_of(PROT_READ | PROT_WRITE, anon, -1);
    munmap(p, PAGE);
    ask("unmapped page", p);
    ask("address 1", (void *)1);
    ask("address ~0", (void *)~0ul);
    ask("non-canonical address", (void *)0x0001000000000000ul);
    ask("first kernel address", (void *)0xffff800000000000ul);
    ask("hypervisor address", (void *)0xffff830000000000ul);

    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    need(fmem != NULL, "xenforeignmemory_open");
    p = xenforeignmemory_map(fmem, A, PROT_READ | PROT_WRITE, 1, &gfn, NULL);
    need(p != NULL, "mapping A");
    *(struct xen_dm_op *)p = on_stack;
    ask("foreign page", p);
    xenforeignmemory_unmap(fmem, p, 1);
    xenforeignmemory_close(fmem);
    p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ask("privcmd area, nothing mapped", p);
}

static unsigned next_id(void)
{
    struct xen_dm_op op = {.op = XEN_DMOP_create_ioreq_server};

    return dm_op1(fd, B, &op, sizeof op) ? 0xffff : op.u.create_ioreq_server.id;
}

/* A block whose operation lies in its first page, but whose size reaches into the next. */
static void straddling(void)
{
    char *two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct xen_dm_op *op = (void *)(two + PAGE - 16);

    *(uint32_t *)op = XEN_DMOP_nr_vcpus;
    row(G, "size reaches into an untouched page", dm_op1(fd, A, op, 32), NONE);
    mprotect(two + PAGE, PAGE, PROT_READ);
    row(G, "size reaches into a read-only page", dm_op1(fd, A, op, 32), NONE);
    row(G, "size ends before the read-only page", dm_op1(fd, A, op, 16), NONE);
    munmap(two + PAGE, PAGE);
    row(G, "size reaches into an unmapped page", dm_op1(fd, A, op, 32), NONE);
    *(uint32_t *)op = XEN_DMOP_create_ioreq_server;
    memset((char *)op + 8, 0, 8);
    row(G, "create_ioreq_server, size reaches into an unmapped page", dm_op1(fd, B, op, 32), NONE);
}

/* The refusal comes first: an operation whose block can't be written back does not happen at all. */
static void no_effect(void)
{
    struct xen_dm_op *op = page_of(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    xen_pfn_t gfn = 0x20;
    int err;

    memset(op, 0, sizeof *op);
    op->op = XEN_DMOP_create_ioreq_server;
    mprotect(op, PAGE, PROT_READ);
    row(G, "create_ioreq_server in a read-only page", dm_op1(fd, B, op, sizeof *op), NONE);
    row(G, "...the next server's id", 0, "id=%u", next_id());

    mprotect(op, PAGE, PROT_READ | PROT_WRITE);
    memset(op, 0, sizeof *op);
    op->op = XEN_DMOP_relocate_memory;
    op->u.relocate_memory.size = 1;
    op->u.relocate_memory.src_gfn = gfn;
    op->u.relocate_memory.dst_gfn = 0x6000;
    mprotect(op, PAGE, PROT_READ);
    row(G, "relocate_memory in a read-only page", dm_op1(fd, B, op, sizeof *op), NONE);
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    need(fmem != NULL, "xenforeignmemory_open");
    xenforeignmemory_map(fmem, B, PROT_READ, 1, &gfn, &err);
    row(G, "...the page is where it was", 0, "err=%d", err);
}

static void second_block(void)
{
    struct xen_dm_op op = {.op = XEN_DMOP_modified_memory};
    struct xen_dm_op_modified_memory_extent *e = page_of(PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    uint64_t bitmap = 0;

    op.u.modified_memory.nr_extents = 1;
    row(G, "modified_memory: extents in a read-only page", dm_op2(fd, A, &op, sizeof op, e, sizeof *e), NONE);
    row(G, "modified_memory: extents at NULL", dm_op2(fd, A, &op, sizeof op, NULL, sizeof *e), NONE);
    row(G, "modified_memory: extents in kernel half",
        dm_op2(fd, A, &op, sizeof op, (void *)0xffff800000000000ul, sizeof *e), NONE);
    row(G, "modified_memory: extents of 4097 bytes", dm_op2(fd, A, &op, sizeof op, e, PAGE + 1), NONE);
    op = (struct xen_dm_op){.op = XEN_DMOP_nr_vcpus};
    int rc = dm_op2(fd, A, &op, sizeof op, NULL, 8);
    row(G, "nr_vcpus: unused second block at NULL", rc, "vcpus=%u", op.u.nr_vcpus.vcpus);
    row(G, "nr_vcpus: unused second block of 4097 bytes", dm_op2(fd, A, &op, sizeof op, &bitmap, PAGE + 1), NONE);
    op = (struct xen_dm_op){.op = XEN_DMOP_track_dirty_vram};
    op.u.track_dirty_vram.nr = 64;
    row(G, "track_dirty_vram: bitmap in a read-only page", dm_op2(fd, A, &op, sizeof op, e, 8), NONE);
    row(G, "track_dirty_vram: bitmap inside the first block", dm_op2(fd, A, &op, sizeof op, (char *)&op + 32 - 8, 8), NONE);
}

static void lists(void)
{
    char *two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct xen_dm_op op = {.op = XEN_DMOP_nr_vcpus};
    privcmd_dm_op_buf_t buf = {.uptr = &op, .size = sizeof op}, *at_end = (void *)(two + PAGE - sizeof buf);
    privcmd_dm_op_t call = {.dom = A, .num = 1};

    call.ubufs = NULL;
    row(G, "list at NULL", ioctl(fd, IOCTL_PRIVCMD_DM_OP, &call), NONE);
    call.ubufs = (void *)0xffff800000000000ul;
    row(G, "list in kernel half", ioctl(fd, IOCTL_PRIVCMD_DM_OP, &call), NONE);
    munmap(two + PAGE, PAGE);
    *at_end = buf;
    call.ubufs = at_end;
    row(G, "list up to the end of a page", ioctl(fd, IOCTL_PRIVCMD_DM_OP, &call), NONE);
    call.num = 2;
    row(G, "list across the end of a page", ioctl(fd, IOCTL_PRIVCMD_DM_OP, &call), NONE);
    call.num = 1;
    call.ubufs = (void *)((char *)at_end + 8);
    row(G, "list entry across the end of a page", ioctl(fd, IOCTL_PRIVCMD_DM_OP, &call), NONE);
    privcmd_dm_op_t *arg = (void *)(two + PAGE - 8);
    row(G, "argument across the end of a page", ioctl(fd, IOCTL_PRIVCMD_DM_OP, arg), NONE);
    mprotect(two, PAGE, PROT_READ);
    call.ubufs = at_end;
    row(G, "list in a read-only page", ioctl(fd, IOCTL_PRIVCMD_DM_OP, &call), NONE);
    row(G, "argument in kernel half", ioctl(fd, IOCTL_PRIVCMD_DM_OP, (void *)0xffff800000000000ul), NONE);
    char unaligned[sizeof op + 1];
    memcpy(unaligned + 1, &op, sizeof op);
    row(G, "block at an odd address", dm_op1(fd, A, unaligned + 1, sizeof op), NONE);
}

int main(void)
{
    fd = open_privcmd();
    kinds_of_memory();
    straddling();
    no_effect();
    second_block();
    lists();
    return 0;
}
