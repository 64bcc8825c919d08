/* SPDX-License-Identifier: MIT
 *
 * The operations of dm_op as libxendevicemodel makes them, in the facts table's order: state carries over from row to
 * row. Needs no prepared domain: it makes A (HVM, 2 vCPUs) and B (HVM, 1 vCPU) with 8 MiB each and no ioreq pages yet.
 */
#include "oracle.h"

#define G "libxendevicemodel"
#define NONE "%s", ""
#define MEMORY 1
#define PORT 0

static xc_interface *xch;
static xendevicemodel_handle *dm;
static uint32_t a, b;
static ioservid_t id0, id1, id2;

static void create(const char *call, int bufioreq, ioservid_t *out)
{
    int rc;

    *out = 0xffff;
    rc = xendevicemodel_create_ioreq_server(dm, a, bufioreq, out);
    row(G, call, rc, "id=%u", *out);
}

static void hvm_params(void)
{
    const char *g = "hvm params";
    uint64_t value = 0;
    int rc;

    row(g, "param_set NR_IOREQ_SERVER_PAGES=0", xc_hvm_param_set(xch, a, HVM_PARAM_NR_IOREQ_SERVER_PAGES, 0), NONE);
    row(g, "param_set NR_IOREQ_SERVER_PAGES=8", xc_hvm_param_set(xch, a, HVM_PARAM_NR_IOREQ_SERVER_PAGES, 8), NONE);
    row(g, "param_set NR_IOREQ_SERVER_PAGES=65", xc_hvm_param_set(xch, a, HVM_PARAM_NR_IOREQ_SERVER_PAGES, 65), NONE);
    row(g, "param_set NR_IOREQ_SERVER_PAGES=8 again", xc_hvm_param_set(xch, a, HVM_PARAM_NR_IOREQ_SERVER_PAGES, 8), NONE);
    row(g, "param_set index=HVM_NR_PARAMS", xc_hvm_param_set(xch, a, HVM_NR_PARAMS, 1), NONE);
    row(g, "param_set NR_IOREQ_SERVER_PAGES=65 (B, first)",
        xc_hvm_param_set(xch, b, HVM_PARAM_NR_IOREQ_SERVER_PAGES, 65), NONE);
    row(g, "param_set IOREQ_SERVER_PFN", xc_hvm_param_set(xch, a, HVM_PARAM_IOREQ_SERVER_PFN, 0xfeff0), NONE);
    rc = xc_hvm_param_get(xch, a, HVM_PARAM_IOREQ_SERVER_PFN, &value);
    row(g, "param_get IOREQ_SERVER_PFN", rc, "value=%#lx", value);
    rc = xc_hvm_param_get(xch, a, HVM_PARAM_NR_IOREQ_SERVER_PAGES, &value);
    row(g, "param_get NR_IOREQ_SERVER_PAGES", rc, "value=%#lx", value);
    rc = xc_hvm_param_get(xch, a, HVM_PARAM_STORE_PFN, &value);
    row(g, "param_get STORE_PFN, never set", rc, "value=%#lx", value);
    row(g, "param_set STORE_PFN", xc_hvm_param_set(xch, a, HVM_PARAM_STORE_PFN, 0xfeffc), NONE);
    rc = xc_hvm_param_get(xch, a, HVM_PARAM_STORE_PFN, &value);
    row(g, "param_get STORE_PFN", rc, "value=%#lx", value);
    row(g, "param_get index=HVM_NR_PARAMS", xc_hvm_param_get(xch, a, HVM_NR_PARAMS, &value), NONE);
    row(g, "param_get of 999", xc_hvm_param_get(xch, NOBODY, HVM_PARAM_STORE_PFN, &value), NONE);
}

static int mmio(ioservid_t id, uint64_t start, uint64_t end)
{
    return xendevicemodel_map_io_range_to_ioreq_server(dm, a, id, MEMORY, start, end);
}

static int port(ioservid_t id, uint64_t start, uint64_t end)
{
    return xendevicemodel_map_io_range_to_ioreq_server(dm, a, id, PORT, start, end);
}

static int unport(ioservid_t id, uint64_t start, uint64_t end)
{
    return xendevicemodel_unmap_io_range_from_ioreq_server(dm, a, id, PORT, start, end);
}

