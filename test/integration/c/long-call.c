/* SPDX-License-Identifier: MIT
 *
 * The longest calls there are, one after the other; prints how long each took, in microseconds. Needs domain 1 with
 * 256 MiB.
 */
#include "check.h"

#include <time.h>

static xc_interface *xch;
static int privcmd;

static long now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000l + t.tv_nsec / 1000;
}

static void report(const char *what, long started, int ret)
{
    printf("took\t%s\t%ld\t%d\n", what, now() - started, ret);
    fflush(stdout);
}

static void modified(void)
{
    enum { EXTENTS = 10 };
    static struct xen_dm_op_modified_memory_extent extents[256];
    struct xen_dm_op op = {.op = XEN_DMOP_modified_memory, .u.modified_memory = {.nr_extents = EXTENTS}};
    privcmd_dm_op_buf_t list[2] = {{.uptr = &op, .size = sizeof op}, {.uptr = extents, .size = sizeof extents}};
    privcmd_dm_op_t call = {.dom = 1, .num = 2, .ubufs = list};
    long started;

    for (int i = 0; i < EXTENTS; i++) extents[i] = (struct xen_dm_op_modified_memory_extent){.nr = 0xfe000, .first_pfn = 0};
    started = now();
    report("modified_memory", started, ioctl(privcmd, IOCTL_PRIVCMD_DM_OP, &call));
}

static void mem_type(unsigned type)
{
    struct xen_dm_op op = {.op = XEN_DMOP_set_mem_type};
    long started = now();

    op.u.set_mem_type.mem_type = (hvmmem_type_t)type;
    op.u.set_mem_type.first_pfn = 0;
    op.u.set_mem_type.nr = 0xff00;
    report("set_mem_type", started, dm_op(privcmd, 1, &op, sizeof op));
}

static void relocate(uint64_t from, uint64_t to)
{
    struct xen_dm_op op = {.op = XEN_DMOP_relocate_memory};
    long started = now();

    op.u.relocate_memory.size = 0xff00;
    op.u.relocate_memory.src_gfn = from;
    op.u.relocate_memory.dst_gfn = to;
    report("relocate_memory", started, dm_op(privcmd, 1, &op, sizeof op));
}

static void populate(void)
{
    enum { N = 32768 };
    static xen_pfn_t gfns[N];
    long started;

    for (int i = 0; i < N; i++) gfns[i] = 0x40000 + (xen_pfn_t)i;
    xc_domain_setmaxmem(xch, 1, 1 << 20);
    started = now();
    report("populate_physmap", started, xc_domain_populate_physmap_exact(xch, 1, N, 0, 0, gfns));
    started = now();
    report("decrease_reservation", started, xc_domain_decrease_reservation_exact(xch, 1, N, 0, gfns));
}

int main(void)
{
    begin();
    xch = xc_interface_open(NULL, NULL, 0);
    privcmd = device("privcmd", 0);
    report("log-dirty on", now(), xc_shadow_control(xch, 1, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL, 0));
    modified();
    report("log-dirty off", now(), xc_shadow_control(xch, 1, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0));
    mem_type(HVMMEM_ram_ro);
    mem_type(HVMMEM_ram_rw);
    relocate(0, 0x20000);
    relocate(0x20000, 0);
    populate();
    return end();
}
