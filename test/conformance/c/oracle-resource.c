/* SPDX-License-Identifier: MIT
 *
 * What a device model does beside dm_op: the ioreq pages as a resource, event channels, foreign mappings, and giving
 * its rights up through the libraries. Needs domains A (HVM, 2 vCPUs), B (HVM, 1 vCPU) and P (PV).
 */
#include "oracle.h"

#define NONE "%s", ""
static xendevicemodel_handle *dm;
static xenforeignmemory_handle *fmem;
static shared_iopage_t *ioreq;
static buffered_iopage_t *buffered;
static ioservid_t id;

static void *map_resource(const char *call, domid_t dom, unsigned type, unsigned rid, unsigned long frame,
                          unsigned long count)
{
    void *addr = NULL;
    xenforeignmemory_resource_handle *r =
        xenforeignmemory_map_resource(fmem, dom, type, rid, frame, count, &addr, PROT_READ | PROT_WRITE, 0);

    row_ptr("ioreq resource map", call, r);
    return r ? addr : NULL;
}

static void resource(void)
{
    const char *g = "ioreq resource map";
    unsigned type = XENMEM_resource_ioreq_server;
    ioservid_t other;
    size_t size = 0;
    xen_pfn_t gfn = 0, buf_gfn = 0;
    evtchn_port_t port = 0;
    char *pages;
    int rc;

    /* Two earlier servers, so that ids and ports are those of the facts table. */
    row(g, "create_ioreq_server (earlier, OFF)", xendevicemodel_create_ioreq_server(dm, A, 0, &other), NONE);
    row(g, "create_ioreq_server (earlier, ATOMIC)", xendevicemodel_create_ioreq_server(dm, A, 2, &other), NONE);
    rc = xenforeignmemory_resource_size(fmem, A, type, 2, &size);
    row(g, "resource_size(ioreq_server,id2)", rc, "size=%zu", size);
    rc = xendevicemodel_create_ioreq_server(dm, A, 2, &id);
    row(g, "create_ioreq_server (fresh, bufioreq=ATOMIC)", rc, "id=%u", id);
    pages = map_resource("map_resource(id2, frame 0, 2)", A, type, id, 0, 2);
    need(pages != NULL, "mapping the ioreq pages");
    buffered = (void *)pages;
    ioreq = (void *)(pages + PAGE);
    row(g, "vp_eport before set_state(1)", 0, "vcpu0=%u vcpu1=%u", ioreq->vcpu_ioreq[0].vp_eport, ioreq->vcpu_ioreq[1].vp_eport);
    rc = xendevicemodel_get_ioreq_server_info(dm, A, id, NULL, NULL, &port);
    row(g, "get_ioreq_server_info(no_gfns) with resource mapped", rc, NONE);
    rc = xendevicemodel_get_ioreq_server_info(dm, A, id, &gfn, &buf_gfn, &port);
    row(g, "get_ioreq_server_info(gfns) with resource mapped", rc, "ioreq_gfn=%lx buf_gfn=%lx port=%u", gfn, buf_gfn, port);
    row(g, "set_ioreq_server_state(id2,1) with resource mapped", xendevicemodel_set_ioreq_server_state(dm, A, id, 1), NONE);
    row(g, "vp_eport after set_state(1)", 0, "vcpu0=%u vcpu1=%u", ioreq->vcpu_ioreq[0].vp_eport, ioreq->vcpu_ioreq[1].vp_eport);
    row(g, "buffered ring", 0, "read=%u write=%u", buffered->read_pointer, buffered->write_pointer);
    row(g, "ioreq slots", 0, "state0=%u state1=%u", ioreq->vcpu_ioreq[0].state, ioreq->vcpu_ioreq[1].state);
}

static int virq(xenevtchn_handle *e, unsigned v) { return xenevtchn_bind_virq(e, v); }

