/* SPDX-License-Identifier: MIT
 *
 * A restriction belongs to the open file, not to the descriptor or the process: dup, fork, SCM_RIGHTS and exec keep it.
 * Needs domains A (HVM, 2 vCPUs), B (HVM, 1 vCPU) and P (PV). Runs itself again as `child FD FD` after an exec.
 */
#include "oracle.h"

#include <sys/socket.h>
#include <sys/wait.h>

#define NONE "%s", ""

static int evtchn_restrict(int fd, domid_t dom)
{
    struct ioctl_evtchn_restrict_domid r = {.domid = dom};

    return ioctl(fd, IOCTL_EVTCHN_RESTRICT_DOMID, &r);
}

static int bind_unbound(int fd, domid_t dom)
{
    struct ioctl_evtchn_bind_unbound_port b = {.remote_domain = dom};

    return ioctl(fd, IOCTL_EVTCHN_BIND_UNBOUND_PORT, &b);
}

/* What a holder of the two descriptors may do. */
static void ask(const char *g, int privcmd, int evtchn)
{
    privcmd_hypercall_t call = {.op = __HYPERVISOR_xen_version, .arg = {XENVER_version}};

    row(g, "nr_vcpus A", nr_vcpus(privcmd, A, NULL), NONE);
    row(g, "nr_vcpus B", nr_vcpus(privcmd, B, NULL), NONE);
    row(g, "HYPERCALL", ioctl(privcmd, IOCTL_PRIVCMD_HYPERCALL, &call), NONE);
    row(g, "RESTRICT(B)", privcmd_restrict(privcmd, B), NONE);
    row(g, "RESTRICT(DOMID_INVALID)", privcmd_restrict(privcmd, DOMID_INVALID), NONE);
    row(g, "bind_unbound(B)", bind_unbound(evtchn, B), NONE);
    row(g, "bind_unbound(A)", bind_unbound(evtchn, A) >= 0 ? 0 : -1, NONE);
    row(g, "evtchn RESTRICT(B)", evtchn_restrict(evtchn, B), NONE);
}

static void send_fds(int socket, int a, int b)
{
    char control[CMSG_SPACE(2 * sizeof(int))] = "", byte = 0;
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(2 * sizeof(int))};
    memcpy(CMSG_DATA(c), (int[]){a, b}, 2 * sizeof(int));
    need(sendmsg(socket, &m, 0) == 1, "sendmsg");
}

static void receive_fds(int socket, int fds[2])
{
    char control[CMSG_SPACE(2 * sizeof(int))], byte;
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};

    need(recvmsg(socket, &m, 0) == 1, "recvmsg");
    memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&m)), 2 * sizeof(int));
}

static void in_child(void (*body)(void *), void *arg)
{
    fflush(stdout);
    if (fork() == 0) {
        body(arg);
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
}

static int privcmd, evtchn, pair[2];

static void child_asks(void *group) { ask(group, privcmd, evtchn); }

/* The child restricts what it was handed; it is the parent's file. */
static void child_restricts(void *unused)
{
    (void)unused;
    row("restricted by a child", "RESTRICT(A) in the child", privcmd_restrict(privcmd, A), NONE);
    row("restricted by a child", "evtchn RESTRICT(A) in the child", evtchn_restrict(evtchn, A), NONE);
}

static void receiver(void *unused)
{
    int fds[2];

    (void)unused;
    close(privcmd);
    close(evtchn);
    receive_fds(pair[1], fds);
    ask("received over a socket", fds[0], fds[1]);
}

static void reopen(void)
{
    int flags, copy;

    privcmd = open_privcmd();
    evtchn = open_device("/dev/xen/evtchn");
    flags = fcntl(privcmd, F_GETFD);
    row("descriptors", "O_CLOEXEC is kept", flags == FD_CLOEXEC, NONE);
    copy = fcntl(privcmd, F_DUPFD, 50);
    row("descriptors", "F_DUPFD from 50: nr_vcpus A", nr_vcpus(copy, A, NULL), "fd=%d", copy);
    row("descriptors", "F_DUPFD clears FD_CLOEXEC", fcntl(copy, F_GETFD), NONE);
    close(copy);
    row("descriptors", "the copy, closed", nr_vcpus(copy, A, NULL), NONE);
    row("descriptors", "the original", nr_vcpus(privcmd, A, NULL), NONE);
}

int main(int argc, char **argv)
{
    int copies[2], null;
    char a[16], b[16];

    if (argc == 4 && !strcmp(argv[1], "child")) {
        ask("after exec", atoi(argv[2]), atoi(argv[3]));
        return 0;
    }
    reopen();
    copies[0] = dup(privcmd);
    copies[1] = dup(evtchn);
    row("dup", "RESTRICT(A) on the copy", privcmd_restrict(copies[0], A), NONE);
    row("dup", "evtchn RESTRICT(A) on the copy", evtchn_restrict(copies[1], A), NONE);
    ask("dup", privcmd, evtchn);
    close(copies[0]);
    close(copies[1]);
    ask("dup, copy closed", privcmd, evtchn);
    in_child(child_asks, "forked child");

    need(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
    send_fds(pair[0], privcmd, evtchn);
    in_child(receiver, NULL);

    snprintf(a, sizeof a, "%d", dup(privcmd));
    snprintf(b, sizeof b, "%d", dup(evtchn));
    fflush(stdout);
    if (fork() == 0) {
        execl("/proc/self/exe", argv[0], "child", a, b, NULL);
        _exit(9);
    }
    wait(NULL);
    close(atoi(a));
    close(atoi(b));
    close(privcmd);
    close(evtchn);

    reopen();
    in_child(child_restricts, NULL);
    ask("restricted by a child", privcmd, evtchn);

    /* How the libraries give a handle up: dup2 of /dev/null over it. */
    null = open("/dev/null", O_RDWR);
    row("dup2 of /dev/null", "dup2", dup2(null, privcmd) == privcmd ? 0 : -1, NONE);
    row("dup2 of /dev/null", "nr_vcpus A", nr_vcpus(privcmd, A, NULL), NONE);
    return 0;
}
