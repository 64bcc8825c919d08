/* Paths that name something of ours: what is there, and opening it. */
#include "library.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * The device that a path names, or NULL; what is not memory is left for the kernel to refuse.
 * @param copy the path, as far as it matters
 */
const char *device_name(const char *path, char (*copy)[64])
{
    /* each with what of it the name leaves out */
    static const struct { const char *path; size_t skipped; } prefixes[] = {
        { "/dev/xen/", 9 }, { "/proc/xen/", 10 }, { "/sys/hypervisor/", 5 },
    };
    struct iovec local = { *copy, sizeof *copy - 1 }, remote = { (void *)path, sizeof *copy - 1 };
    ssize_t n;

    if (!host_address_length)
        return NULL;
    n = process_vm_readv(own_pid, &local, 1, &remote, 1, 0);
    if (n <= 0 || ((size_t)n < local.iov_len && !memchr(*copy, 0, (size_t)n)))
        return NULL;
    (*copy)[n] = 0;
    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
        if (!strncmp(*copy, prefixes[i].path, strlen(prefixes[i].path)))
            return *copy + prefixes[i].skipped;
    return NULL;
}

/* A file that the host hands over takes the connection's place: the program uses it without us. */
static int take_over(int fd, int file, int flags)
{
    if (flags & O_NONBLOCK && fcntl(file, F_SETFL, fcntl(file, F_GETFL) | O_NONBLOCK) < 0)
        return -1;
    return dup3(file, fd, flags & O_CLOEXEC);
}

int device_open(const char *device, int flags)
{
    struct call call = { .request = { .kind = POSTERN_OPEN } };
    struct answer answer;
    unsigned char kind;
    int result;
    bool handed;
    int fd = connect_to_host((flags & O_CLOEXEC ? SOCK_CLOEXEC : 0) | (flags & O_NONBLOCK ? SOCK_NONBLOCK : 0));

    if (fd < 0)
        return -1;
    add_block(&call, (uint64_t)(uintptr_t)device, strlen(device), POSTERN_BLOCK_DATA);
    result = finish(transact(fd, &call, &answer, true), &answer.reply);
    handed = answer.nr_files > 0;
    if (result >= 0 && handed)
        result = take_over(fd, answer.files[0], flags);
    if (result < 0) {
        int saved = errno;
        close(fd);
        release_answer(&answer);
        errno = saved;
        return -1;
    }
    release_answer(&answer);
    kind = handed ? OPENED_NOTHING : strcmp(device, "evtchn") ? OPENED_OTHER : OPENED_EVTCHN;
    note_opened(fd, (struct opened){ kind, (flags & O_ACCMODE) == O_RDONLY });
    return fd;
}

/* What there is to be found by programs that look before they open, and what it is. */
static const struct node {
    const char *path;
    mode_t mode;
} nodes[] = {
    { "/dev/xen/privcmd", S_IFCHR | 0600 },
    { "/dev/xen/evtchn", S_IFCHR | 0600 },
    { "/dev/xen/hypercall", S_IFCHR | 0600 },
    { "/dev/xen/gntdev", S_IFCHR | 0600 },
    { "/dev/xen/xenbus", S_IFCHR | 0600 },
    { "/proc/xen/privcmd", S_IFREG | 0600 },
    { "/proc/xen/xenbus", S_IFREG | 0600 },
    { "/proc/xen/xsd_kva", S_IFREG | 0600 },
    { "/proc/xen/xsd_port", S_IFREG | 0600 },
    { "/proc/xen/capabilities", S_IFREG | 0444 },
    { "/sys/hypervisor/type", S_IFREG | 0444 },
    { "/sys/hypervisor/version/major", S_IFREG | 0444 },
    { "/sys/hypervisor/version/minor", S_IFREG | 0444 },
    { "/sys/hypervisor/version/extra", S_IFREG | 0444 },
};

/* The node that a path names, or NULL. */
const struct node *node_at(const char *path)
{
    char copy[64];

    if (device_name(path, &copy))
        for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
            if (!strcmp(copy, nodes[i].path))
                return &nodes[i];
    return NULL;
}

/* Who may open it the host decides: here everybody is its owner. */
int node_access(const struct node *node, int mode)
{
    if ((mode & X_OK) || (mode & W_OK && !(node->mode & S_IWUSR))) {
        errno = EACCES;
        return -1;
    }
    return 0;
}

int node_stat(const struct node *node, struct stat *st)
{
    struct stat filled = { .st_mode = node->mode, .st_nlink = 1, .st_blksize = (blksize_t)PAGE };

    filled.st_uid = geteuid();
    filled.st_gid = getegid();
    filled.st_ino = (ino_t)(node - nodes) + 1;
    if (S_ISCHR(node->mode))
        filled.st_rdev = makedev(10, 100 + (unsigned)(node - nodes)); /* a misc device of some number */
    *st = filled;
    return 0;
}