static int unmmio(ioservid_t id, uint64_t start, uint64_t end)
{
    return xendevicemodel_unmap_io_range_from_ioreq_server(dm, a, id, MEMORY, start, end);
}

static void servers(void)
{
    evtchn_port_t buf;
    int rc;

    create("create_ioreq_server bufioreq=OFF(0)", 0, &id0);
    create("create_ioreq_server bufioreq=ATOMIC(2)", 2, &id1);
    create("create_ioreq_server bufioreq=3 (invalid)", 3, &id2);
    create("create_ioreq_server bufioreq=LEGACY(1)", 1, &id2);
    rc = xendevicemodel_get_ioreq_server_info(dm, a, id0, NULL, NULL, NULL);
    row(G, "get_ioreq_server_info(id, no gfns)", rc, NONE);
    buf = 0;
    rc = xendevicemodel_get_ioreq_server_info(dm, a, id1, NULL, NULL, &buf);
    row(G, "get_ioreq_server_info(id 1, no gfns)", rc, "port=%u", buf);
    buf = 0;
    rc = xendevicemodel_get_ioreq_server_info(dm, a, id2, NULL, NULL, &buf);
    row(G, "get_ioreq_server_info(id 2, no gfns)", rc, "port=%u", buf);
    row(G, "get_ioreq_server_info(unknown id 77)", xendevicemodel_get_ioreq_server_info(dm, a, 77, NULL, NULL, &buf), NONE);
    row(G, "destroy_ioreq_server(unknown id 77)", xendevicemodel_destroy_ioreq_server(dm, a, 77), NONE);
}

static int pcidev(ioservid_t id, uint16_t seg, uint8_t bus, uint8_t dev, uint8_t fn)
{
    return xendevicemodel_map_pcidev_to_ioreq_server(dm, a, id, seg, bus, dev, fn);
}

