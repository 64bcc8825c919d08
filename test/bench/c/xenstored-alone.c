/*
 * What C xenstored asks of a Xen host before it serves its socket, answered from nothing: preloaded into Debian's own
 * daemon, so that it runs where there is no Xen, and without anything that would slow its socket down. It finds one
 * domain, dom0, whose ring stays empty and whose event channels never ring.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xenctrl.h>

#define PORT "1"

static int handle; /* stands behind every library handle */
static int channels = -1;

xc_interface *xc_interface_open(xentoollog_logger *l, xentoollog_logger *dombuild, unsigned flags)
{
    (void)l, (void)dombuild, (void)flags;
    return (xc_interface *)&handle;
}

int xc_interface_close(xc_interface *xch)
{
    (void)xch;
    return 0;
}

int xc_domain_getinfo(xc_interface *xch, uint32_t first, unsigned max, xc_dominfo_t *info)
{
    (void)xch, (void)max;
    if (first > 0)
        return 0;
    memset(info, 0, sizeof *info);
    info->running = 1;
    return 1;
}

void *xengnttab_open(void *logger, unsigned flags)
{
    (void)logger, (void)flags;
    return &handle;
}

int xengnttab_close(void *xgt)
{
    (void)xgt;
    return 0;
}

int xengnttab_set_max_grants(void *xgt, uint32_t count)
{
    (void)xgt, (void)count;
    return 0;
}

void *xenevtchn_open(void *logger, unsigned flags)
{
    (void)logger, (void)flags;
    channels = eventfd(0, EFD_NONBLOCK);
    return channels < 0 ? NULL : &handle;
}

int xenevtchn_close(void *xce)
{
    (void)xce;
    return close(channels);
}

int xenevtchn_fd(void *xce)
{
    (void)xce;
    return channels;
}

int xenevtchn_bind_virq(void *xce, unsigned virq)
{
    (void)xce, (void)virq;
    return 2;
}

int xenevtchn_bind_interdomain(void *xce, uint32_t domid, uint32_t port)
{
    (void)xce, (void)domid, (void)port;
    return 3;
}

int xenevtchn_unbind(void *xce, uint32_t port)
{
    (void)xce, (void)port;
    return 0;
}

int xenevtchn_notify(void *xce, uint32_t port)
{
    (void)xce, (void)port;
    return 0;
}

/* dom0's kernel tells its ring by two files. */
int open(const char *path, int flags, ...)
{
    int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    va_list args;
    int mode;

    if (strcmp(path, "/proc/xen/xsd_port") == 0) {
        int fd = memfd_create("xsd_port", 0);

        return fd >= 0 && pwrite(fd, PORT, sizeof PORT - 1, 0) == sizeof PORT - 1 ? fd : -1;
    }
    if (strcmp(path, "/proc/xen/xsd_kva") == 0) {
        int fd = memfd_create("xsd_kva", 0);

        return fd >= 0 && ftruncate(fd, 4096) == 0 ? fd : -1;
    }
    va_start(args, flags);
    mode = va_arg(args, int);
    va_end(args);
    return next(path, flags, mode);
}
