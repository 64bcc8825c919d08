/* SPDX-License-Identifier: MIT
 *
 * privcmd's mapping calls, raw: MMAPBATCH_V2, MMAPBATCH, MMAP and MMAP_RESOURCE with holes, wrong areas and repeats,
 * and what touching an area does. Needs domains A (HVM, 2 vCPUs), B (HVM, 1 vCPU) and P (PV).
 */
#include "oracle.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

#define NONE "%s", ""
static int fd;
enum { HOLE = 0x900000 };

/* ---- touching memory that may not be there ---- */

static sigjmp_buf fault;
static void on_fault(int sig) { siglongjmp(fault, sig); }

static const char *touch(volatile char *p, int write)
{
    static char text[32];
    int sig = sigsetjmp(fault, 1);

    if (sig) return sig == SIGBUS ? "SIGBUS" : sig == SIGSEGV ? "SIGSEGV" : "signal";
    if (write) *p = *p;
    snprintf(text, sizeof text, "reads %d", *p);
    return text;
}

static char *area_of(size_t pages, int prot)
{
    return mmap(NULL, pages * PAGE, prot, MAP_SHARED, fd, 0);
}
static char *area(size_t pages) { return area_of(pages, PROT_READ | PROT_WRITE); }

static int v2(domid_t dom, void *addr, unsigned num, const xen_pfn_t *gfns, int *err)
{
    privcmd_mmapbatch_v2_t m = {.num = num, .dom = dom, .addr = (uintptr_t)addr, .arr = gfns, .err = err};

    return ioctl(fd, IOCTL_PRIVCMD_MMAPBATCH_V2, &m);
}

static int v1(domid_t dom, void *addr, int num, xen_pfn_t *gfns)
{
    privcmd_mmapbatch_t m = {.num = num, .dom = dom, .addr = (uintptr_t)addr, .arr = gfns};

    return ioctl(fd, IOCTL_PRIVCMD_MMAPBATCH, &m);
}

static int v0(domid_t dom, int num, privcmd_mmap_entry_t *entries)
{
    privcmd_mmap_t m = {.num = num, .dom = dom, .entry = entries};

    return ioctl(fd, IOCTL_PRIVCMD_MMAP, &m);
}

static void areas(void)
{
    const char *g = "privcmd mmap";
    char *p = area(2);

    row_ptr(g, "mmap MAP_SHARED", p);
    row(g, "touching it before a mapping", 0, "%s", touch(p, 0));
    munmap(p, 2 * PAGE);
    row_ptr(g, "mmap at offset 1 page", p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, PAGE));
    munmap(p, PAGE);
    row_ptr(g, "mmap MAP_PRIVATE", p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
    munmap(p, PAGE);
    row_ptr(g, "mmap length 0", mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0));
    int ro = open("/dev/xen/privcmd", O_RDONLY);
    row_ptr(g, "mmap PROT_WRITE of an O_RDONLY fd", mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0));
    close(ro);
    int e = open_device("/dev/xen/evtchn");
    row_ptr(g, "mmap of evtchn", mmap(NULL, PAGE, PROT_READ, MAP_SHARED, e, 0));
    close(e);
}