static void ranges(void)
{
    int n = 0, rc;

    row(G, "map_io_range mmio [0xf0000000,0xf0000fff]", mmio(id0, 0xf0000000, 0xf0000fff), NONE);
    row(G, "map_io_range mmio same again", mmio(id0, 0xf0000000, 0xf0000fff), NONE);
    row(G, "map_io_range mmio overlapping", mmio(id0, 0xf0000800, 0xf00017ff), NONE);
    row(G, "map_io_range mmio adjacent", mmio(id0, 0xf0001000, 0xf0001fff), NONE);
    row(G, "unmap_io_range mmio across two that were mapped apart", unmmio(id0, 0xf0000800, 0xf00017ff), NONE);
    row(G, "map_io_range mmio into the gap", mmio(id0, 0xf0000800, 0xf0000fff), NONE);
    row(G, "unmap_io_range mmio the adjacent rest", unmmio(id0, 0xf0001800, 0xf0001fff), NONE);
    row(G, "map_io_range mmio same range, other server", mmio(id1, 0xf0000000, 0xf0000fff), NONE);
    row(G, "map_io_range port [0x510,0x511]", port(id0, 0x510, 0x511), NONE);
    row(G, "map_io_range port [0x10000,0x20000] (>64K)", port(id0, 0x10000, 0x20000), NONE);
    row(G, "map_io_range mmio [0,~0]", mmio(id0, 0, ~0ull), NONE);
    row(G, "map_io_range unknown id", mmio(77, 0xe0000000, 0xe0000fff), NONE);
    row(G, "map_io_range unknown id, start>end", mmio(77, 2, 1), NONE);
    row(G, "map_io_range start>end", mmio(id0, 2, 1), NONE);
    row(G, "unmap_io_range mmio, larger than mapped", unmmio(id0, 0xefffffff, 0xf0000fff), NONE);
    row(G, "unmap_io_range mmio exact", unmmio(id0, 0xf0000000, 0xf0000fff), NONE);
    row(G, "unmap_io_range mmio again", unmmio(id0, 0xf0000000, 0xf0000fff), NONE);
    row(G, "unmap_io_range port partial [0x510,0x510]", unport(id0, 0x510, 0x510), NONE);
    row(G, "unmap_io_range port [0x511,0x511]", unport(id0, 0x511, 0x511), NONE);
    row(G, "unmap_io_range start>end", unport(id0, 2, 1), NONE);
    row(G, "unmap_io_range unknown id", unport(77, 1, 2), NONE);

    row(G, "map_pcidev 0:0:4.0", pcidev(id0, 0, 0, 4, 0), NONE);
    row(G, "map_pcidev 0:0:4.0 again", pcidev(id0, 0, 0, 4, 0), NONE);
    row(G, "map_pcidev 0:0:4.1", pcidev(id0, 0, 0, 4, 1), NONE);
    row(G, "map_pcidev other server", pcidev(id1, 0, 0, 4, 0), NONE);
    row(G, "map_pcidev device>255 bus 300-like (0xffff,0xff,0xff,0xff)", pcidev(id0, 0xffff, 0xff, 0xff, 0xff), NONE);
    row(G, "map_pcidev (0xffff,0xff,0x1f,7)", pcidev(id0, 0xffff, 0xff, 0x1f, 7), NONE);
    row(G, "unmap_pcidev 0:0:4.0", xendevicemodel_unmap_pcidev_from_ioreq_server(dm, a, id0, 0, 0, 4, 0), NONE);
    row(G, "unmap_pcidev 0:0:4.0 again", xendevicemodel_unmap_pcidev_from_ioreq_server(dm, a, id0, 0, 0, 4, 0), NONE);

    while ((rc = mmio(id0, 0x100000000ull + n * 0x2000ull, 0x100000000ull + n * 0x2000ull + 0xfff)) == 0 && n < 2000) n++;
    row(G, "map_io_range mmio until failure (disjoint)", rc, "succeeded %d times first", n);
    row(G, "map_io_range mmio adjacent to a full set's range", mmio(id0, 0x100001000ull, 0x1000017ffull), NONE);
    row(G, "map_io_range port, mmio set full", port(id0, 0x600, 0x601), NONE);
    row(G, "unmap_io_range mmio middle of a range, set full", unmmio(id0, 0x100002400ull, 0x1000024ffull), NONE);
    for (int i = 0; i < n; i++) unmmio(id0, 0x100000000ull + i * 0x2000ull, 0x100000000ull + i * 0x2000ull + 0xfff);
    unmmio(id0, 0x100001000ull, 0x1000017ffull);
}

static int state(ioservid_t id, int enabled)
{
    return xendevicemodel_set_ioreq_server_state(dm, a, id, enabled);
}

static int mem_type(ioservid_t id, uint16_t type, uint32_t flags)
{
    return xendevicemodel_map_mem_type_to_ioreq_server(dm, a, id, type, flags);
}

