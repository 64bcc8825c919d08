/* SPDX-License-Identifier: MIT
 *
 * All twenty operations of dm_op, raw: reserved fields, which error wins, and what is left in the caller's block.
 * Needs domains A (HVM, 2 vCPUs), B (HVM, 1 vCPU) and P (PV).
 */
#include "oracle.h"

#define NONE "%s", ""
static int fd;

/* Payload sizes as dm_op.h declares them. */
static const size_t payload[21] = {0, 6, 24, 24, 24, 4, 4, 16, 6, 2, 2, 8, 16, 24, 16, 16, 4, 24, 24, 8, 4};

static struct xen_dm_op op_of(uint32_t number) { return (struct xen_dm_op){.op = number}; }

/* The header's own padding is looked at after the payload was read, whatever the operation. */
static void header_pad(void)
{
    for (int n = 1; n <= 20; n++) {
        struct xen_dm_op op = op_of(n);
        char call[64];

        op.pad = 1;
        snprintf(call, sizeof call, "op=%d header pad=1", n);
        row("op header", call, dm_op1(fd, A, &op, 8 + payload[n]), NONE);
        snprintf(call, sizeof call, "op=%d header pad=1, payload short by 1", n);
        row("op header", call, dm_op1(fd, A, &op, 8 + payload[n] - 1), NONE);
    }
    struct xen_dm_op op = op_of(21);
    op.pad = 1;
    row("op header", "unknown op=21 header pad=1", dm_op1(fd, A, &op, sizeof op), NONE);
    row("op header", "unknown op=21 size 8", dm_op1(fd, A, &op, 8), NONE);
    row("op header", "op on P, size 4097", dm_op1(fd, P, &op, 4097), NONE);
    row("op header", "op on 999, size 4097", dm_op1(fd, NOBODY, &op, 4097), NONE);
    row("op header", "op on 999, size 4", dm_op1(fd, NOBODY, &op, 4), NONE);
}

/* A block with one reserved byte of the payload set and every other byte zero. */
static void reserved(const char *call, uint32_t number, size_t offset)
{
    struct xen_dm_op op = op_of(number);

    ((char *)&op)[8 + offset] = 1;
    row("reserved fields", call, dm_op1(fd, A, &op, sizeof op), NONE);
}

static void reserved_fields(void)
{
    uint64_t bitmap = 0;
    struct xen_dm_op op;

    reserved("create_ioreq_server pad[0]", 1, 1);
    reserved("create_ioreq_server pad[1]", 1, 2);
    reserved("create_ioreq_server pad[2]", 1, 3);
    reserved("get_ioreq_server_info flags bit 8", 2, 3);
    reserved("map_io_range pad", 3, 2);
    reserved("unmap_io_range pad", 4, 2);
    reserved("set_ioreq_server_state pad", 5, 3);
    reserved("destroy_ioreq_server pad", 6, 2);
    op = op_of(XEN_DMOP_track_dirty_vram);
    op.u.track_dirty_vram.pad = 1;
    row("reserved fields", "track_dirty_vram pad, nr=0", dm_op2(fd, A, &op, sizeof op, &bitmap, 8), NONE);
    op = op_of(XEN_DMOP_modified_memory);
    op.u.modified_memory.opaque = 1;
    row("reserved fields", "modified_memory opaque=1, nr_extents=0", dm_op2(fd, A, &op, sizeof op, &bitmap, 8), NONE);
    reserved("set_mem_type pad", 12, 6);
    reserved("inject_event pad0", 13, 7);
    reserved("inject_event pad1", 13, 12);
    reserved("inject_msi pad", 14, 4);
    reserved("map_mem_type opaque=1", 15, 8);
    reserved("relocate_memory pad", 17, 4);
    reserved("pin_memory_cacheattr pad", 18, 20);
    reserved("set_irq_level pad", 19, 5);
    reserved("nr_vcpus vcpus=1 on input", 20, 0);
}

/* Which operations want, allow or ignore a second block. */
static void second_block(void)
{
    static uint64_t block2[8];

    for (int n = 1; n <= 20; n++) {
        struct xen_dm_op op = op_of(n);
        char call[64];

        if (n == XEN_DMOP_create_ioreq_server || n == XEN_DMOP_remote_shutdown) continue; /* they would take effect */
        snprintf(call, sizeof call, "op=%d all zero, 1 block", n);
        row("blocks", call, dm_op1(fd, A, &op, sizeof op), NONE);
        op = op_of(n);
        snprintf(call, sizeof call, "op=%d all zero, 2 blocks", n);
        row("blocks", call, dm_op2(fd, A, &op, sizeof op, block2, sizeof block2), NONE);
    }
}

