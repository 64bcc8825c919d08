/* SPDX-License-Identifier: MIT
 *
 * A restriction belongs to the open file: dup, dup2, fork and exec carry it, and nothing takes it away. Needs domains 1
 * and 2. Run again by itself with the descriptors' numbers.
 */
#include "check.h"

#include <sys/wait.h>

/* No domain here has a port as high. */
#define NO_PORT 4000u

static void restricted(const char *who, int privcmd, int evtchn)
{
    char name[128];
    privcmd_hypercall_t version = {.op = __HYPERVISOR_xen_version};
    xen_pfn_t gfn = 1;
    int error = 0;
    void *area = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, privcmd, 0);

    snprintf(name, sizeof name, "%s: domain 1 is allowed", who);
    check_result(name, nr_vcpus(privcmd, 1, NULL), 0);
    snprintf(name, sizeof name, "%s: domain 2 is not", who);
    check_errno(name, nr_vcpus(privcmd, 2, NULL), EPERM);
    snprintf(name, sizeof name, "%s: no plain hypercalls", who);
    check_errno(name, ioctl(privcmd, IOCTL_PRIVCMD_HYPERCALL, &version), EPERM);
    snprintf(name, sizeof name, "%s: no frames of domain 2", who);
    check_errno(name, map_frames(privcmd, 2, area, 1, &gfn, &error), EPERM);
    snprintf(name, sizeof name, "%s: not to another domain", who);
    check_errno(name, restrict_to(privcmd, 2), EINVAL);
    snprintf(name, sizeof name, "%s: not to no domain", who);
    check_errno(name, restrict_to(privcmd, 0x7ff4), EINVAL);
    snprintf(name, sizeof name, "%s: not to dom0", who);
    check_errno(name, restrict_to(privcmd, 0), EINVAL);
    snprintf(name, sizeof name, "%s: the same again is fine", who);
    check_result(name, restrict_to(privcmd, 1), 0);
    snprintf(name, sizeof name, "%s: evtchn not to domain 2", who);
    check_errno(name, bind_interdomain(evtchn, 2, NO_PORT), EACCES);
    snprintf(name, sizeof name, "%s: evtchn to domain 1", who);
    check_errno(name, bind_interdomain(evtchn, 1, NO_PORT), EINVAL); /* it may ask, but there is no such port */
    munmap(area, PAGE);
}

int main(int argc, char **argv)
{
    struct ioctl_evtchn_restrict_domid one = {.domid = 1};
    char numbers[2][16];
    int privcmd, evtchn, status;
    pid_t child;

    begin();
    if (argc == 3) {
        restricted("exec", atoi(argv[1]), atoi(argv[2]));
        return failures;
    }
    privcmd = device("privcmd", 0);
    evtchn = device("evtchn", 0);
    check_result("RESTRICT", restrict_to(privcmd, 1), 0);
    check_result("RESTRICT_DOMID", ioctl(evtchn, IOCTL_EVTCHN_RESTRICT_DOMID, &one), 0);
    restricted("itself", privcmd, evtchn);
    restricted("dup", dup(privcmd), dup(evtchn));
    check_result("dup2", dup2(privcmd, 300), 300);
    check_result("dup2", dup2(evtchn, 301), 301);
    restricted("dup2", 300, 301);
    restricted("F_DUPFD", fcntl(privcmd, F_DUPFD, 400), fcntl(evtchn, F_DUPFD_CLOEXEC, 400));

    child = fork();
    if (child == 0) {
        restricted("fork", privcmd, evtchn);
        snprintf(numbers[0], sizeof numbers[0], "%d", privcmd);
        snprintf(numbers[1], sizeof numbers[1], "%d", evtchn);
        fflush(stdout);
        if (failures) _exit(1);
        execl("/proc/self/exe", argv[0], numbers[0], numbers[1], NULL);
        _exit(127);
    }
    waitpid(child, &status, 0);
    check("the child and what it became", status == 0, "status %#x", status);

    /* a child that restricts a file restricts it for its parent */
    int shared = device("privcmd", 0);
    check_result("domain 2 before", nr_vcpus(shared, 2, NULL), 0);
    child = fork();
    if (child == 0) _exit(restrict_to(shared, 1) == 0 ? 0 : 1);
    waitpid(child, &status, 0);
    check("restricted by the child", status == 0, "status %#x", status);
    check_errno("domain 2 after", nr_vcpus(shared, 2, NULL), EPERM);

    /* closing all descriptors ends the file, and a number used again is another file */
    close(privcmd);
    int again = device("privcmd", 0);
    check_result("the number is used again", again, privcmd);
    check_result("as a file of its own", nr_vcpus(again, 2, NULL), 0);
    check_errno("while the duplicate is what it was", nr_vcpus(300, 2, NULL), EPERM);
    return end();
}