static void states(void)
{
    ioservid_t ids[16];
    int n = 0, rc;

    row(G, "set_ioreq_server_state(id,1)", state(id0, 1), NONE);
    row(G, "set_ioreq_server_state(id,1) again", state(id0, 1), NONE);
    row(G, "set_ioreq_server_state(id,0)", state(id0, 0), NONE);
    row(G, "set_ioreq_server_state(id,0) again", state(id0, 0), NONE);
    row(G, "set_ioreq_server_state(id,2)", state(id0, 2), NONE);
    row(G, "set_ioreq_server_state unknown id", state(77, 1), NONE);

    row(G, "map_mem_type(type=3 unused)", mem_type(id0, 3, XEN_DMOP_IOREQ_MEM_ACCESS_WRITE), NONE);
    row(G, "map_mem_type(type=0 ram)", mem_type(id0, 0, XEN_DMOP_IOREQ_MEM_ACCESS_WRITE), NONE);
    row(G, "map_mem_type(flags=READ)", mem_type(id0, HVMMEM_ioreq_server, XEN_DMOP_IOREQ_MEM_ACCESS_READ), NONE);
    row(G, "map_mem_type(flags=0) before any", mem_type(id0, HVMMEM_ioreq_server, 0), NONE);
    row(G, "map_mem_type(flags=WRITE)", mem_type(id0, HVMMEM_ioreq_server, XEN_DMOP_IOREQ_MEM_ACCESS_WRITE), NONE);
    row(G, "map_mem_type(flags=WRITE) again", mem_type(id0, HVMMEM_ioreq_server, XEN_DMOP_IOREQ_MEM_ACCESS_WRITE), NONE);
    row(G, "map_mem_type by 2nd server", mem_type(id1, HVMMEM_ioreq_server, XEN_DMOP_IOREQ_MEM_ACCESS_WRITE), NONE);
    row(G, "map_mem_type(flags=0) by 2nd server", mem_type(id1, HVMMEM_ioreq_server, 0), NONE);
    row(G, "set_mem_type(ioreq_server,0x40,2) while mapped", xendevicemodel_set_mem_type(dm, a, HVMMEM_ioreq_server, 0x40, 2), NONE);
    row(G, "set_mem_type(ioreq_server,0x40,1) again", xendevicemodel_set_mem_type(dm, a, HVMMEM_ioreq_server, 0x40, 1), NONE);
    row(G, "set_mem_type(ram_ro,0x40,1) from ioreq_server", xendevicemodel_set_mem_type(dm, a, HVMMEM_ram_ro, 0x40, 1), NONE);
    row(G, "set_mem_type(ram_rw,0x41,1) from ioreq_server", xendevicemodel_set_mem_type(dm, a, HVMMEM_ram_rw, 0x41, 1), NONE);
    row(G, "map_mem_type(flags=0 unmap)", mem_type(id0, HVMMEM_ioreq_server, 0), NONE);
    row(G, "set_mem_type(ram_ro,0x40,1) after the unmap", xendevicemodel_set_mem_type(dm, a, HVMMEM_ram_ro, 0x40, 1), NONE);
    row(G, "map_mem_type(unknown id)", mem_type(77, HVMMEM_ioreq_server, XEN_DMOP_IOREQ_MEM_ACCESS_WRITE), NONE);

    row(G, "destroy_ioreq_server(id 2)", xendevicemodel_destroy_ioreq_server(dm, a, id2), NONE);
    row(G, "destroy_ioreq_server(id 2) again", xendevicemodel_destroy_ioreq_server(dm, a, id2), NONE);
    while ((rc = xendevicemodel_create_ioreq_server(dm, a, 0, &ids[n])) == 0 && n < 15) n++;
    row(G, "create_ioreq_server until failure", rc, "succeeded %d more first; ids %u..%u", n, ids[0], ids[n - 1]);
    row(G, "destroy_ioreq_server in the middle", xendevicemodel_destroy_ioreq_server(dm, a, ids[2]), NONE);
    create("create_ioreq_server takes the lowest free id", 0, &ids[2]);
    for (int i = 0; i < n; i++) xendevicemodel_destroy_ioreq_server(dm, a, ids[i]);
}

static uint64_t bitmap[32768 / 8 + 64];

static void vram_row(const char *call, uint64_t first, uint32_t nr, int show)
{
    int rc;

    memset(bitmap, 0xff, sizeof bitmap);
    rc = xendevicemodel_track_dirty_vram(dm, a, first, nr, bitmap);
    if (show)
        row(G, call, rc, "bm[0]=%#lx", bitmap[0]);
    else
        row(G, call, rc, NONE);
}

static void raw_vram(int fd, const char *call, uint32_t pad, size_t size, int blocks)
{
    struct xen_dm_op op = {.op = XEN_DMOP_track_dirty_vram};
    uint64_t map[2] = {0, 0};

    op.u.track_dirty_vram.nr = 64;
    op.u.track_dirty_vram.pad = pad;
    row(G, call, blocks == 1 ? dm_op1(fd, a, &op, sizeof op) : dm_op2(fd, a, &op, sizeof op, map, size), NONE);
}

