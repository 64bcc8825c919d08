/*
 * The interposition library: stands for /dev/xen/{privcmd,evtchn,hypercall,...} in an unmodified program. An open file
 * is a connection to the host (protocol.h); its calls are carried there with the user memory they may touch, and the
 * host decides everything. No operation number of Xen's appears here. Some files the host hands over, as descriptors that
 * need nothing of us any more: xenbus, and what programs read in /proc/xen and /sys/hypervisor.
 *
 * User pointers are handed to the kernel (pwrite to a memory file, sendmsg, recvmsg), so a bad one comes back as EFAULT
 * and nothing crashes; only memory that is surely there (user-memory.c) is looked at directly. Which descriptors are ours
 * is asked of the kernel too, never remembered by number: dup2 over one, which is how restricted programs give theirs up,
 * needs no help.
 *
 * Environment: POSTERN_HOST, the host's socket; POSTERN_EXIT_WITH_HOST, set to anything, ends a program that finds the
 * host gone: a device model has nothing to live for then, and no process must stay behind a host that was killed.
 */
#include "library.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* ---- how it starts ---- */

int (*real_open)(const char *, int, ...);
int (*real_ioctl)(int, unsigned long, ...);
void *(*real_mmap)(void *, size_t, int, int, int, off_t);
int (*real_munmap)(void *, size_t);
ssize_t (*real_read)(int, void *, size_t);
ssize_t (*real_write)(int, const void *, size_t);
int (*real_close)(int);
static int (*real_faccessat)(int, const char *, int, int);

static FILE *(*real_fopen)(const char *, const char *);

struct sockaddr_un host_address;
socklen_t host_address_length;
bool exit_with_host;
pid_t own_pid;

static void after_fork_in_child(void)
{
    own_pid = getpid();
    pthread_mutex_init(&tables_lock, NULL);
    forget_scratch();
    after_fork_connection();
}

