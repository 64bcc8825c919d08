/* SPDX-License-Identifier: MIT
 *
 * The raw ioctls of gntdev and gntalloc. Needs domains A (HVM, 2 vCPUs), B (HVM, 1 vCPU) and P (PV).
 */
#include "oracle.h"

#include <xen/sys/gntalloc.h>
#include <xen/sys/gntdev.h>

#define NONE "%s", ""

static void gntdev(void)
{
    const char *g = "raw gntdev";
    int fd = open_device("/dev/xen/gntdev");
    struct ioctl_gntdev_map_grant_ref map = {.count = 1, .refs = {{.domid = A, .ref = 0}}};
    struct ioctl_gntdev_unmap_grant_ref unmap = {.index = 0, .count = 1};
    struct ioctl_gntdev_grant_copy copy = {.count = 0};
    int rc;

    rc = ioctl(fd, IOCTL_GNTDEV_MAP_GRANT_REF, &map);
    row(g, "MAP_GRANT_REF(A,ref 0)", rc, "index=%lu", (long)map.index);
    row_ptr(g, "mmap(index)", mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, map.index));
    map.count = 0;
    row(g, "MAP_GRANT_REF count=0", ioctl(fd, IOCTL_GNTDEV_MAP_GRANT_REF, &map), NONE);
    row(g, "UNMAP_GRANT_REF", ioctl(fd, IOCTL_GNTDEV_UNMAP_GRANT_REF, &unmap), NONE);
    row(g, "UNMAP_GRANT_REF again", ioctl(fd, IOCTL_GNTDEV_UNMAP_GRANT_REF, &unmap), NONE);
    row(g, "GRANT_COPY count=0", ioctl(fd, IOCTL_GNTDEV_GRANT_COPY, &copy), NONE);
    row(g, "MAP_GRANT_REF NULL", ioctl(fd, IOCTL_GNTDEV_MAP_GRANT_REF, NULL), NONE);
    row(g, "ioctl unknown", ioctl(fd, _IOC(_IOC_NONE, 'G', 99, 0), 0), NONE);
    close(fd);
}

static void gntalloc(void)
{
    const char *g = "raw gntalloc";
    int fd = open_device("/dev/xen/gntalloc");
    struct ioctl_gntalloc_alloc_gref alloc = {.domid = A, .flags = GNTALLOC_FLAG_WRITABLE, .count = 1};
    struct ioctl_gntalloc_dealloc_gref dealloc = {.count = 1};
    int rc;

    rc = ioctl(fd, IOCTL_GNTALLOC_ALLOC_GREF, &alloc);
    row(g, "ALLOC_GREF(A,1)", rc, "gref=%u index=%lu", alloc.gref_ids[0], (long)alloc.index);
    dealloc.index = alloc.index;
    row(g, "DEALLOC_GREF", ioctl(fd, IOCTL_GNTALLOC_DEALLOC_GREF, &dealloc), NONE);
    row(g, "DEALLOC_GREF again", ioctl(fd, IOCTL_GNTALLOC_DEALLOC_GREF, &dealloc), NONE);
    row(g, "ALLOC_GREF NULL", ioctl(fd, IOCTL_GNTALLOC_ALLOC_GREF, NULL), NONE);
    row(g, "ioctl unknown", ioctl(fd, _IOC(_IOC_NONE, 'G', 99, 0), 0), NONE);
    close(fd);
}

int main(void)
{
    gntdev();
    gntalloc();
    return 0;
}
