/* SPDX-License-Identifier: MIT
 *
 * Changing a domain's memory: populate, decrease, move, memory types seen through a mapping, relocation.
 * Needs domains A (HVM, 2 vCPUs), B (HVM, 1 vCPU) and P (PV).
 */
#include "oracle.h"

#define NONE "%s", ""
static xc_interface *xch;
static xendevicemodel_handle *dm;
static xenforeignmemory_handle *fmem;

/* What is in a page: its first bytes as text, or the error of mapping it. */
static const char *page(domid_t dom, xen_pfn_t gfn)
{
    static char text[32];
    int err = 0;
    char *p = xenforeignmemory_map(fmem, dom, PROT_READ, 1, &gfn, &err);

    if (!p || err)
        snprintf(text, sizeof text, "err=%d", err);
    else
        snprintf(text, sizeof text, "\"%.16s\"", p);
    if (p) xenforeignmemory_unmap(fmem, p, 1);
    return text;
}

static void put(domid_t dom, xen_pfn_t gfn, const char *text)
{
    char *p = xenforeignmemory_map(fmem, dom, PROT_READ | PROT_WRITE, 1, &gfn, NULL);

    need(p != NULL, "mapping a page to write it");
    memset(p, 0, PAGE);
    strcpy(p, text);
    xenforeignmemory_unmap(fmem, p, 1);
}

static int pop(domid_t dom, xen_pfn_t gfn) { return xc_domain_populate_physmap(xch, dom, 1, 0, 0, &gfn); }
static int dec(domid_t dom, xen_pfn_t gfn) { return xc_domain_decrease_reservation(xch, dom, 1, 0, &gfn); }

static unsigned long pages(domid_t dom)
{
    xc_dominfo_t i = {0};

    xc_domain_getinfo(xch, dom, 1, &i);
    return i.nr_pages;
}

static void reservation(void)
{
    const char *g = "reservation";
    unsigned long before = pages(A);
    xen_pfn_t many[1024];
    int rc;

    row(g, "populate(A, 0x5000)", pop(A, 0x5000), NONE);
    row(g, "...pages", 0, "%+ld", (long)(pages(A) - before));
    row(g, "populate(A, 0x5000) again", pop(A, 0x5000), NONE);
    row(g, "...pages", 0, "%+ld", (long)(pages(A) - before));
    row(g, "decrease(A, 0x5000)", dec(A, 0x5000), NONE);
    row(g, "...pages", 0, "%+ld", (long)(pages(A) - before));
    row(g, "the page", 0, "%s", page(A, 0x5000));
    row(g, "decrease(A, 0x5000) again", dec(A, 0x5000), NONE);
    row(g, "populate(999)", pop(NOBODY, 1), NONE);
    row(g, "decrease(999)", dec(NOBODY, 1), NONE);
    row(g, "setmaxmem to what it has", xc_domain_setmaxmem(xch, A, pages(A) * 4), NONE);
    row(g, "populate(A, 0x5000) at the limit", pop(A, 0x5000), NONE);
    row(g, "populate_exact(A, 0x5000) at the limit", populate(xch, A, 0x5000, 1), NONE);
    row(g, "setmaxmem, 3 pages more", xc_domain_setmaxmem(xch, A, (pages(A) + 3) * 4), NONE);
    for (int i = 0; i < 10; i++) many[i] = 0x5000 + i;
    rc = xc_domain_populate_physmap(xch, A, 10, 0, 0, many);
    row(g, "populate 10, room for 3", rc, NONE);
    row(g, "...the third", 0, "there=%d", page(A, 0x5002)[0] == '"');
    row(g, "...the fourth", 0, "%s", page(A, 0x5003));
    rc = xc_domain_decrease_reservation(xch, A, 10, 0, many);
    row(g, "decrease 10, 3 are there", rc, NONE);
    row(g, "setmaxmem below what it has", xc_domain_setmaxmem(xch, A, 4096), NONE);
    row(g, "...then populate", pop(A, 0x5000), NONE);
    row(g, "setmaxmem", xc_domain_setmaxmem(xch, A, 66 << 10), NONE);
    xen_pfn_t big = 0x6000;
    rc = xc_domain_populate_physmap(xch, A, 1, 9, 0, &big);
    row(g, "populate one extent of order 9, room for 496 pages", rc, NONE);
    rc = xc_domain_populate_physmap(xch, A, 1, 4, 0, &big);
    row(g, "populate one extent of order 4", rc, NONE);
    row(g, "...its last page", 0, "there=%d", page(A, 0x600f)[0] == '"');
    row(g, "...the next page", 0, "%s", page(A, 0x6010));
    big = 0x7001;
    rc = xc_domain_populate_physmap(xch, A, 1, 2, 0, &big);
    row(g, "populate an unaligned extent of order 2", rc, NONE);
    big = 0x8000;
    rc = xc_domain_populate_physmap(xch, A, 1, 60, 0, &big);
    row(g, "populate one extent of order 60", rc, NONE);
    rc = xc_domain_populate_physmap(xch, A, 0, 0, 0, &big);
    row(g, "populate 0 extents", rc, NONE);
}

