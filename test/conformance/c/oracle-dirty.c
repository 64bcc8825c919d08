/* SPDX-License-Identifier: MIT
 *
 * What is dirty: log-dirty mode, modified_memory's effect on its bitmap, and track_dirty_vram beside it.
 * Needs domains A (HVM, 2 vCPUs), B (HVM, 1 vCPU) and P (PV). No vCPU runs, so only the toolstack dirties pages.
 */
#include "oracle.h"

#include <xenctrl_compat.h>

#define NONE "%s", ""
static xc_interface *xch;
static xendevicemodel_handle *dm;

enum { PAGES = 0x4000 };

/* The log-dirty bitmap's first word and how many bits are set in all of it. */
static void bitmap(const char *call, unsigned op)
{
    DECLARE_HYPERCALL_BUFFER(unsigned long, map);
    xc_shadow_op_stats_t stats = {0, 0};
    long rc;
    int bits = 0;

    map = xc_hypercall_buffer_alloc_pages(xch, map, 1);
    memset(map, 0, PAGE);
    rc = xc_logdirty_control(xch, A, op, HYPERCALL_BUFFER(map), PAGES, 0, &stats);
    for (unsigned i = 0; i < PAGE / sizeof *map; i++) bits += __builtin_popcountl(map[i]);
    row("log-dirty", call, rc, "first=%#lx bits=%d count=%u", map[0], bits, stats.dirty_count);
    xc_hypercall_buffer_free_pages(xch, map, 1);
}

static int shadow(domid_t dom, unsigned op) { return xc_shadow_control(xch, dom, op, NULL, 0); }
static int modified(uint64_t first, uint32_t nr) { return xendevicemodel_modified_memory(dm, A, first, nr); }

static void log_dirty(void)
{
    const char *g = "log-dirty";
    struct xen_dm_op_modified_memory_extent many[255];
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    xen_pfn_t gfn = 0x3a;
    char *p = xenforeignmemory_map(fmem, A, PROT_READ | PROT_WRITE, 1, &gfn, NULL);

    bitmap("PEEK before ENABLE", XEN_DOMCTL_SHADOW_OP_PEEK);
    row(g, "ENABLE_LOGDIRTY", shadow(A, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY), NONE);
    bitmap("CLEAN, nothing modified", XEN_DOMCTL_SHADOW_OP_CLEAN);
    row(g, "modified_memory(3,2)", modified(3, 2), NONE);
    bitmap("PEEK", XEN_DOMCTL_SHADOW_OP_PEEK);
    bitmap("PEEK", XEN_DOMCTL_SHADOW_OP_PEEK);
    bitmap("CLEAN", XEN_DOMCTL_SHADOW_OP_CLEAN);
    bitmap("CLEAN", XEN_DOMCTL_SHADOW_OP_CLEAN);
    row(g, "modified_memory(0,0x3000)", modified(0, 0x3000), NONE);
    bitmap("CLEAN", XEN_DOMCTL_SHADOW_OP_CLEAN);
    row(g, "modified_memory(hole 0x5000,1)", modified(0x5000, 1), NONE);
    bitmap("CLEAN", XEN_DOMCTL_SHADOW_OP_CLEAN);
    for (int i = 0; i < 255; i++) many[i] = (struct xen_dm_op_modified_memory_extent){.nr = 1, .first_pfn = i * 2};
    row(g, "modified_memory_bulk of 255", xendevicemodel_modified_memory_bulk(dm, A, many, 255), NONE);
    bitmap("CLEAN", XEN_DOMCTL_SHADOW_OP_CLEAN);
    many[1].first_pfn = 1ull << 40;
    row(g, "modified_memory_bulk of 3, [1] bad", xendevicemodel_modified_memory_bulk(dm, A, many, 3), NONE);
    bitmap("CLEAN: the last extent came first", XEN_DOMCTL_SHADOW_OP_CLEAN);
    strcpy(p, "written by dom0");
    bitmap("CLEAN after a write through a foreign mapping", XEN_DOMCTL_SHADOW_OP_CLEAN);
    row(g, "set_mem_type(ram_ro,0x10,2)", xendevicemodel_set_mem_type(dm, A, HVMMEM_ram_ro, 0x10, 2), NONE);
    row(g, "modified_memory(0x10,2)", modified(0x10, 2), NONE);
    bitmap("CLEAN", XEN_DOMCTL_SHADOW_OP_CLEAN);
    row(g, "OFF", shadow(A, XEN_DOMCTL_SHADOW_OP_OFF), NONE);
    row(g, "OFF again", shadow(A, XEN_DOMCTL_SHADOW_OP_OFF), NONE);
    row(g, "modified_memory(1<<40,1), off", modified(1ull << 40, 1), NONE);
    row(g, "ENABLE_LOGDIRTY of 999", shadow(NOBODY, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY), NONE);
    row(g, "unknown shadow op", shadow(A, 99), NONE);
    xenforeignmemory_unmap(fmem, p, 1);
    xenforeignmemory_close(fmem);
}

