/* SPDX-License-Identifier: MIT
 *
 * depriv-launcher PID CHECKER: takes the privcmd and evtchn descriptors that process PID holds and becomes
 * `CHECKER privcmd FD NOTE ... evtchn FD NOTE ...`, as Debian's depriv-fd-checker expects them. Needs root, and the same
 * environment as PID, so that both speak to one host.
 *
 * Which descriptor is which is asked of the device: on a real Xen and here a privcmd file answers DM_OP without buffers
 * (or refuses its domain), and an evtchn file answers an unknown ioctl with ENOSYS.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <xenctrl.h>
#include <xen/sys/evtchn.h>
#include <xen/sys/privcmd.h>

/* The interposition library keeps its own descriptors above the program's: they are no open file of a device. */
enum { MAX_FDS = 64, LIBRARY_FDS = 700 };

static const char *device_of(int fd)
{
    privcmd_dm_op_t none = {.dom = 0x7ff4, .num = 0};
    struct stat st;

    /* Other kinds of file may take these numbers for something else: ask only what can be one of ours. */
    if (fstat(fd, &st) < 0 || !(S_ISSOCK(st.st_mode) || S_ISCHR(st.st_mode))) return NULL;
    if (ioctl(fd, IOCTL_PRIVCMD_DM_OP, &none) == 0 || errno == EPERM) return "privcmd";
    if (ioctl(fd, _IOC(_IOC_NONE, 'E', 99, 0), 0) < 0 && errno == ENOSYS) return "evtchn";
    return NULL;
}

int main(int argc, char **argv)
{
    static char text[MAX_FDS][2][32];
    char *args[3 * MAX_FDS + 2], path[64];
    int count = 0, n = 1, pidfd;
    pid_t pid = argc == 3 ? atoi(argv[1]) : 0;
    struct dirent *entry;
    DIR *dir;

    if (pid <= 0) {
        fprintf(stderr, "usage: depriv-launcher PID CHECKER\n");
        return 2;
    }
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    dir = opendir(path);
    pidfd = syscall(SYS_pidfd_open, pid, 0);
    if (!dir || pidfd < 0) {
        perror("depriv-launcher");
        return 3;
    }
    args[0] = argv[2];
    while ((entry = readdir(dir)) && count < MAX_FDS) {
        int theirs = atoi(entry->d_name), fd;
        const char *device;

        if (entry->d_name[0] == '.' || theirs >= LIBRARY_FDS || (fd = syscall(SYS_pidfd_getfd, pidfd, theirs, 0)) < 0) continue;
        device = device_of(fd);
        if (!device) {
            close(fd);
            continue;
        }
        fcntl(fd, F_SETFD, 0);
        snprintf(text[count][0], sizeof text[count][0], "%d", fd);
        snprintf(text[count][1], sizeof text[count][1], "process-fd-%d", theirs);
        args[n++] = (char *)device;
        args[n++] = text[count][0];
        args[n++] = text[count][1];
        count++;
    }
    if (count == 0) {
        fprintf(stderr, "depriv-launcher: process %d has no descriptor of privcmd or evtchn\n", pid);
        return 4;
    }
    args[n] = NULL;
    close(pidfd);
    closedir(dir);
    execv(argv[2], args);
    perror(argv[2]);
    return 5;
}
