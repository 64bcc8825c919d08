/* SPDX-License-Identifier: MIT
 *
 * What every oracle program shares: rows, raw privcmd calls, and domains laid out as the facts table's were.
 *
 * An oracle prints what the system under it answered, one tab-separated row a call:
 *     group <TAB> call <TAB> return <TAB> errno name or '-' <TAB> extra
 * It judges nothing and depends on nothing but Xen's public libraries, so the same binary can be put to a real Xen and
 * to an embedded one, and the two outputs compared. Anything that differs from boot to boot stays out of a row.
 */
#ifndef POSTERN_ORACLE_H
#define POSTERN_ORACLE_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xenctrl.h> /* first: it sets up the types that the public headers use */
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#define __XEN_TOOLS__ 1
#include <xen/hvm/dm_op.h>
#include <xen/hvm/ioreq.h>
#include <xen/hvm/params.h>
#include <xen/memory.h>
#include <xen/sys/evtchn.h>
#include <xen/sys/privcmd.h>
#include <xendevicemodel.h>

/* The domains of a prepared run: A is HVM with two vCPUs, B is HVM with one, P is PV; NOBODY never exists. */
enum { A = 1, B = 2, P = 3, NOBODY = 999 };
#define PAGE ((size_t)4096)

/* A null pointer that the compiler does not reason about. */
__attribute__((unused)) static void *volatile nowhere;

static inline const char *errno_name(int e)
{
    static char text[16];
    const char *name = e == EOPNOTSUPP ? "EOPNOTSUPP" : strerrorname_np(e);

    if (!name) {
        snprintf(text, sizeof text, "%d", e);
        return text;
    }
    return name;
}

/* How often this process printed a row of that name: a repeated name gets a number, so that every row can be looked up. */
static inline int seen_before(const char *group, const char *call)
{
    static struct { uint64_t hash; int count; } rows[2048];
    uint64_t h = 14695981039346656037ull;

    for (const char *s = group; *s; s++) h = (h ^ (unsigned char)*s) * 1099511628211ull;
    for (const char *s = call; *s; s++) h = (h ^ (unsigned char)*s ^ 0x100) * 1099511628211ull;
    for (int i = 0; i < 2048; i++) {
        if (rows[i].count == 0) rows[i].hash = h;
        if (rows[i].hash == h) return rows[i].count++;
    }
    return 0;
}

/* Prints one row; errno is read first, so it must still be the call's. */
__attribute__((format(printf, 4, 5))) static inline long row(const char *group, const char *call, long ret,
                                                             const char *format, ...)
{
    int e = errno, seen = seen_before(group, call);
    va_list ap;

    printf("%s\t%s", group, call);
    if (seen) printf(" (%d)", seen + 1);
    printf("\t%ld\t%s\t", ret, ret == -1 ? errno_name(e) : "-");
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout); /* a later call may end this process, or fork it */
    return ret;
}

/* The same for a call that returns a pointer. */
static inline void *row_ptr(const char *group, const char *call, void *p)
{
    if (p == MAP_FAILED)
        row(group, call, -1, "ptr=MAP_FAILED");
    else
        row(group, call, p ? 0 : -1, "%s", p ? "ptr=ok" : "ptr=NULL");
    return p;
}

/* Ends the program when what it needs to ask its questions is missing. */
static inline void need(int ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "oracle: %s: %s\n", what, strerror(errno));
    exit(3);
}

/* ---- raw privcmd ---- */

static inline int open_device(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    need(fd >= 0, path);
    return fd;
}
#define open_privcmd() open_device("/dev/xen/privcmd")

/* DM_OP with one block. Extra detail of a call belongs to the caller: the block is left as the call left it. */
static inline int dm_op1(int fd, domid_t dom, void *block, size_t size)
{
    privcmd_dm_op_buf_t buf = {.uptr = block, .size = size};
    privcmd_dm_op_t call = {.dom = dom, .num = 1, .ubufs = &buf};

    return ioctl(fd, IOCTL_PRIVCMD_DM_OP, &call);
}

static inline int dm_op2(int fd, domid_t dom, void *block, size_t size, void *block2, size_t size2)
{
    privcmd_dm_op_buf_t bufs[2] = {{.uptr = block, .size = size}, {.uptr = block2, .size = size2}};
    privcmd_dm_op_t call = {.dom = dom, .num = 2, .ubufs = bufs};

    return ioctl(fd, IOCTL_PRIVCMD_DM_OP, &call);
}

static inline int nr_vcpus(int fd, domid_t dom, unsigned *vcpus)
{
    struct xen_dm_op op = {.op = XEN_DMOP_nr_vcpus};
    int rc = dm_op1(fd, dom, &op, sizeof op);

    if (vcpus) *vcpus = op.u.nr_vcpus.vcpus;
    return rc;
}

static inline int privcmd_restrict(int fd, domid_t dom)
{
    return ioctl(fd, IOCTL_PRIVCMD_RESTRICT, &dom);
}

/* ---- domains, as the facts table's were made: 8 MiB from pfn 0, nothing else ---- */

enum kind { KIND_HVM, KIND_PV, KIND_PVH };
enum { RAM_PAGES = 0x800 };

static inline struct xen_domctl_createdomain domain_config(enum kind kind, int vcpus)
{
    struct xen_domctl_createdomain c = {
        .max_vcpus = vcpus,
        .max_evtchn_port = -1,
        .max_grant_frames = 4,
        .max_maptrack_frames = 4,
        .grant_opts = XEN_DOMCTL_GRANT_version(2),
    };

    if (kind == KIND_PV) return c;
    c.flags = XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap;
    c.arch.emulation_flags = kind == KIND_PVH ? XEN_X86_EMU_LAPIC : XEN_X86_EMU_ALL & ~XEN_X86_EMU_VPCI;
    return c;
}

static inline int populate(xc_interface *xch, uint32_t domid, xen_pfn_t first, unsigned count)
{
    xen_pfn_t *pfns = malloc(count * sizeof *pfns);
    int rc;

    for (unsigned i = 0; i < count; i++) pfns[i] = first + i;
    rc = xc_domain_populate_physmap_exact(xch, domid, count, 0, 0, pfns);
    free(pfns);
    return rc;
}

/* Makes a domain and returns its domid; its steps become rows when `group` is given. */
static inline uint32_t make_domain(xc_interface *xch, enum kind kind, int vcpus, const char *group)
{
    struct xen_domctl_createdomain config = domain_config(kind, vcpus);
    uint32_t domid = 0;
    int rc = xc_domain_create(xch, &domid, &config);

    if (group) row(group, "xc_domain_create", rc, "domid=%u", domid);
    need(rc == 0, "xc_domain_create");
    rc = xc_domain_max_vcpus(xch, domid, vcpus);
    if (group) row(group, "xc_domain_max_vcpus", rc, "%s", "");
    rc = xc_domain_setmaxmem(xch, domid, 64 << 10);
    if (group) row(group, "xc_domain_setmaxmem(64MiB)", rc, "%s", "");
    if (kind == KIND_PV) return domid;
    rc = populate(xch, domid, 0, 1);
    if (group) row(group, "populate_physmap_exact before paging mempool", rc, "%s", "");
    rc = xc_set_paging_mempool_size(xch, domid, 4 << 20);
    if (group) row(group, "xc_set_paging_mempool_size(4MiB)", rc, "%s", "");
    rc = populate(xch, domid, 1, RAM_PAGES - 1);
    if (group && kind == KIND_HVM) row(group, "populate_physmap_exact(pfn 0..N)", rc, "%s", "");
    need(rc == 0, "populating RAM");
    return domid;
}

#endif