static void vram(void)
{
    int fd = open_privcmd();
    struct xen_dm_op op;

    vram_row("track_dirty_vram(0,64) 1st", 0, 64, 1);
    vram_row("track_dirty_vram(0,64) 2nd", 0, 64, 1);
    row(G, "modified_memory(3,2)", xendevicemodel_modified_memory(dm, a, 3, 2), NONE);
    vram_row("track_dirty_vram(0,64) once more", 0, 64, 1);
    vram_row("track_dirty_vram(first=0x10,nr=10) (nr not mult of 8)", 0x10, 10, 1);
    vram_row("track_dirty_vram beyond RAM (first=0x900,nr=64)", 0x900, 64, 1);
    vram_row("track_dirty_vram(nr=0x40000 =1GiB)", 0, 0x40000, 0);
    vram_row("track_dirty_vram(nr=0x40001 >1GiB)", 0, 0x40001, 0);
    vram_row("track_dirty_vram(nr=0x8000: 4096-byte bitmap)", 0, 0x8000, 0);
    vram_row("track_dirty_vram(nr=0x8001: 4104-byte bitmap)", 0, 0x8001, 0);
    raw_vram(fd, "raw track_dirty_vram nr=64, bitmap buf 7 bytes", 0, 7, 2);
    raw_vram(fd, "raw track_dirty_vram nr=64, bitmap buf 8 bytes", 0, 8, 2);
    raw_vram(fd, "raw track_dirty_vram nr=64, no bitmap buf", 0, 0, 1);
    raw_vram(fd, "raw track_dirty_vram pad=1", 1, 8, 2);

    op = (struct xen_dm_op){.op = XEN_DMOP_map_io_range_to_ioreq_server};
    op.u.map_io_range_to_ioreq_server.type = 3;
    row(G, "raw map_io_range type=3", dm_op1(fd, a, &op, sizeof op), NONE);
    op = (struct xen_dm_op){.op = XEN_DMOP_set_ioreq_server_state};
    op.u.set_ioreq_server_state.pad = 1;
    row(G, "raw set_ioreq_server_state pad=1", dm_op1(fd, a, &op, sizeof op), NONE);
    op = (struct xen_dm_op){.op = XEN_DMOP_get_ioreq_server_info};
    op.u.get_ioreq_server_info.flags = 2;
    row(G, "raw get_ioreq_server_info flags=2", dm_op1(fd, a, &op, sizeof op), NONE);
    op = (struct xen_dm_op){.op = XEN_DMOP_inject_msi};
    op.u.inject_msi.pad = 1;
    row(G, "raw inject_msi pad=1", dm_op1(fd, a, &op, sizeof op), NONE);
    op = (struct xen_dm_op){.op = XEN_DMOP_modified_memory};
    op.u.modified_memory.nr_extents = 1;
    row(G, "raw modified_memory nr_extents=1 without buf1", dm_op1(fd, a, &op, sizeof op), NONE);
    op.u.modified_memory.opaque = 5;
    row(G, "raw modified_memory opaque=5 > nr_extents", dm_op1(fd, a, &op, sizeof op), NONE);
    row(G, "track_dirty_vram bitmap=NULL nr=64", xendevicemodel_track_dirty_vram(dm, a, 0, 64, NULL), NONE);
    vram_row("track_dirty_vram(nr=0) stops", 0, 0, 0);
    vram_row("track_dirty_vram(nr=0) again", 0, 0, 0);
    close(fd);
}

static int isa(uint8_t irq, unsigned level) { return xendevicemodel_set_isa_irq_level(dm, a, irq, level); }

static int intx(uint16_t seg, uint8_t bus, uint8_t dev, uint8_t pin, unsigned level)
{
    return xendevicemodel_set_pci_intx_level(dm, a, seg, bus, dev, pin, level);
}

static int msi(uint64_t addr, uint32_t data) { return xendevicemodel_inject_msi(dm, a, addr, data); }

static int event(int vcpu, uint8_t vector, uint8_t type)
{
    return xendevicemodel_inject_event(dm, a, vcpu, vector, type, 0, 0, 0);
}

