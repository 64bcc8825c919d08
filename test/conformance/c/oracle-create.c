/* SPDX-License-Identifier: MIT
 *
 * Creating, sizing, pausing and refusing domains through libxenctrl. Needs no prepared domain.
 */
#include "oracle.h"

static xc_interface *xch;

/* A field's value, for a row: what a toolstack would read back. */
static void info(const char *group, const char *call, uint32_t domid)
{
    xc_dominfo_t i;
    int n = xc_domain_getinfo(xch, domid, 1, &i);

    if (n == 1 && i.domid == domid)
        row(group, call, n, "hvm=%u hap=%u paused=%u dying=%u shutdown=%u reason=%u vcpus=%u max_vcpu_id=%u max_memkb=%lu",
            i.hvm, i.hap, i.paused, i.dying, i.shutdown, i.shutdown ? i.shutdown_reason : 0, i.nr_online_vcpus,
            i.max_vcpu_id, i.max_memkb);
    else
        row(group, call, n, "%s", "");
}

static void refused(const char *group, struct xen_domctl_createdomain config)
{
    uint32_t domid = 0;
    int rc = xc_domain_create(xch, &domid, &config);

    row(group, "xc_domain_create", rc, "domid=%u", domid);
}

static void domctl(uint32_t a, uint32_t p)
{
    const char *g = "domctl";

    info(g, "getinfo A", a);
    info(g, "getinfo P", p);
    info(g, "getinfo 999", NOBODY);
    row(g, "max_vcpus(A, 2) again", xc_domain_max_vcpus(xch, a, 2), "%s", "");
    row(g, "max_vcpus(A, 3), created with 2", xc_domain_max_vcpus(xch, a, 3), "%s", "");
    row(g, "max_vcpus(999)", xc_domain_max_vcpus(xch, NOBODY, 1), "%s", "");
    row(g, "setmaxmem(999)", xc_domain_setmaxmem(xch, NOBODY, 1024), "%s", "");
    row(g, "set_paging_mempool_size(P)", xc_set_paging_mempool_size(xch, p, 4 << 20), "%s", "");
    row(g, "set_paging_mempool_size(A, 1 byte over)", xc_set_paging_mempool_size(xch, a, (4 << 20) + 1), "%s", "");
    row(g, "set_paging_mempool_size(999)", xc_set_paging_mempool_size(xch, NOBODY, 4 << 20), "%s", "");
    row(g, "pause(A)", xc_domain_pause(xch, a), "%s", "");
    row(g, "pause(A) again", xc_domain_pause(xch, a), "%s", "");
    row(g, "unpause(A)", xc_domain_unpause(xch, a), "%s", "");
    info(g, "getinfo A, paused twice, unpaused once", a);
    row(g, "pause(999)", xc_domain_pause(xch, NOBODY), "%s", "");
    row(g, "unpause(999)", xc_domain_unpause(xch, NOBODY), "%s", "");
    row(g, "destroy(999)", xc_domain_destroy(xch, NOBODY), "%s", "");
    row(g, "pause(0)", xc_domain_pause(xch, 0), "%s", "");
    row(g, "destroy(0)", xc_domain_destroy(xch, 0), "%s", "");
}

/* Unpausing is tried on a domain of its own: its vCPU has no context, so it stays down. */
static void unpause(void)
{
    const char *g = "unpause";
    uint32_t d = make_domain(xch, KIND_PV, 1, NULL);

    row(g, "unpause a created domain", xc_domain_unpause(xch, d), "%s", "");
    info(g, "getinfo", d);
    row(g, "unpause again", xc_domain_unpause(xch, d), "%s", "");
    row(g, "destroy", xc_domain_destroy(xch, d), "%s", "");
    info(g, "getinfo of a destroyed domain", d);
}

static void chosen_domid(void)
{
    const char *g = "chosen domid";
    struct xen_domctl_createdomain config = domain_config(KIND_HVM, 1);
    uint32_t domid = 77;
    int rc = xc_domain_create(xch, &domid, &config);

    row(g, "xc_domain_create(77)", rc, "domid=%u", domid);
    rc = xc_domain_create(xch, &domid, &config);
    row(g, "xc_domain_create(77) again", rc, "domid=%u", domid);
    row(g, "destroy(77)", xc_domain_destroy(xch, 77), "%s", "");
    rc = xc_domain_create(xch, &domid, &config);
    row(g, "xc_domain_create(77) after destroy", rc, "domid=%u", domid);
    domid = 0;
    rc = xc_domain_create(xch, &domid, &config);
    row(g, "xc_domain_create(any) after 77", rc, "fresh=%d", domid > 4 && domid != 77);
    xc_domain_destroy(xch, domid);
    xc_domain_destroy(xch, 77);
    domid = 0x7ff0;
    rc = xc_domain_create(xch, &domid, &config);
    row(g, "xc_domain_create(0x7ff0), out of range: any", rc, "fresh=%d", domid > 4 && domid < 0x7ff0);
}

int main(void)
{
    struct xen_domctl_createdomain config;
    uint32_t a, p;

    xch = xc_interface_open(NULL, NULL, 0);
    need(xch != NULL, "xc_interface_open");
    a = make_domain(xch, KIND_HVM, 2, "create A (HVM, 2 vcpus)");
    make_domain(xch, KIND_HVM, 1, "create B (HVM)");
    p = make_domain(xch, KIND_PV, 1, "create P (PV)");
    make_domain(xch, KIND_PVH, 1, "create L (PVH: LAPIC only)");

    config = domain_config(KIND_HVM, 1);
    config.flags &= ~XEN_DOMCTL_CDF_hap;
    refused("create HVM w/o HAP", config);
    config = domain_config(KIND_HVM, 1);
    config.arch.emulation_flags = XEN_X86_EMU_PIT;
    refused("create HVM bad emulation flags", config);
    config = domain_config(KIND_HVM, 1);
    config.flags |= 1u << 31;
    refused("create HVM unknown flag", config);
    config = domain_config(KIND_HVM, 0);
    refused("create HVM with 0 vcpus", config);
    config = domain_config(KIND_HVM, 129);
    refused("create HVM with 129 vcpus", config);
    config = domain_config(KIND_PV, 1);
    config.flags = XEN_DOMCTL_CDF_hap;
    refused("create PV with HAP", config);

    domctl(a, p);
    unpause();
    chosen_domid();
    return 0;
}