/* What a call leaves in the block: results only, nothing on failure, nothing past the operation's own size. */
static void copy_out(void)
{
    const char *g = "copy out";
    struct {
        struct xen_dm_op op;
        uint8_t tail[32];
    } b;
    struct xen_dm_op *op = &b.op;
    uint8_t *raw = (void *)&b;
    int rc;

    memset(&b, 0xaa, sizeof b);
    op->op = XEN_DMOP_nr_vcpus;
    op->pad = 0;
    rc = dm_op1(fd, A, &b, sizeof b);
    row(g, "nr_vcpus", rc, "vcpus=%u next=%02x tail=%02x", op->u.nr_vcpus.vcpus, raw[12], b.tail[31]);
    op->u.nr_vcpus.vcpus = 0xaaaa;
    rc = dm_op1(fd, NOBODY, &b, sizeof b);
    row(g, "nr_vcpus of 999", rc, "vcpus=%#x", op->u.nr_vcpus.vcpus);
    op->op = XEN_DMOP_create_ioreq_server;
    memset(&op->u, 0, sizeof op->u);
    op->u.create_ioreq_server.handle_bufioreq = 3;
    op->u.create_ioreq_server.id = 0xabcd;
    rc = dm_op1(fd, A, &b, sizeof b);
    row(g, "create_ioreq_server, refused", rc, "id=%#x", op->u.create_ioreq_server.id);
    op->u.create_ioreq_server.handle_bufioreq = 0;
    rc = dm_op1(fd, A, &b, sizeof b);
    row(g, "create_ioreq_server(OFF)", rc, "id=%#x", op->u.create_ioreq_server.id);
    op->op = XEN_DMOP_get_ioreq_server_info;
    memset(&op->u, 0xee, sizeof op->u);
    op->u.get_ioreq_server_info.id = 0;
    op->u.get_ioreq_server_info.flags = XEN_DMOP_no_gfns;
    rc = dm_op1(fd, A, &b, sizeof b);
    row(g, "get_ioreq_server_info(no_gfns) of OFF", rc, "port=%#x ioreq=%#lx buf=%#lx", op->u.get_ioreq_server_info.bufioreq_port,
        (long)op->u.get_ioreq_server_info.ioreq_gfn, (long)op->u.get_ioreq_server_info.bufioreq_gfn);
    op->op = XEN_DMOP_create_ioreq_server;
    memset(&op->u, 0, sizeof op->u);
    op->u.create_ioreq_server.handle_bufioreq = 1;
    rc = dm_op1(fd, A, &b, 8 + payload[1]);
    row(g, "create_ioreq_server(LEGACY), exact size", rc, "id=%#x", op->u.create_ioreq_server.id);
    op->op = XEN_DMOP_get_ioreq_server_info;
    memset(&op->u, 0xee, sizeof op->u);
    op->u.get_ioreq_server_info.id = 1;
    op->u.get_ioreq_server_info.flags = XEN_DMOP_no_gfns;
    rc = dm_op1(fd, A, &b, sizeof b);
    row(g, "get_ioreq_server_info(no_gfns) of LEGACY", rc, "port=%#x ioreq=%#lx buf=%#lx", op->u.get_ioreq_server_info.bufioreq_port,
        (long)op->u.get_ioreq_server_info.ioreq_gfn, (long)op->u.get_ioreq_server_info.bufioreq_gfn);
    op->op = XEN_DMOP_set_mem_type;
    memset(&op->u, 0, sizeof op->u);
    op->u.set_mem_type.nr = 600;
    op->u.set_mem_type.mem_type = HVMMEM_ram_ro;
    op->u.set_mem_type.first_pfn = 0x100;
    rc = dm_op1(fd, A, &b, sizeof b);
    row(g, "set_mem_type of 600 pages", rc, NONE);
    memset(&op->u, 0, sizeof op->u);
    op->op = XEN_DMOP_modified_memory;
    op->u.modified_memory.nr_extents = 2;
    struct xen_dm_op_modified_memory_extent extents[2] = {{.nr = 1, .first_pfn = 1}, {.nr = 1, .first_pfn = 2}};
    rc = dm_op2(fd, A, &b, sizeof b, extents, sizeof extents);
    row(g, "modified_memory, not log-dirty", rc, "nr_extents=%u opaque=%u", op->u.modified_memory.nr_extents, op->u.modified_memory.opaque);
    op->op = XEN_DMOP_relocate_memory;
    memset(&op->u, 0, sizeof op->u);
    op->u.relocate_memory.size = 1;
    op->u.relocate_memory.src_gfn = 0x900000;
    op->u.relocate_memory.dst_gfn = 0x5000;
    rc = dm_op1(fd, A, &b, sizeof b);
    row(g, "relocate_memory of a hole", rc, "size=%u src=%#lx dst=%#lx", op->u.relocate_memory.size,
        (long)op->u.relocate_memory.src_gfn, (long)op->u.relocate_memory.dst_gfn);
}

/* B is used up here: a shutdown with every field at its largest, then operations on the domain that was shut down. */
static void shut_down(void)
{
    const char *g = "shut down domain";
    struct xen_dm_op op = op_of(XEN_DMOP_remote_shutdown);

    op.u.remote_shutdown.reason = ~0u;
    row(g, "remote_shutdown(~0)", dm_op1(fd, B, &op, 12), NONE);
    row(g, "nr_vcpus", nr_vcpus(fd, B, NULL), NONE);
    op = op_of(XEN_DMOP_create_ioreq_server);
    row(g, "create_ioreq_server", dm_op1(fd, B, &op, sizeof op), "id=%u", 0);
    op = op_of(XEN_DMOP_set_isa_irq_level);
    op.u.set_isa_irq_level.isa_irq = 4;
    op.u.set_isa_irq_level.level = 1;
    row(g, "set_isa_irq_level(4,1)", dm_op1(fd, B, &op, sizeof op), NONE);
}

int main(void)
{
    fd = open_privcmd();
    header_pad();
    reserved_fields();
    copy_out();
    second_block();
    shut_down();
    return 0;
}
