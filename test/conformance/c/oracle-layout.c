/* SPDX-License-Identifier: MIT
 *
 * What a toolstack's layout of an HVM domain looks like from outside, and how ioreq gfns move in and out of it.
 * Needs domains A (HVM, 2 vCPUs), B (HVM, 1 vCPU) and P (PV), prepared as ../README.md says.
 */
#include "oracle.h"

#define NONE "%s", ""
#define G "HVM layout"
static xenforeignmemory_handle *fmem;

/* Maps one page and says whether it is zero, or which error it has. */
static const char *page(domid_t dom, xen_pfn_t gfn)
{
    static char text[32];
    int err = 0, zero = 1;
    unsigned char *p = xenforeignmemory_map(fmem, dom, PROT_READ, 1, &gfn, &err);

    if (!p || err) {
        snprintf(text, sizeof text, "err=%d", err);
    } else {
        for (size_t i = 0; i < PAGE; i++) zero &= p[i] == 0;
        snprintf(text, sizeof text, "zero=%d", zero);
    }
    if (p) xenforeignmemory_unmap(fmem, p, 1);
    return text;
}

static void pages(void)
{
    static const xen_pfn_t gfns[] = {0,       1,       0xa0,    0xb8,    0xff,    0x100,    0x3fff,   0x4000,  0x8000,
                                     0xf0000, 0xfec00, 0xfee00, 0xfefef, 0xfeff0, 0xfeff1, 0xfefff, 0xff000, 0x100000};
    char call[64];
    int zero = 0;
    enum { RAM = 0x4000 };

    for (unsigned i = 0; i < sizeof gfns / sizeof *gfns; i++) {
        snprintf(call, sizeof call, "pfn %#lx", gfns[i]);
        row(G, call, 0, "%s", page(A, gfns[i]));
    }
    xen_pfn_t *all = malloc(RAM * sizeof *all);
    int *err = malloc(RAM * sizeof *err);
    for (int i = 0; i < RAM; i++) all[i] = i;
    unsigned char *p = xenforeignmemory_map(fmem, A, PROT_READ, RAM, all, err);
    for (int i = 0; i < RAM; i++) zero += !err[i] && !memcmp(p + i * PAGE, p, PAGE) && p[i * PAGE] == 0;
    row(G, "pages of RAM that are zero, mapped in one call", 0, "%d", zero);
    xenforeignmemory_unmap(fmem, p, RAM);
    row(G, "pfn 0 of P", 0, "%s", page(P, 0));
}

static void info(const char *call, xc_interface *xch, uint32_t dom)
{
    xc_dominfo_t i;
    int n = xc_domain_getinfo(xch, dom, 1, &i);

    row(G, call, n, "hvm=%u hap=%u paused=%u shutdown=%u vcpus=%u max_vcpu_id=%u max_memkb=%lu pages=%lu", i.hvm, i.hap,
        i.paused, i.shutdown, i.nr_online_vcpus, i.max_vcpu_id, i.max_memkb, i.nr_pages);
}

static void toolstack(void)
{
    xc_interface *xch = xc_interface_open(NULL, NULL, 0);
    uint64_t value = 0;
    xen_pfn_t max = 0;
    int rc;

    info("getinfo A", xch, A);
    info("getinfo B", xch, B);
    info("getinfo P", xch, P);
    rc = xc_domain_maximum_gpfn(xch, A, &max);
    row(G, "maximum_gpfn A", rc, "%#lx", max);
    rc = xc_hvm_param_get(xch, A, HVM_PARAM_IOREQ_SERVER_PFN, &value);
    row(G, "IOREQ_SERVER_PFN", rc, "%#lx", value);
    rc = xc_hvm_param_get(xch, A, HVM_PARAM_NR_IOREQ_SERVER_PAGES, &value);
    row(G, "NR_IOREQ_SERVER_PAGES", rc, "%#lx", value);
    row(G, "NR_IOREQ_SERVER_PAGES of P", xc_hvm_param_get(xch, P, HVM_PARAM_NR_IOREQ_SERVER_PAGES, &value), NONE);
    xc_interface_close(xch);
}

static void gfns(void)
{
    const char *g = "ioreq gfns";
    xendevicemodel_handle *dm = xendevicemodel_open(NULL, 0);
    xen_pfn_t ioreq = 0, buf = 0;
    evtchn_port_t port = 0;
    ioservid_t id;
    int rc;

    row(g, "create_ioreq_server(ATOMIC)", xendevicemodel_create_ioreq_server(dm, B, 2, &id), NONE);
    row(g, "pfn 0xfeff0", 0, "%s", page(B, 0xfeff0));
    rc = xendevicemodel_get_ioreq_server_info(dm, B, id, &ioreq, &buf, &port);
    row(g, "get_ioreq_server_info", rc, "ioreq=%#lx buf=%#lx port=%u", ioreq, buf, port);
    row(g, "the ioreq gfn", 0, "%s", page(B, ioreq));
    rc = xendevicemodel_get_ioreq_server_info(dm, B, id, &ioreq, &buf, &port);
    row(g, "get_ioreq_server_info again", rc, "ioreq=%#lx buf=%#lx port=%u", ioreq, buf, port);
    row(g, "set_state(1)", xendevicemodel_set_ioreq_server_state(dm, B, id, 1), NONE);
    row(g, "the ioreq gfn, enabled", 0, "%s", page(B, ioreq));
    row(g, "the buffered gfn, enabled", 0, "%s", page(B, buf));
    row(g, "set_state(0)", xendevicemodel_set_ioreq_server_state(dm, B, id, 0), NONE);
    row(g, "the ioreq gfn, disabled", 0, "%s", page(B, ioreq));
    row(g, "destroy_ioreq_server", xendevicemodel_destroy_ioreq_server(dm, B, id), NONE);
    row(g, "the ioreq gfn, destroyed", 0, "%s", page(B, ioreq));
    for (int n = 0; n < 4; n++) { /* 8 pages are enough for four servers */
        char call[64];

        rc = xendevicemodel_create_ioreq_server(dm, B, 2, &id);
        if (rc == 0) rc = xendevicemodel_get_ioreq_server_info(dm, B, id, &ioreq, &buf, &port);
        snprintf(call, sizeof call, "server %d and its gfns", n);
        row(g, call, rc, "ioreq=%#lx buf=%#lx port=%u", ioreq, buf, port);
    }
}

int main(void)
{
    fmem = xenforeignmemory_open(NULL, 0);
    need(fmem != NULL, "xenforeignmemory_open");
    pages();
    toolstack();
    gfns();
    return 0;
}