static void evtchn(void)
{
    const char *g = "evtchn";
    xenevtchn_handle *e = xenevtchn_open(NULL, 0);
    unsigned remote = ioreq->vcpu_ioreq[0].vp_eport;
    int local, unbound;

    local = xenevtchn_bind_interdomain(e, A, remote);
    row(g, "bind_interdomain(A, vp_eport)", local, "remote=%u", remote);
    row(g, "bind_interdomain(A, same port again)", xenevtchn_bind_interdomain(e, A, remote), NONE);
    row(g, "bind_interdomain(B, vp_eport)", xenevtchn_bind_interdomain(e, B, remote), NONE);
    row(g, "bind_interdomain(A, port 0)", xenevtchn_bind_interdomain(e, A, 0), NONE);
    row(g, "bind_interdomain(A, unused port 500)", xenevtchn_bind_interdomain(e, A, 500), NONE);
    row(g, "bind_interdomain(A, port 0xffffffff)", xenevtchn_bind_interdomain(e, A, 0xffffffff), NONE);
    row(g, "bind_interdomain(999, 1)", xenevtchn_bind_interdomain(e, NOBODY, 1), NONE);
    row(g, "notify(local)", xenevtchn_notify(e, local), NONE);
    row(g, "notify(unbound port 4000)", xenevtchn_notify(e, 4000), NONE);
    row(g, "unmask(local)", xenevtchn_unmask(e, local), NONE);
    row(g, "unmask(unbound port 4000)", xenevtchn_unmask(e, 4000), NONE);
    row(g, "unbind(local)", xenevtchn_unbind(e, local), NONE);
    row(g, "unbind(local) again", xenevtchn_unbind(e, local), NONE);
    row(g, "bind_interdomain(A, vp_eport) after unbind", xenevtchn_bind_interdomain(e, A, remote), NONE);
    row(g, "unbind", xenevtchn_unbind(e, local), NONE);
    unbound = xenevtchn_bind_unbound_port(e, A);
    row(g, "bind_unbound_port(A)", unbound, NONE);
    row(g, "bind_unbound_port(999)", xenevtchn_bind_unbound_port(e, NOBODY), NONE);
    row(g, "bind_virq(VIRQ_DOM_EXC=3)", virq(e, 3), NONE);
    row(g, "bind_virq(24), past the last", virq(e, 24), NONE);
    row(g, "restrict(A)", xenevtchn_restrict(e, A), NONE);
    row(g, "restrict(A) again", xenevtchn_restrict(e, A), NONE);
    row(g, "restrict(B) after A", xenevtchn_restrict(e, B), NONE);
    row(g, "restricted: bind_interdomain(A, vp_eport)", xenevtchn_bind_interdomain(e, A, remote), NONE);
    row(g, "restricted: bind_interdomain(B,1)", xenevtchn_bind_interdomain(e, B, 1), NONE);
    row(g, "restricted: bind_unbound_port(B)", xenevtchn_bind_unbound_port(e, B), NONE);
    row(g, "restricted: bind_virq", virq(e, 3), NONE);
    row(g, "restricted: notify", xenevtchn_notify(e, unbound), NONE);
    row(g, "restricted: unbind", xenevtchn_unbind(e, unbound), NONE);
    xenevtchn_close(e);
    e = xenevtchn_open(NULL, 0);
    row(g, "restrict(999)", xenevtchn_restrict(e, NOBODY), NONE);
    row(g, "restricted(999): bind_interdomain(A)", xenevtchn_bind_interdomain(e, A, remote), NONE);
    xenevtchn_close(e);
}

static void refused_resources(void)
{
    const char *g = "ioreq resource map";
    unsigned type = XENMEM_resource_ioreq_server;
    size_t size = 1;

    map_resource("map_resource(unknown id 77)", A, type, 77, 0, 1);
    map_resource("map_resource(id2, frame 5)", A, type, id, 5, 1);
    map_resource("map_resource(id2, frame 1, 2)", A, type, id, 1, 2);
    map_resource("map_resource(id0 without bufioreq, frame 0)", A, type, 0, 0, 1);
    map_resource("map_resource(dom 999)", NOBODY, type, id, 0, 1);
    map_resource("map_resource(P)", P, type, 0, 0, 1);
    map_resource("map_resource(type 77)", A, 77, id, 0, 1);
    row(g, "resource_size(unknown id 77)", xenforeignmemory_resource_size(fmem, A, type, 77, &size), NONE);
    row(g, "resource_size(P)", xenforeignmemory_resource_size(fmem, P, type, 0, &size), NONE);
    row(g, "resource_size(dom 999)", xenforeignmemory_resource_size(fmem, NOBODY, type, 0, &size), NONE);
    row(g, "resource_size(type 77)", xenforeignmemory_resource_size(fmem, A, 77, 0, &size), NONE);
    map_resource("map_resource(id2, frame 1, 1) a second mapping", A, type, id, 1, 1);
}