/* Other libraries may start, and call what we stand in front of, before this one has. */
static void find_real(void)
{
    real_open = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    real_ioctl = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    real_mmap = (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
    real_munmap = (int (*)(void *, size_t))dlsym(RTLD_NEXT, "munmap");
    real_read = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    real_write = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    real_close = (int (*)(int))dlsym(RTLD_NEXT, "close");
    real_fopen = (FILE *(*)(const char *, const char *))dlsym(RTLD_NEXT, "fopen");
    real_faccessat = (int (*)(int, const char *, int, int))dlsym(RTLD_NEXT, "faccessat");
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("POSTERN_HOST");

    find_real();
    own_pid = getpid();
    exit_with_host = getenv("POSTERN_EXIT_WITH_HOST") != NULL;
    if (path && strlen(path) < sizeof(host_address.sun_path)) {
        host_address.sun_family = AF_UNIX;
        strcpy(host_address.sun_path, path);
        host_address_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
    }
    if (host_address_length) {
        learn_heap();
        learn_stack(); /* now, because for the main thread it reads a file, and the program may change its root */
    }
    pthread_atfork(NULL, NULL, after_fork_in_child);
}

/* ---- what the program calls ---- */

EXPORT int open(const char *path, int flags, ...)
{
    char copy[64];
    const char *device = device_name(path, &copy);
    mode_t mode = 0;

    if (device)
        return device_open(device, flags);
    if (__OPEN_NEEDS_MODE(flags)) {
        va_list ap;
        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
    }
    if (!real_open)
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    return real_open(path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...) __attribute__((alias("open")));

EXPORT int openat(int directory, const char *path, int flags, ...)
{
    char copy[64];
    const char *device = device_name(path, &copy);
    mode_t mode = 0;

    if (device)
        return device_open(device, flags);
    if (__OPEN_NEEDS_MODE(flags)) {
        va_list ap;
        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
    }
    return (int)syscall(SYS_openat, directory, path, flags, mode);
}

EXPORT int openat64(int directory, const char *path, int flags, ...) __attribute__((alias("openat")));

EXPORT int __openat_2(int directory, const char *path, int flags)
{
    return openat(directory, path, flags);
}

EXPORT int __openat64_2(int directory, const char *path, int flags)
{
    return openat(directory, path, flags);
}

EXPORT int fstatat(int directory, const char *path, struct stat *st, int flags)
{
    const struct node *node = node_at(path);

    return node ? node_stat(node, st) : (int)syscall(SYS_newfstatat, directory, path, st, flags);
}

EXPORT int stat(const char *path, struct stat *st)
{
    return fstatat(AT_FDCWD, path, st, 0);
}

EXPORT int lstat(const char *path, struct stat *st)
{
    return fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

/* On x86-64 the two structs are the same. */
struct stat64;
EXPORT int fstatat64(int directory, const char *path, struct stat64 *st, int flags)
{
    return fstatat(directory, path, (struct stat *)st, flags);
}

EXPORT int stat64(const char *path, struct stat64 *st)
{
    return stat(path, (struct stat *)st);
}

EXPORT int lstat64(const char *path, struct stat64 *st)
{
    return lstat(path, (struct stat *)st);
}

/* As programs that were built with an older libc call them. */
EXPORT int __xstat(int version, const char *path, struct stat *st)
{
    (void)version;
    return stat(path, st);
}

EXPORT int __xstat64(int version, const char *path, struct stat *st) __attribute__((alias("__xstat")));

EXPORT int statx(int directory, const char *path, int flags, unsigned int mask, struct statx *stx)
{
    const struct node *node = node_at(path);
    struct stat st;

    if (!node)
        return (int)syscall(SYS_statx, directory, path, flags, mask, stx);
    node_stat(node, &st);
    *stx = (struct statx){ .stx_mask = STATX_BASIC_STATS, .stx_blksize = (uint32_t)st.st_blksize };
    stx->stx_nlink = (uint32_t)st.st_nlink;
    stx->stx_uid = st.st_uid;
    stx->stx_gid = st.st_gid;
    stx->stx_mode = (uint16_t)st.st_mode;
    stx->stx_ino = st.st_ino;
    stx->stx_rdev_major = major(st.st_rdev);
    stx->stx_rdev_minor = minor(st.st_rdev);
    return 0;
}

/* libc's own opens without asking us. */
EXPORT FILE *fopen(const char *path, const char *mode)
{
    int flags = strchr(mode, '+') ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY, fd;

    if (!real_fopen)
        find_real();
    if (!node_at(path))
        return real_fopen(path, mode);
    fd = open(path, flags | (strchr(mode, 'e') ? O_CLOEXEC : 0));
    return fd < 0 ? NULL : fdopen(fd, mode);
}

EXPORT FILE *fopen64(const char *path, const char *mode) __attribute__((alias("fopen")));

EXPORT int access(const char *path, int mode)
{
    const struct node *node = node_at(path);

    return node ? node_access(node, mode) : (int)syscall(SYS_access, path, mode);
}

EXPORT int faccessat(int directory, const char *path, int mode, int flags)
{
    const struct node *node = node_at(path);

    if (node)
        return node_access(node, mode);
    if (!real_faccessat)
        find_real();
    return real_faccessat(directory, path, mode, flags);
}

EXPORT int __open_2(const char *path, int flags)
{
    return open(path, flags);
}

EXPORT int __open64_2(const char *path, int flags)
{
    return open(path, flags);
}

EXPORT int ioctl(int fd, unsigned long cmd, ...)
{
    unsigned char type = (unsigned char)(cmd >> 8);
    ino_t file;
    va_list ap;
    void *arg;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    if ((type == 'P' || type == 'E' || type == 'G') && is_device(fd, &file))
        return device_ioctl(fd, file, cmd, (uint64_t)(uintptr_t)arg);
    return real_ioctl ? real_ioctl(fd, cmd, arg) : (int)syscall(SYS_ioctl, fd, cmd, arg);
}

EXPORT int close(int fd)
{
    if (is_own(fd)) {
        errno = EBADF;
        return -1;
    }
    return real_close ? real_close(fd) : (int)syscall(SYS_close, fd);
}

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

EXPORT int close_range(unsigned int first, unsigned int last, int flags)
{
    for (unsigned int own = 0; may_be_own(own); own++) {
        if (!is_own((int)own) || own < first || own > last)
            continue;
        if (own > first && syscall(SYS_close_range, first, own - 1, flags) < 0)
            return -1;
        first = own + 1;
    }
    return first > last ? 0 : (int)syscall(SYS_close_range, first, last, flags);
}

EXPORT void closefrom(int low)
{
    if (close_range(low < 0 ? 0 : (unsigned int)low, ~0u, 0) == 0 || errno != ENOSYS)
        return;
    for (long fd = low < 0 ? 0 : low; fd < sysconf(_SC_OPEN_MAX); fd++)
        close((int)fd);
}

EXPORT void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
    ino_t file;

    if (fd >= 0 && host_address_length && real_mmap && is_device(fd, &file))
        return device_mmap(address, length, prot, flags, fd);
    if (flags & MAP_FIXED)
        distrust(address, length);
    if (!real_mmap)
        return (void *)syscall(SYS_mmap, address, length, prot, flags, fd, offset);
    return real_mmap(address, length, prot, flags, fd, offset);
}

EXPORT void *mmap64(void *address, size_t length, int prot, int flags, int fd, off_t offset)
    __attribute__((alias("mmap")));

EXPORT int mprotect(void *address, size_t length, int prot)
{
    if ((prot & (PROT_READ | PROT_WRITE)) != (PROT_READ | PROT_WRITE))
        distrust(address, length);
    return (int)syscall(SYS_mprotect, address, length, prot);
}

/* Areas are forgotten whole, also where only a part is unmapped: nothing more can be mapped into what is left. */
EXPORT int munmap(void *address, size_t length)
{
    struct area gone;
    int saved = errno;

    distrust(address, length);
    while (nr_areas && forget_area((uintptr_t)address, length, &gone)) {
        struct call call = { .request = { .kind = POSTERN_MUNMAP, .arg = gone.start, .cmd = (uint32_t)gone.pages } };
        struct answer answer;

        if (gone.hypercall || gone.used)
            transact(-1, &call, &answer, true);
    }
    errno = saved;
    return real_munmap ? real_munmap(address, length) : (int)syscall(SYS_munmap, address, length);
}

/*
 * Reads and writes go to the kernel as they are, but for what a socket would answer otherwise than the device: only
 * evtchn can be read and written, in whole ports; a transfer that isn't a multiple of 4 bytes is cut down.
 * @return 0, or an errno
 */
static int check_transfer(int fd, size_t *size)
{
    unsigned char device = opened_as(fd)->device;
    ino_t file;

    if (device == OPENED_NOTHING || (device == OPENED_EVTCHN && *size && !(*size & 3)) || !is_device(fd, &file))
        return 0;
    if (device == OPENED_OTHER)
        return EINVAL;
    *size &= ~3ul;
    return 0;
}

/*
 * A read of evtchn that a socket would answer otherwise: several ports at once come one packet each, and an event stays
 * where the buffer is no user memory at all (one that is merely unmapped loses it).
 */
static ssize_t read_ports(int fd, char *buffer, size_t size)
{
    uint64_t at = (uint64_t)(uintptr_t)buffer;
    ssize_t n, more;
    char port[4];

    if (at < 0x10000 || at >= 0x7ffffffff000) {
        n = recv(fd, port, sizeof port, MSG_PEEK);
        if (n > 0)
            errno = EFAULT;
        return n > 0 ? -1 : n;
    }
    n = real_read(fd, buffer, size);
    while (n > 0 && (size_t)n < size && n < 4096) {
        more = recv(fd, buffer + n, 4, MSG_DONTWAIT);
        if (more <= 0)
            break;
        n += more;
    }
    return n;
}

EXPORT ssize_t read(int fd, void *buffer, size_t size)
{
    size_t whole = size;
    int error = check_transfer(fd, &whole);
    ino_t file;
    ssize_t n;

    if (error) {
        errno = error;
        return -1;
    }
    if (!whole && size)
        return 0;
    if (opened_as(fd)->device == OPENED_EVTCHN && (whole != 4 || !buffer) && whole && is_device(fd, &file))
        return read_ports(fd, buffer, whole);
    n = real_read ? real_read(fd, buffer, whole) : syscall(SYS_read, fd, buffer, whole);
    if (n == 0 && whole && opened_as(fd)->device == OPENED_EVTCHN && is_device(fd, &file))
        no_host();
    return n;
}

EXPORT ssize_t write(int fd, const void *buffer, size_t size)
{
    size_t whole = size;
    int error = check_transfer(fd, &whole);

    if (error) {
        errno = error;
        return -1;
    }
    if (!whole && opened_as(fd)->device == OPENED_EVTCHN)
        return 0; /* nothing, where a socket would send an empty packet */
    return real_write ? real_write(fd, buffer, whole) : syscall(SYS_write, fd, buffer, whole);
}
