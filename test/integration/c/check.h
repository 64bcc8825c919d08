/* SPDX-License-Identifier: MIT
 *
 * What the programs of these tests share. They judge for themselves: a line a check, `ok <TAB> name` or
 * `FAIL <TAB> name <TAB> detail`, and `done` at the end, so that a program that died half-way is noticed. Every program
 * arms an alarm: a call that hangs is a failure, not a wait.
 */
#ifndef POSTERN_CHECK_H
#define POSTERN_CHECK_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xenctrl.h> /* first: it sets up the types that the public headers use */
#define __XEN_TOOLS__ 1
#include <xen/hvm/dm_op.h>
#include <xen/sys/evtchn.h>
#include <xen/sys/privcmd.h>

#define PAGE ((size_t)4096)
/* First address that is not user space, with 4-level paging. */
#define KERNEL ((void *)0xffff800000000000ul)

static int failures;

__attribute__((format(printf, 3, 4), unused)) static bool check(const char *name, bool good, const char *format, ...)
{
    if (good) {
        printf("ok\t%s\n", name);
    } else {
        va_list ap;

        printf("FAIL\t%s\t", name);
        va_start(ap, format);
        vprintf(format, ap);
        va_end(ap);
        printf("\n");
        failures++;
    }
    fflush(stdout);
    return good;
}

/* The call must fail with this errno; errno is still the call's. */
__attribute__((unused)) static bool check_errno(const char *name, long ret, int expected)
{
    int e = errno;

    return check(name, ret == -1 && e == expected, "returned %ld, errno %d (%s), expected %s", ret, e, strerror(e),
                 strerrorname_np(expected));
}

__attribute__((unused)) static bool check_result(const char *name, long ret, long expected)
{
    int e = errno;

    return check(name, ret == expected, "returned %ld, errno %d (%s), expected %ld", ret, e, strerror(e), expected);
}

__attribute__((unused)) static void begin(void)
{
    alarm(25);
}

__attribute__((unused)) static int end(void)
{
    printf("done\n");
    return failures ? 1 : 0;
}

__attribute__((unused)) static int device(const char *name, int flags)
{
    char path[64];

    snprintf(path, sizeof path, "/dev/xen/%s", name);
    return open(path, O_RDWR | flags);
}

/* ---- calls ---- */

__attribute__((unused)) static int dm_op(int fd, domid_t dom, void *buffer, size_t size)
{
    privcmd_dm_op_buf_t list[1] = {{.uptr = buffer, .size = size}};
    privcmd_dm_op_t call = {.dom = dom, .num = 1, .ubufs = list};

    return ioctl(fd, IOCTL_PRIVCMD_DM_OP, &call);
}

__attribute__((unused)) static int nr_vcpus(int fd, domid_t dom, unsigned *vcpus)
{
    struct xen_dm_op op = {.op = XEN_DMOP_nr_vcpus};
    int ret = dm_op(fd, dom, &op, sizeof op);

    if (vcpus) *vcpus = op.u.nr_vcpus.vcpus;
    return ret;
}

__attribute__((unused)) static int restrict_to(int fd, domid_t dom)
{
    return ioctl(fd, IOCTL_PRIVCMD_RESTRICT, &dom);
}

__attribute__((unused)) static int bind_unbound(int fd, unsigned dom)
{
    struct ioctl_evtchn_bind_unbound_port bind = {.remote_domain = dom};

    return ioctl(fd, IOCTL_EVTCHN_BIND_UNBOUND_PORT, &bind);
}

__attribute__((unused)) static int bind_interdomain(int fd, unsigned dom, unsigned port)
{
    struct ioctl_evtchn_bind_interdomain bind = {.remote_domain = dom, .remote_port = port};

    return ioctl(fd, IOCTL_EVTCHN_BIND_INTERDOMAIN, &bind);
}

__attribute__((unused)) static int notify(int fd, unsigned port)
{
    struct ioctl_evtchn_notify n = {.port = port};

    return ioctl(fd, IOCTL_EVTCHN_NOTIFY, &n);
}

__attribute__((unused)) static int map_frames(int fd, domid_t dom, void *at, unsigned num, const xen_pfn_t *gfns,
                                              int *errors)
{
    privcmd_mmapbatch_v2_t map = {.num = num, .dom = dom, .addr = (uint64_t)(uintptr_t)at, .arr = gfns, .err = errors};

    return ioctl(fd, IOCTL_PRIVCMD_MMAPBATCH_V2, &map);
}

/* True where data comes within the time; for things that arrive by themselves. */
__attribute__((unused)) static bool readable_within(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, ms) == 1 && (p.revents & POLLIN);
}

#endif