static void interrupts(void)
{
    row(G, "set_isa_irq_level(irq=0,1)", isa(0, 1), NONE);
    row(G, "set_isa_irq_level(irq=1,1)", isa(1, 1), NONE);
    row(G, "set_isa_irq_level(irq=1,1) again", isa(1, 1), NONE);
    row(G, "set_isa_irq_level(irq=1,0)", isa(1, 0), NONE);
    row(G, "set_isa_irq_level(irq=1,0) again", isa(1, 0), NONE);
    row(G, "set_isa_irq_level(irq=8,1)", isa(8, 1), NONE);
    row(G, "set_isa_irq_level(irq=15,1)", isa(15, 1), NONE);
    row(G, "set_isa_irq_level(irq=16,1)", isa(16, 1), NONE);
    row(G, "set_isa_irq_level(irq=17,1)", isa(17, 1), NONE);
    row(G, "set_isa_irq_level(irq=1,2)", isa(1, 2), NONE);
    row(G, "set_irq_level(32,1) (Arm-only)", xendevicemodel_set_irq_level(dm, a, 32, 1), NONE);
    row(G, "set_pci_intx_level(0,0,3,0,1)", intx(0, 0, 3, 0, 1), NONE);
    row(G, "set_pci_intx_level(0,0,3,0,0)", intx(0, 0, 3, 0, 0), NONE);
    row(G, "set_pci_intx_level(0,0,31,3,1)", intx(0, 0, 31, 3, 1), NONE);
    row(G, "set_pci_intx_level(seg=1)", intx(1, 0, 3, 0, 1), NONE);
    row(G, "set_pci_intx_level(bus=1)", intx(0, 1, 3, 0, 1), NONE);
    row(G, "set_pci_intx_level(dev=32)", intx(0, 0, 32, 0, 1), NONE);
    row(G, "set_pci_intx_level(intx=4)", intx(0, 0, 3, 4, 1), NONE);
    row(G, "set_pci_intx_level(level=2)", intx(0, 0, 3, 0, 2), NONE);
    row(G, "set_pci_link_route(3,0)", xendevicemodel_set_pci_link_route(dm, a, 3, 0), NONE);
    row(G, "set_pci_link_route(0,5)", xendevicemodel_set_pci_link_route(dm, a, 0, 5), NONE);
    row(G, "set_pci_link_route(0,15)", xendevicemodel_set_pci_link_route(dm, a, 0, 15), NONE);
    row(G, "set_pci_link_route(0,16)", xendevicemodel_set_pci_link_route(dm, a, 0, 16), NONE);
    row(G, "set_pci_link_route(4,5)", xendevicemodel_set_pci_link_route(dm, a, 4, 5), NONE);
    row(G, "inject_msi(0xfee00000, 0x41) fixed, dest 0 phys", msi(0xfee00000, 0x41), NONE);
    row(G, "inject_msi(0xfee00000, 0x00) vector 0", msi(0xfee00000, 0x00), NONE);
    row(G, "inject_msi(0xfee00000, 0x0f) vector <16", msi(0xfee00000, 0x0f), NONE);
    row(G, "inject_msi(0xfee00000, 0x141) lowest priority", msi(0xfee00000, 0x141), NONE);
    row(G, "inject_msi(0xfee00000, 0x241) SMI mode", msi(0xfee00000, 0x241), NONE);
    row(G, "inject_msi(0xfee00000, 0x341) reserved mode", msi(0xfee00000, 0x341), NONE);
    row(G, "inject_msi(0xfee00000, 0x441) NMI mode", msi(0xfee00000, 0x441), NONE);
    row(G, "inject_msi(0xfee00000, 0x541) INIT mode", msi(0xfee00000, 0x541), NONE);
    row(G, "inject_msi(0xfee00000, 0x741) ExtINT mode", msi(0xfee00000, 0x741), NONE);
    row(G, "inject_msi(0xfee00000, 0x8041) level", msi(0xfee00000, 0x8041), NONE);
    row(G, "inject_msi(0xfeeff000, 0x41) dest 255 bcast", msi(0xfeeff000, 0x41), NONE);
    row(G, "inject_msi(0xfee63000, 0x41) no such dest", msi(0xfee63000, 0x41), NONE);
    row(G, "inject_msi(0xfee0000c, 0x141) logical, none matches", msi(0xfee0000c, 0x141), NONE);
    row(G, "inject_msi(0x12345000, 0x41) not MSI addr", msi(0x12345000, 0x41), NONE);
    row(G, "inject_msi(0, 0)", msi(0, 0), NONE);
    row(G, "inject_event(vcpu0,#GP hw_exc)", event(0, 13, XEN_DMOP_EVENT_hw_exc), NONE);
    row(G, "inject_event(vcpu0) again, one pending", event(0, 13, XEN_DMOP_EVENT_hw_exc), NONE);
    row(G, "inject_event(vcpu=2 of 2)", event(2, 13, XEN_DMOP_EVENT_hw_exc), NONE);
    row(G, "inject_event(vcpu=-1)", event(-1, 13, XEN_DMOP_EVENT_hw_exc), NONE);
    row(G, "inject_event(vcpu1,type=99)", event(1, 13, 99), NONE);
}