static void destroyed_server(void)
{
    const char *g = "ioreq resource map";

    row(g, "destroy_ioreq_server(id2) with resource mapped", xendevicemodel_destroy_ioreq_server(dm, A, id), NONE);
    row(g, "the mapped page stays", 0, "vcpu0.vp_eport=%u", ioreq->vcpu_ioreq[0].vp_eport);
    map_resource("map_resource of the destroyed server", A, XENMEM_resource_ioreq_server, id, 0, 1);
}

static void foreign(void)
{
    const char *g = "foreign map";
    xenforeignmemory_handle *f = xenforeignmemory_open(NULL, 0);
    xen_pfn_t gfns[3] = {0, 0x900000, 1};
    int err[3];
    void *p;

    row_ptr(g, "foreignmemory_map(999)", xenforeignmemory_map(f, NOBODY, PROT_READ, 1, gfns, NULL));
    row_ptr(g, "foreignmemory_map(A, 0)", p = xenforeignmemory_map(f, A, PROT_READ, 1, gfns, NULL));
    xenforeignmemory_unmap(f, p, 1);
    row_ptr(g, "foreignmemory_map(A, [0, hole, 1]) with err", p = xenforeignmemory_map(f, A, PROT_READ, 3, gfns, err));
    row(g, "...per page", 0, "err=%d,%d,%d", err[0], err[1], err[2]);
    xenforeignmemory_unmap(f, p, 3);
    row_ptr(g, "foreignmemory_map(A, [0, hole, 1]) without err", xenforeignmemory_map(f, A, PROT_READ, 3, gfns, NULL));
    row_ptr(g, "foreignmemory_map(P, 0)", xenforeignmemory_map(f, P, PROT_READ, 1, gfns, NULL));
    row_ptr(g, "foreignmemory_map(P, 0) with err", xenforeignmemory_map(f, P, PROT_READ, 1, gfns, err));
    row(g, "...per page (P)", 0, "err=%d", err[0]);
    row(g, "foreignmemory_restrict(A)", xenforeignmemory_restrict(f, A), NONE);
    row(g, "foreignmemory_restrict(B) after A", xenforeignmemory_restrict(f, B), NONE);
    row_ptr(g, "restricted(A): map(A)", p = xenforeignmemory_map(f, A, PROT_READ, 1, gfns, NULL));
    xenforeignmemory_unmap(f, p, 1);
    row_ptr(g, "restricted(A): map(B)", xenforeignmemory_map(f, B, PROT_READ, 1, gfns, NULL));
    row_ptr(g, "restricted(A): map(999)", xenforeignmemory_map(f, NOBODY, PROT_READ, 1, gfns, NULL));
    xenforeignmemory_close(f);
}

static void restricted_devicemodel(void)
{
    const char *g = "libxendevicemodel restrict";
    xendevicemodel_handle *r = xendevicemodel_open(NULL, 0);
    unsigned vcpus;
    ioservid_t made = 0xffff;
    int rc;

    row(g, "restrict(A)", xendevicemodel_restrict(r, A), NONE);
    row(g, "restrict(B) after A", xendevicemodel_restrict(r, B), NONE);
    row(g, "restricted: nr_vcpus(A)", xendevicemodel_nr_vcpus(r, A, &vcpus), NONE);
    row(g, "restricted: nr_vcpus(B)", xendevicemodel_nr_vcpus(r, B, &vcpus), NONE);
    row(g, "restricted: nr_vcpus(999)", xendevicemodel_nr_vcpus(r, NOBODY, &vcpus), NONE);
    rc = xendevicemodel_create_ioreq_server(r, A, 0, &made);
    row(g, "restricted: create_ioreq_server(A)", rc, "id=%u", made);
    row(g, "restricted: destroy_ioreq_server(A)", xendevicemodel_destroy_ioreq_server(r, A, made), NONE);
    rc = xendevicemodel_create_ioreq_server(r, B, 0, &made);
    row(g, "restricted: create_ioreq_server(B)", rc, NONE);
    xendevicemodel_close(r);
    row(g, "another handle: nr_vcpus(B)", xendevicemodel_nr_vcpus(dm, B, &vcpus), NONE);
}

int main(void)
{
    dm = xendevicemodel_open(NULL, 0);
    fmem = xenforeignmemory_open(NULL, 0);
    need(dm && fmem, "opening the libraries");
    resource();
    evtchn();
    refused_resources();
    foreign();
    restricted_devicemodel();
    destroyed_server();
    return 0;
}