static void moving(void)
{
    const char *g = "add_to_physmap";

    put(A, 0x50, "fifty");
    row(g, "gmfn 0x50 -> 0x5100", xc_domain_add_to_physmap(xch, A, XENMAPSPACE_gmfn, 0x50, 0x5100), NONE);
    row(g, "...at 0x50", 0, "%s", page(A, 0x50));
    row(g, "...at 0x5100", 0, "%s", page(A, 0x5100));
    row(g, "gmfn of a hole", xc_domain_add_to_physmap(xch, A, XENMAPSPACE_gmfn, 0x50, 0x5101), NONE);
    put(A, 0x51, "fifty-one");
    row(g, "gmfn 0x51 over 0x5100", xc_domain_add_to_physmap(xch, A, XENMAPSPACE_gmfn, 0x51, 0x5100), NONE);
    row(g, "...at 0x5100", 0, "%s", page(A, 0x5100));
    row(g, "unknown space 99", xc_domain_add_to_physmap(xch, A, 99, 0x52, 0x5102), NONE);
    row(g, "domain 999", xc_domain_add_to_physmap(xch, NOBODY, XENMAPSPACE_gmfn, 0x52, 0x5102), NONE);
}

static int relocate(uint32_t size, uint64_t src, uint64_t dst)
{
    return xendevicemodel_relocate_memory(dm, A, size, src, dst);
}

static void relocation(void)
{
    const char *g = "relocate_memory";
    xen_pfn_t gfn = 0x60;
    char *held;

    put(A, 0x60, "sixty");
    put(A, 0x61, "sixty-one");
    held = xenforeignmemory_map(fmem, A, PROT_READ | PROT_WRITE, 1, &gfn, NULL);
    row(g, "(2, 0x60 -> 0x5200)", relocate(2, 0x60, 0x5200), NONE);
    row(g, "...at 0x60", 0, "%s", page(A, 0x60));
    row(g, "...at 0x5200", 0, "%s", page(A, 0x5200));
    row(g, "...at 0x5201", 0, "%s", page(A, 0x5201));
    row(g, "a mapping made before", 0, "%s", held);
    strcpy(held, "sixty again");
    row(g, "...written, at 0x5200", 0, "%s", page(A, 0x5200));
    row(g, "(1, 0x60 hole -> 0x5300)", relocate(1, 0x60, 0x5300), NONE);
    row(g, "onto itself (1, 0x5200 -> 0x5200)", relocate(1, 0x5200, 0x5200), NONE);
    row(g, "...at 0x5200", 0, "%s", page(A, 0x5200));
    put(A, 0x70, "seventy");
    put(A, 0x71, "seventy-one");
    put(A, 0x72, "seventy-two");
    row(g, "overlapping upwards (3, 0x70 -> 0x71)", relocate(3, 0x70, 0x71), NONE);
    row(g, "...at 0x70", 0, "%s", page(A, 0x70));
    row(g, "...at 0x71", 0, "%s", page(A, 0x71));
    row(g, "...at 0x72", 0, "%s", page(A, 0x72));
    row(g, "...at 0x73", 0, "%s", page(A, 0x73));
    row(g, "700 pages (0x1000 -> 0x9000)", relocate(700, 0x1000, 0x9000), NONE);
    row(g, "...the first is gone", 0, "%s", page(A, 0x1000));
    row(g, "...the last is gone", 0, "%s", page(A, 0x1000 + 699));
    row(g, "...the next stays", 0, "%s", page(A, 0x1000 + 700));
    row(g, "...the last arrived", 0, "%s", page(A, 0x9000 + 699));
    xenforeignmemory_unmap(fmem, held, 1);
}

static int set_type(hvmmem_type_t type, uint64_t first, uint32_t nr)
{
    return xendevicemodel_set_mem_type(dm, A, type, first, nr);
}

static void types(void)
{
    const char *g = "memory types";
    xen_pfn_t gfn = 0x80;
    int err;

    put(A, 0x80, "eighty");
    row(g, "ram_ro", set_type(HVMMEM_ram_ro, 0x80, 1), NONE);
    row(g, "...mapped to read", 0, "%s", page(A, 0x80));
    row(g, "back to ram_rw", set_type(HVMMEM_ram_rw, 0x80, 1), NONE);
    put(A, 0x80, "eighty again");
    row(g, "...written and read", 0, "%s", page(A, 0x80));
    row(g, "a hole to ram_rw", set_type(HVMMEM_ram_rw, 0x5500, 1), NONE);
    row(g, "a hole to ram_ro", set_type(HVMMEM_ram_ro, 0x5500, 1), NONE);
    row(g, "a hole to mmio_dm", set_type(HVMMEM_mmio_dm, 0x5500, 1), NONE);
    row(g, "mmio_dm of 0x81", set_type(HVMMEM_mmio_dm, 0x81, 1), NONE);
    row(g, "...mapped", 0, "%s", page(A, 0x81));
    row(g, "mmio_dm of 0x81 again", set_type(HVMMEM_mmio_dm, 0x81, 1), NONE);
    row(g, "ram_rw of 0x81", set_type(HVMMEM_ram_rw, 0x81, 1), NONE);
    row(g, "ram_ro over a hole in the middle (0x3ffe,4)", set_type(HVMMEM_ram_ro, 0x3ffe, 4), NONE);
    row(g, "last pfn past the largest", set_type(HVMMEM_ram_ro, 0xfefff, 2), NONE);
    gfn = 0x3ffe;
    row_ptr(g, "...the first of them was done: mapped to write", xenforeignmemory_map(fmem, A, PROT_READ | PROT_WRITE, 1, &gfn, &err));
    row(g, "...per page", 0, "err=%d", err);
    row(g, "set_mem_type of P", xendevicemodel_set_mem_type(dm, P, HVMMEM_ram_rw, 0, 1), NONE);
}

int main(void)
{
    xch = xc_interface_open(NULL, NULL, 0);
    dm = xendevicemodel_open(NULL, 0);
    fmem = xenforeignmemory_open(NULL, 0);
    need(xch && dm && fmem, "opening the libraries");
    reservation();
    moving();
    relocation();
    types();
    return 0;
}
