/*
 * Paths of the host's files through every function that a program looks at them with, and paths that are not the host's.
 */
#include "check.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

int main(void)
{
    static const char *const devices[] = { "privcmd", "evtchn", "hypercall", "gntdev", "xenbus" };
    char path[64], text[32] = "";
    struct statx stx;
    struct stat st;
    FILE *file;
    int fd;

    begin();
    for (unsigned i = 0; i < sizeof devices / sizeof devices[0]; i++) {
        snprintf(path, sizeof path, "/dev/xen/%s", devices[i]);
        check(path, stat(path, &st) == 0 && S_ISCHR(st.st_mode), "stat: %s", strerror(errno));
        check(path, lstat(path, &st) == 0 && S_ISCHR(st.st_mode), "lstat: %s", strerror(errno));
        check(path, fstatat(AT_FDCWD, path, &st, 0) == 0 && major(st.st_rdev) == 10, "fstatat: %s", strerror(errno));
        check(path, statx(AT_FDCWD, path, 0, STATX_ALL, &stx) == 0 && S_ISCHR(stx.stx_mode), "statx");
        check(path, access(path, R_OK | W_OK) == 0, "access: %s", strerror(errno));
        check(path, faccessat(AT_FDCWD, path, F_OK, 0) == 0, "faccessat: %s", strerror(errno));
        check(path, access(path, X_OK) == -1 && errno == EACCES, "access X_OK");
        fd = openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC);
        check(path, fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC, "openat: %s", strerror(errno));
        close(fd);
        fd = open(path, O_RDWR);
        check(path, fd >= 0 && fcntl(fd, F_GETFD) == 0, "open: %s", strerror(errno));
        close(fd);
    }
    file = fopen("/proc/xen/capabilities", "r");
    check("fopen", file && fgets(text, sizeof text, file) && !strcmp(text, "control_d\n"), "%s", text);
    if (file)
        fclose(file);
    fd = open("/dev/xen/xenbus", O_RDWR | O_NONBLOCK);
    check("xenbus, not blocking", fd >= 0 && read(fd, text, 1) == -1 && errno == EAGAIN, "%s", strerror(errno));
    close(fd);
    check("no such device", stat("/dev/xen/nothing", &st) == -1 && errno == ENOENT, "%s", strerror(errno));
    check("no such device", open("/dev/xen/nothing", O_RDWR) == -1 && errno == ENOENT, "%s", strerror(errno));
    check("another file", stat("/proc/self/exe", &st) == 0 && S_ISREG(st.st_mode), "%s", strerror(errno));
    check("another file", statx(AT_FDCWD, "/proc/self/exe", 0, STATX_SIZE, &stx) == 0 && stx.stx_size > 0, "statx");
    file = fopen("/proc/self/stat", "re");
    check("another file", file && fgets(text, sizeof text, file) && atoi(text) == getpid(), "fopen");
    if (file)
        fclose(file);
    check("nobody's file", fopen("/nothing", "r") == NULL && errno == ENOENT, "fopen");
    check("no memory", stat((char *)8, &st) == -1 && errno == EFAULT, "stat");
    check("no memory", open((char *)8, O_RDONLY) == -1 && errno == EFAULT, "open");
    return end();
}