static int set_type(hvmmem_type_t type, uint64_t first, uint32_t nr)
{
    return xendevicemodel_set_mem_type(dm, a, type, first, nr);
}

static int modified(uint64_t first, uint32_t nr) { return xendevicemodel_modified_memory(dm, a, first, nr); }

static int bulk(uint32_t pad1)
{
    struct xen_dm_op_modified_memory_extent e[2] = {{.nr = 1, .first_pfn = 4}, {.nr = 2, .pad = pad1, .first_pfn = 8}};

    return xendevicemodel_modified_memory_bulk(dm, a, e, 2);
}

static int shadow(unsigned op)
{
    return xc_shadow_control(xch, a, op, NULL, 0);
}

static void memory(void)
{
    row(G, "set_mem_type(ram_ro,0x20,4)", set_type(HVMMEM_ram_ro, 0x20, 4), NONE);
    row(G, "set_mem_type(ram_rw,0x20,4)", set_type(HVMMEM_ram_rw, 0x20, 4), NONE);
    row(G, "set_mem_type(type=3 unused)", set_type(3, 0x20, 1), NONE);
    row(G, "set_mem_type(type=4 ioreq_server)", set_type(HVMMEM_ioreq_server, 0x20, 1), NONE);
    row(G, "set_mem_type(type=5)", set_type(5, 0x20, 1), NONE);
    row(G, "set_mem_type(hole 0x900)", set_type(HVMMEM_ram_ro, 0x900, 1), NONE);
    row(G, "set_mem_type(last page and one past)", set_type(HVMMEM_ram_ro, RAM_PAGES - 1, 2), NONE);
    row(G, "set_mem_type(nr=0)", set_type(HVMMEM_ram_rw, 0x20, 0), NONE);
    row(G, "set_mem_type(first+nr wraps)", set_type(HVMMEM_ram_rw, ~0ull, 2), NONE);
    row(G, "modified_memory(nr=0)", modified(3, 0), NONE);
    row(G, "modified_memory(1<<40,1)", modified(1ull << 40, 1), NONE);
    row(G, "modified_memory_bulk, extent[1].pad=1", bulk(1), NONE);
    row(G, "xc_shadow_control(ENABLE_LOGDIRTY)", shadow(XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY), NONE);
    row(G, "xc_shadow_control(ENABLE_LOGDIRTY) again", shadow(XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY), NONE);
    row(G, "logdirty: modified_memory(3,2)", modified(3, 2), NONE);
    row(G, "logdirty: modified_memory(hole 0x900,1)", modified(0x900, 1), NONE);
    row(G, "logdirty: modified_memory(last page)", modified(RAM_PAGES - 1, 1), NONE);
    row(G, "logdirty: modified_memory(nr=0)", modified(3, 0), NONE);
    row(G, "logdirty: modified_memory(1<<40,1)", modified(1ull << 40, 1), NONE);
    row(G, "logdirty: modified_memory(~0,2) wraps", modified(~0ull, 2), NONE);
    row(G, "logdirty: modified_memory_bulk, extent[1].pad=1", bulk(1), NONE);
    row(G, "logdirty: modified_memory_bulk ok", bulk(0), NONE);
    vram_row("logdirty: track_dirty_vram", 0, 64, 0);
    row(G, "xc_shadow_control(OFF)", shadow(XEN_DOMCTL_SHADOW_OP_OFF), NONE);
    vram_row("track_dirty_vram(nr=0) after log-dirty", 0, 0, 0);
}

static int relocate(uint32_t size, uint64_t src, uint64_t dst)
{
    return xendevicemodel_relocate_memory(dm, a, size, src, dst);
}

static int pin(uint64_t start, uint64_t end, uint32_t type)
{
    return xendevicemodel_pin_memory_cacheattr(dm, a, start, end, type);
}