static unsigned char map[64];

static void vram(const char *call, uint64_t first, uint32_t nr)
{
    int rc, used = 0;

    memset(map, 0x5a, sizeof map);
    rc = xendevicemodel_track_dirty_vram(dm, A, first, nr, (void *)map);
    while (used < 64 && map[used] != 0x5a) used++;
    row("dirty vram", call, rc, "bytes=%d first=%02x last=%02x", used, map[0], used ? map[used - 1] : 0);
}

static void dirty_vram(void)
{
    const char *g = "dirty vram";
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    xen_pfn_t gfn = 0x102;

    vram("(0x100,64) 1st", 0x100, 64);
    vram("(0x100,64) 2nd", 0x100, 64);
    row(g, "modified_memory(0x102,1)", modified(0x102, 1), NONE);
    vram("(0x100,64) after modified_memory", 0x100, 64);
    char *p = xenforeignmemory_map(fmem, A, PROT_READ | PROT_WRITE, 1, &gfn, NULL);
    row_ptr(g, "mapping a tracked page", p);
    if (p) strcpy(p, "x");
    vram("(0x100,64) after a write through a mapping", 0x100, 64);
    if (p) xenforeignmemory_unmap(fmem, p, 1);
    vram("(0x100,64) after the unmap", 0x100, 64);
    vram("(0x100,65) another length", 0x100, 65);
    vram("(0x100,65) 2nd", 0x100, 65);
    vram("(0x200,1) another place", 0x200, 1);
    vram("(0x100,65) back", 0x100, 65);
    vram("(0,0) off", 0, 0);
    vram("(0x100,65) after off", 0x100, 65);
    row(g, "relocate_memory of a tracked page", xendevicemodel_relocate_memory(dm, A, 1, 0x105, 0x4100), NONE);
    vram("(0x100,65) after relocate_memory", 0x100, 65);
    vram("(0x4000,10) a hole", 0x4000, 10);
    vram("(0x4000,10) a hole, 2nd", 0x4000, 10);
    vram("(0x3ff8,16) half a hole, 1st", 0x3ff8, 16);
    vram("(0x3ff8,16) half a hole, 2nd", 0x3ff8, 16);
    row(g, "ENABLE_LOGDIRTY while tracking", shadow(A, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY), NONE);
    vram("(0x100,64) in log-dirty mode, 1st", 0x100, 64);
    vram("(0x100,64) in log-dirty mode, 2nd", 0x100, 64);
    row(g, "modified_memory(0x102,1)", modified(0x102, 1), NONE);
    vram("(0x100,64) in log-dirty mode, after modified_memory", 0x100, 64);
    row(g, "OFF", shadow(A, XEN_DOMCTL_SHADOW_OP_OFF), NONE);
    vram("(0x100,64) after OFF", 0x100, 64);
    vram("(0,0) off", 0, 0);
}

int main(void)
{
    xch = xc_interface_open(NULL, NULL, 0);
    dm = xendevicemodel_open(NULL, 0);
    need(xch && dm, "opening the libraries");
    log_dirty();
    dirty_vram();
    return 0;
}