static void batch_v2(void)
{
    const char *g = "MMAPBATCH_V2";
    xen_pfn_t gfns[4] = {0, HOLE, 1, HOLE + 1};
    int err[4] = {7, 7, 7, 7}, rc;
    char *p = area(4), *q;

    row(g, "num=0", v2(A, p, 0, gfns, err), NONE);
    row(g, "num=2 of an area of 4", v2(A, p, 2, gfns, err), NONE);
    row(g, "the area's last 2 of 4", v2(A, p + 2 * PAGE, 2, gfns, err), NONE);
    row(g, "num=4 from the second page", v2(A, p + PAGE, 4, gfns, err), NONE);
    row(g, "arr=NULL", v2(A, p, 4, NULL, err), NONE);
    row(g, "err=NULL", v2(A, p, 4, gfns, NULL), NONE);
    row(g, "err in kernel half", v2(A, p, 4, gfns, (int *)0xffff800000000000ul), NONE);
    row(g, "arr in kernel half", v2(A, p, 4, (xen_pfn_t *)0xffff800000000000ul, err), NONE);
    row(g, "addr=NULL", v2(A, NULL, 4, gfns, err), NONE);
    q = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    row(g, "addr in an anonymous area", v2(A, q, 4, gfns, err), NONE);
    row(g, "restricted-sized area still unmapped", 0, "%s", touch(p, 0));
    rc = v2(A, p, 4, gfns, err);
    row(g, "2 pages, 2 holes", rc, "err=%d,%d,%d,%d", err[0], err[1], err[2], err[3]);
    row(g, "...first page", 0, "%s", touch(p, 1));
    row(g, "...first hole", 0, "%s", touch(p + PAGE, 0));
    row(g, "...last hole", 0, "%s", touch(p + 3 * PAGE, 0));
    err[0] = 7;
    rc = v2(A, p, 4, gfns, err);
    row(g, "the same again over it", rc, "err=%d", err[0]);
    err[0] = 7;
    gfns[0] = 2;
    rc = v2(A, p + PAGE, 1, gfns, err);
    row(g, "filling a hole later", rc, "err=%d", err[0]);
    row(g, "...the filled hole", 0, "%s", touch(p + PAGE, 0));
    row(g, "filling across the area's end", v2(A, p + 3 * PAGE, 2, gfns, err), NONE);
    munmap(p, 4 * PAGE);

    p = area(2);
    gfns[0] = HOLE;
    rc = v2(A, p, 2, gfns, err);
    row(g, "holes only", rc, "err=%d,%d", err[0], err[1]);
    rc = v2(NOBODY, p, 2, gfns, err);
    row(g, "domain 999, second time", rc, "err=%d,%d", err[0], err[1]);
    munmap(p, 2 * PAGE);
    p = area(1);
    gfns[0] = 0;
    rc = v2(NOBODY, p, 1, gfns, err);
    row(g, "domain 999", rc, "err=%d", err[0]);
    rc = v2(P, p, 1, gfns, err);
    row(g, "domain P, after 999 failed in the area", rc, "err=%d", err[0]);
    rc = v2(A, p, 1, gfns, err);
    row(g, "domain A, after both failed in the area", rc, "err=%d", err[0]);
    munmap(p, PAGE);
    p = area(1);
    gfns[0] = ~0ul;
    rc = v2(A, p, 1, gfns, err);
    row(g, "gfn ~0", rc, "err=%d", err[0]);
    munmap(p, PAGE);
    p = area_of(1, PROT_READ);
    gfns[0] = 3;
    rc = v2(A, p, 1, gfns, err);
    row(g, "read-only area", rc, "err=%d", err[0]);
    row(g, "...read", 0, "%s", touch(p, 0));
    row(g, "...written", 0, "%s", touch(p, 1));
    munmap(p, PAGE);
    munmap(q, 4 * PAGE);
}

static void shared(void)
{
    const char *g = "foreign pages";
    xen_pfn_t gfns[2] = {5, 5};
    int err[2];
    char *p = area(2), *q = area(1);

    row(g, "one page twice", v2(A, p, 2, gfns, err), NONE);
    strcpy(p, "seen");
    row(g, "...through the other address", 0, "%s", p + PAGE);
    row(g, "...mapped again", v2(A, q, 1, gfns, err), "%s", q);
    xen_pfn_t five = 5;
    char *r = area(1);
    row(g, "page 5 of another domain", v2(B, r, 1, &five, err), NONE);
    row(g, "...is another page", 0, "%s", touch(r, 0));
    munmap(p, 2 * PAGE);
    strcpy(q, "stays");
    row(g, "after the first mapping is gone", 0, "%s", q);
    fflush(stdout);
    if (fork() == 0) {
        row(g, "the mapping in a forked child", 0, "%s", touch(q, 0));
        _exit(0);
    }
    wait(NULL);
    row(g, "the mapping after the child", 0, "%s", touch(q, 0));
    int dup_fd = dup(fd);
    close(dup_fd);
    row(g, "the mapping after a dup was closed", 0, "%s", q);
    munmap(q, PAGE);
    munmap(r, PAGE);
}

static void batch_v1(void)
{
    const char *g = "MMAPBATCH";
    xen_pfn_t gfns[3] = {0, HOLE, 1};
    char *p = area(3);
    int rc;

    row(g, "num=0", v1(A, p, 0, gfns), NONE);
    row(g, "num=-1", v1(A, p, -1, gfns), NONE);
    row(g, "arr=NULL", v1(A, p, 3, NULL), NONE);
    row(g, "num=2 of an area of 3", v1(A, p, 2, gfns), NONE);
    rc = v1(A, p, 3, gfns);
    row(g, "a hole in the middle", rc, "arr=%#lx,%#lx,%#lx", gfns[0], gfns[1], gfns[2]);
    row(g, "...first page", 0, "%s", touch(p, 0));
    row(g, "...hole", 0, "%s", touch(p + PAGE, 0));
    munmap(p, 3 * PAGE);
    p = area(1);
    gfns[0] = 0;
    rc = v1(NOBODY, p, 1, gfns);
    row(g, "domain 999", rc, "arr=%#lx", gfns[0]);
    munmap(p, PAGE);
}

