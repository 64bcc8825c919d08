/* SPDX-License-Identifier: MIT
 *
 * A restricted file goes to a process that has nothing to do with the one that opened it, over a socket.
 *     pass-fd receive PATH   waits, then uses what it gets     pass-fd send PATH   opens, restricts, sends, exits
 * Needs domains 1 and 2.
 */
#include "check.h"

#include <sys/socket.h>
#include <sys/un.h>

static union {
    struct cmsghdr header;
    char space[CMSG_SPACE(3 * sizeof(int))];
} control;

static struct msghdr *message(void)
{
    static char byte = 'x';
    static struct iovec data = {&byte, 1};
    static struct msghdr msg = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.space,
                                .msg_controllen = sizeof control.space};

    return &msg;
}

static int run_sender(int to)
{
    int files[3] = {device("privcmd", O_CLOEXEC), device("evtchn", O_CLOEXEC), device("privcmd", O_CLOEXEC)};
    struct ioctl_evtchn_restrict_domid one = {.domid = 1};
    struct msghdr *msg = message();

    check_result("RESTRICT", restrict_to(files[0], 1), 0);
    check_result("RESTRICT_DOMID", ioctl(files[1], IOCTL_EVTCHN_RESTRICT_DOMID, &one), 0);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof files);
    memcpy(CMSG_DATA(&control.header), files, sizeof files);
    check_result("sent", sendmsg(to, msg, 0), 1);
    return end();
}

/* A port of domain 1 that dom0 may bind: the one of a new ioreq server's buffered ring. */
static unsigned buffered_port(int privcmd)
{
    struct xen_dm_op create = {.op = XEN_DMOP_create_ioreq_server};
    struct xen_dm_op info = {.op = XEN_DMOP_get_ioreq_server_info};

    create.u.create_ioreq_server.handle_bufioreq = HVM_IOREQSRV_BUFIOREQ_ATOMIC;
    check_result("makes an ioreq server", dm_op(privcmd, 1, &create, sizeof create), 0);
    info.u.get_ioreq_server_info.id = create.u.create_ioreq_server.id;
    info.u.get_ioreq_server_info.flags = XEN_DMOP_no_gfns;
    check_result("and asks for its port", dm_op(privcmd, 1, &info, sizeof info), 0);
    return info.u.get_ioreq_server_info.bufioreq_port;
}

static int run_receiver(int from)
{
    int files[3];
    xen_pfn_t gfn = 1;
    int error = 0, port;
    void *area;
    char byte;

    check_result("received", recvmsg(from, message(), 0), 1);
    memcpy(files, CMSG_DATA(&control.header), sizeof files);
    check_result("the sender has ended", read(from, &byte, 1), 0);
    check_result("domain 1 is allowed", nr_vcpus(files[0], 1, NULL), 0);
    check_errno("domain 2 is not", nr_vcpus(files[0], 2, NULL), EPERM);
    check_errno("the restriction stays", restrict_to(files[0], 2), EINVAL);
    check_result("the file that was not restricted", nr_vcpus(files[2], 2, NULL), 0);
    area = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, files[0], 0);
    check_result("maps a frame here", map_frames(files[0], 1, area, 1, &gfn, &error), 0);
    check("and reads it", *(volatile uint32_t *)area == 0, "%#x", *(volatile uint32_t *)area);
    check_errno("evtchn: domain 2 is not", bind_interdomain(files[1], 2, 1), EACCES);
    port = bind_interdomain(files[1], 1, buffered_port(files[0]));
    check("evtchn: domain 1 is", port > 0, "%d", port);
    check_result("and notifies", notify(files[1], (unsigned)port), 0);
    return end();
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    begin();
    if (argc != 3) return 2;
    strncpy(address.sun_path, argv[2], sizeof address.sun_path - 1);
    if (!strcmp(argv[1], "receive")) {
        if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 1)) return 2;
        printf("ok\tlistening\n");
        fflush(stdout);
        return run_receiver(accept(fd, NULL, NULL));
    }
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) return 2;
    return run_sender(fd);
}