static void layout(void)
{
    row(G, "relocate_memory(1, 0x30->0x800)", relocate(1, 0x30, 0x800), NONE);
    row(G, "relocate_memory(1, hole 0x30->0x801)", relocate(1, 0x30, 0x801), NONE);
    row(G, "relocate_memory(1, 0x800->0x30) back", relocate(1, 0x800, 0x30), NONE);
    row(G, "relocate_memory(2, 0x7ff->0x900) second is a hole", relocate(2, 0x7ff, 0x900), NONE);
    row(G, "relocate_memory(0,..)", relocate(0, 0x31, 0x802), NONE);
    row(G, "relocate_memory(0x10000,..) >65535", relocate(0x10000, 0x31, 0x802), NONE);
    row(G, "pin_memory_cacheattr(0x10,0x1f,WC)", pin(0x10, 0x1f, XEN_DMOP_MEM_CACHEATTR_WC), NONE);
    row(G, "pin_memory_cacheattr again same", pin(0x10, 0x1f, XEN_DMOP_MEM_CACHEATTR_WC), NONE);
    row(G, "pin_memory_cacheattr same range, other type", pin(0x10, 0x1f, XEN_DMOP_MEM_CACHEATTR_WB), NONE);
    row(G, "pin_memory_cacheattr overlap", pin(0x18, 0x2f, XEN_DMOP_MEM_CACHEATTR_WC), NONE);
    row(G, "pin_memory_cacheattr inside", pin(0x12, 0x13, XEN_DMOP_MEM_CACHEATTR_WC), NONE);
    row(G, "pin_memory_cacheattr type=2", pin(0x40, 0x4f, 2), NONE);
    row(G, "pin_memory_cacheattr start>end", pin(0x4f, 0x40, XEN_DMOP_MEM_CACHEATTR_WC), NONE);
    row(G, "pin_memory_cacheattr DELETE, not exact", pin(0x10, 0x1e, XEN_DMOP_DELETE_MEM_CACHEATTR), NONE);
    row(G, "pin_memory_cacheattr DELETE", pin(0x10, 0x1f, XEN_DMOP_DELETE_MEM_CACHEATTR), NONE);
    row(G, "pin_memory_cacheattr DELETE again", pin(0x10, 0x1f, XEN_DMOP_DELETE_MEM_CACHEATTR), NONE);
}

static void shutdown_row(const char *call, uint32_t d, const char *g)
{
    xc_dominfo_t i;

    xc_domain_getinfo(xch, d, 1, &i);
    row(g, call, 0, "shutdown=%u reason=%u dying=%u", i.shutdown, i.shutdown_reason, i.dying);
}

int main(void)
{
    unsigned vcpus = 0;
    ioservid_t id = 0;
    int rc;

    xch = xc_interface_open(NULL, NULL, 0);
    need(xch != NULL, "xc_interface_open");
    a = make_domain(xch, KIND_HVM, 2, NULL);
    b = make_domain(xch, KIND_HVM, 1, NULL);
    dm = row_ptr(G, "xendevicemodel_open", xendevicemodel_open(NULL, 0));
    need(dm != NULL, "xendevicemodel_open");

    hvm_params();
    servers();
    ranges();
    states();
    vram();
    interrupts();
    memory();
    layout();
    row(G, "shutdown(A, reason=crash 3)", xendevicemodel_shutdown(dm, a, 3), NONE);
    row(G, "shutdown(A) again", xendevicemodel_shutdown(dm, a, 0), NONE);
    shutdown_row("A after two shutdowns", a, G);
    row(G, "shutdown(B, reason=12345)", xendevicemodel_shutdown(dm, b, 12345), NONE);
    shutdown_row("B after shutdown", b, G);
    rc = xendevicemodel_nr_vcpus(dm, a, &vcpus);
    row(G, "nr_vcpus(A) after shutdown", rc, "vcpus=%u", vcpus);
    row(G, "create on nonexistent 999", xendevicemodel_create_ioreq_server(dm, NOBODY, 0, &id), NONE);
    row(G, "nr_vcpus(0)", xendevicemodel_nr_vcpus(dm, 0, &vcpus), NONE);
    return 0;
}