static void mmap_v0(void)
{
    const char *g = "MMAP";
    char *p = area(4);
    privcmd_mmap_entry_t e[2] = {{.va = (uintptr_t)p, .mfn = 0, .npages = 2}, {.va = (uintptr_t)p + 2 * PAGE, .mfn = 8, .npages = 2}};
    int rc;

    row(g, "num=0", v0(A, 0, e), NONE);
    row(g, "entry=NULL", v0(A, 1, NULL), NONE);
    e[0].va += PAGE;
    row(g, "not from the area's start", v0(A, 1, e), NONE);
    e[0].va -= PAGE;
    rc = v0(A, 2, e);
    row(g, "two entries, 2 pages each", rc, NONE);
    row(g, "...first page", 0, "%s", touch(p, 0));
    row(g, "...last page", 0, "%s", touch(p + 3 * PAGE, 0));
    row(g, "again in the same area", v0(A, 2, e), NONE);
    munmap(p, 4 * PAGE);

    p = area(4);
    e[0].va = (uintptr_t)p;
    e[1].va = (uintptr_t)p + 3 * PAGE;
    row(g, "two entries with a gap", v0(A, 2, e), NONE);
    munmap(p, 4 * PAGE);
    p = area(2);
    e[0] = (privcmd_mmap_entry_t){.va = (uintptr_t)p, .mfn = 0, .npages = 3};
    row(g, "npages past the area's end", v0(A, 1, e), NONE);
    munmap(p, 2 * PAGE);
    p = area(2);
    e[0] = (privcmd_mmap_entry_t){.va = (uintptr_t)p, .mfn = HOLE, .npages = 1};
    row(g, "a hole", v0(A, 1, e), NONE);
    munmap(p, 2 * PAGE);
    p = area(2);
    e[0] = (privcmd_mmap_entry_t){.va = (uintptr_t)p, .mfn = 0, .npages = 1};
    row(g, "domain 999", v0(NOBODY, 1, e), NONE);
    munmap(p, 2 * PAGE);
    p = area(2);
    e[0] = (privcmd_mmap_entry_t){.va = (uintptr_t)p, .mfn = 0, .npages = 1ull << 60};
    row(g, "npages 1<<60", v0(A, 1, e), NONE);
    munmap(p, 2 * PAGE);
}

static int res(domid_t dom, unsigned type, unsigned id, unsigned idx, uint64_t num, void *addr, uint64_t *out)
{
    privcmd_mmap_resource_t m = {.dom = dom, .type = type, .id = id, .idx = idx, .num = num, .addr = (uintptr_t)addr};
    int rc = ioctl(fd, IOCTL_PRIVCMD_MMAP_RESOURCE, &m);

    if (out) *out = m.num;
    return rc;
}

static void resource(void)
{
    const char *g = "MMAP_RESOURCE";
    struct xen_dm_op op = {.op = XEN_DMOP_create_ioreq_server};
    unsigned type = XENMEM_resource_ioreq_server;
    uint64_t num = 0;
    char *p = area(2);
    int rc;

    op.u.create_ioreq_server.handle_bufioreq = 2;
    row(g, "create_ioreq_server(A)", dm_op1(fd, A, &op, sizeof op), NONE);
    unsigned id = op.u.create_ioreq_server.id;
    rc = res(A, type, id, 0, 0, NULL, &num);
    row(g, "size query", rc, "num=%lu", (long)num);
    row(g, "size query with an idx", res(A, type, id, 1, 0, NULL, &num), NONE);
    row(g, "num without addr", res(A, type, id, 0, 2, NULL, NULL), NONE);
    row(g, "addr without num", res(A, type, id, 0, 0, p, NULL), NONE);
    void *anon = mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    row(g, "addr in an anonymous area", res(A, type, id, 0, 1, anon, NULL), NONE);
    row(g, "unknown id", res(A, type, 77, 0, 2, p, NULL), NONE);
    row(g, "unknown type", res(A, 77, id, 0, 2, p, NULL), NONE);
    row(g, "frame 2", res(A, type, id, 2, 1, p, NULL), NONE);
    row(g, "after refusals, the area", 0, "%s", touch(p, 0));
    row(g, "both pages", res(A, type, id, 0, 2, p, NULL), NONE);
    row(g, "...bufioreq page", 0, "%s", touch(p, 1));
    row(g, "...ioreq page", 0, "%s", touch(p + PAGE, 1));
    xen_pfn_t gfn = 0;
    int err = 7;
    rc = v2(A, p, 1, &gfn, &err);
    row(g, "MMAPBATCH_V2 over the mapped resource", rc, "err=%d", err);
    munmap(p, 2 * PAGE);
}

int main(void)
{
    struct sigaction sa = {.sa_handler = on_fault};

    sigaction(SIGBUS, &sa, NULL);
    sigaction(SIGSEGV, &sa, NULL);
    fd = open_privcmd();
    areas();
    batch_v2();
    shared();
    batch_v1();
    mmap_v0();
    resource();
    return 0;
}
