/* SPDX-License-Identifier: MIT
 *
 * What is left of a domain once it is destroyed, seen through handles that were open before. Needs domains A (HVM,
 * 2 vCPUs), B (HVM, 1 vCPU) and P (PV).
 */
#include "oracle.h"

#define NONE "%s", ""

int main(void)
{
    const char *g = "after destroy";
    xc_interface *xch = xc_interface_open(NULL, NULL, 0);
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    xenevtchn_handle *e = xenevtchn_open(NULL, 0);
    xendevicemodel_handle *dm = xendevicemodel_open(NULL, 0);
    int fd = open_privcmd(), restricted = open_privcmd(), port, rc, err;
    struct xen_domctl_createdomain config = domain_config(KIND_HVM, 1);
    xen_pfn_t gfn = 7;
    evtchn_port_t buf = 0;
    ioservid_t id = 0xffff;
    uint32_t domid;
    char *map;

    need(xch && fmem && e && dm, "opening the libraries");
    row(g, "RESTRICT(A)", privcmd_restrict(restricted, A), NONE);
    map = xenforeignmemory_map(fmem, A, PROT_READ | PROT_WRITE, 1, &gfn, NULL);
    row_ptr(g, "foreignmemory_map(A, 7)", map);
    need(map != NULL, "mapping A");
    strcpy(map, "still here");
    row(g, "create_ioreq_server(A)", xendevicemodel_create_ioreq_server(dm, A, 2, &id), NONE);
    xendevicemodel_get_ioreq_server_info(dm, A, id, NULL, NULL, &buf);
    port = xenevtchn_bind_interdomain(e, A, buf);
    row(g, "bind_interdomain(A, bufioreq port)", port, NONE);

    row(g, "xc_domain_destroy(B)", xc_domain_destroy(xch, B), NONE);
    row(g, "nr_vcpus B", nr_vcpus(fd, B, NULL), NONE);
    row(g, "xc_domain_destroy(B) again", xc_domain_destroy(xch, B), NONE);
    row_ptr(g, "foreignmemory_map(B)", xenforeignmemory_map(fmem, B, PROT_READ, 1, &gfn, NULL));
    row(g, "bind_interdomain(B,1)", xenevtchn_bind_interdomain(e, B, 1), NONE);
    row(g, "bind_unbound_port(B)", xenevtchn_bind_unbound_port(e, B), NONE);

    row(g, "xc_domain_destroy(A)", xc_domain_destroy(xch, A), NONE);
    row(g, "restricted(A): nr_vcpus A", nr_vcpus(restricted, A, NULL), NONE);
    row(g, "the mapping of A", 0, "%s", map);
    strcpy(map, "writable");
    row(g, "the mapping of A, written", 0, "%s", map);
    rc = xendevicemodel_create_ioreq_server(dm, A, 0, &id);
    row(g, "create_ioreq_server(dying A)", rc, NONE);
    row(g, "track_dirty_vram(dying A)", xendevicemodel_track_dirty_vram(dm, A, 0, 64, &(uint64_t){0}), NONE);
    row_ptr(g, "foreignmemory_map(dying A, 8)", xenforeignmemory_map(fmem, A, PROT_READ, 1, &(xen_pfn_t){8}, &err));
    row(g, "...per page (dying A)", 0, "err=%d", err);
    row(g, "notify(port of dying A)", xenevtchn_notify(e, port), NONE);
    row(g, "unbind(port of dying A)", xenevtchn_unbind(e, port), NONE);
    domid = A;
    rc = xc_domain_create(xch, &domid, &config);
    row(g, "xc_domain_create(the domid of dying A)", rc, NONE);
    xenforeignmemory_unmap(fmem, map, 1);
    for (int i = 0; i < 100 && nr_vcpus(fd, A, NULL) == 0; i++) usleep(20000); /* the last reference goes later */
    row(g, "nr_vcpus A, unmapped", nr_vcpus(fd, A, NULL), NONE);
    row(g, "restricted(A): nr_vcpus A, unmapped", nr_vcpus(restricted, A, NULL), NONE);

    config.max_vcpus = 3;
    domid = A;
    rc = xc_domain_create(xch, &domid, &config);
    row(g, "xc_domain_create(the domid of A)", rc, "domid=%u", domid);
    unsigned vcpus = 0;
    rc = nr_vcpus(restricted, A, &vcpus);
    row(g, "restricted to the old A: nr_vcpus of the new A", rc, "vcpus=%u", vcpus);
    rc = xendevicemodel_create_ioreq_server(dm, A, 0, &id);
    row(g, "create_ioreq_server(new A)", rc, "id=%u", id);
    err = 0;
    row_ptr(g, "foreignmemory_map(new A, 7)", xenforeignmemory_map(fmem, A, PROT_READ, 1, &gfn, &err));
    row(g, "...per page (new A)", 0, "err=%d", err);
    row(g, "xc_domain_destroy(P)", xc_domain_destroy(xch, P), NONE);
    return 0;
}
