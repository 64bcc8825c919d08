/* SPDX-License-Identifier: MIT
 *
 * ioctls that do not exist: wrong numbers, wrong sizes, the other device's. A driver compares the whole command, so a
 * size that differs by one makes another command. Needs domain 1.
 */
#include "check.h"

static unsigned long resized(unsigned long cmd, long by)
{
    return (cmd & ~0x3fff0000ul) | ((((cmd >> 16) & 0x3fff) + (unsigned long)by) << 16 & 0x3fff0000ul);
}

int main(void)
{
    static const unsigned long of_privcmd[] = {
        IOCTL_PRIVCMD_HYPERCALL, IOCTL_PRIVCMD_MMAP,     IOCTL_PRIVCMD_MMAPBATCH,    IOCTL_PRIVCMD_MMAPBATCH_V2,
        IOCTL_PRIVCMD_DM_OP,     IOCTL_PRIVCMD_RESTRICT, IOCTL_PRIVCMD_MMAP_RESOURCE,
    };
    static const unsigned long of_evtchn[] = {
        IOCTL_EVTCHN_BIND_VIRQ, IOCTL_EVTCHN_BIND_INTERDOMAIN, IOCTL_EVTCHN_BIND_UNBOUND_PORT, IOCTL_EVTCHN_UNBIND,
        IOCTL_EVTCHN_NOTIFY,    IOCTL_EVTCHN_RESTRICT_DOMID,
    };
    int privcmd, evtchn;
    char *argument;
    char name[96];

    begin();
    privcmd = device("privcmd", 0);
    evtchn = device("evtchn", 0);
    /* 16 KiB is the most an ioctl number can speak of */
    argument = mmap(NULL, 0x4000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < sizeof of_privcmd / sizeof of_privcmd[0]; i++)
        for (long by = -1; by <= 1; by += 2) {
            snprintf(name, sizeof name, "privcmd %zu, size %+ld", i, by);
            check_errno(name, ioctl(privcmd, resized(of_privcmd[i], by), argument), ENOTTY);
        }
    for (size_t i = 0; i < sizeof of_evtchn / sizeof of_evtchn[0]; i++)
        for (long by = -1; by <= 1; by += 2) {
            snprintf(name, sizeof name, "evtchn %zu, size %+ld", i, by);
            check_errno(name, ioctl(evtchn, resized(of_evtchn[i], by), argument), ENOSYS);
        }
    for (unsigned i = 0; i < 64; i++) {
        unsigned long cmd = ('P' << 8) | (i * 4 + 17) % 256 | (unsigned long)i * 0x1000000ul;

        snprintf(name, sizeof name, "privcmd command %#lx", cmd);
        check_errno(name, ioctl(privcmd, cmd, argument), ENOTTY);
    }
    check_errno("the largest size", ioctl(privcmd, 0x3fff0000ul | 'P' << 8 | 5, argument), ENOTTY);
    check_errno("the largest size, nowhere", ioctl(privcmd, 0x3fff0000ul | 'P' << 8 | 5, NULL), ENOTTY);
    check_errno("an evtchn call on privcmd", ioctl(privcmd, IOCTL_EVTCHN_BIND_UNBOUND_PORT, argument), ENOTTY);
    check_errno("a privcmd call on evtchn", ioctl(evtchn, IOCTL_PRIVCMD_DM_OP, argument), ENOSYS);
    check_errno("an ioctl on no descriptor", ioctl(-1, IOCTL_PRIVCMD_DM_OP, argument), EBADF);
    check_errno("a privcmd call on another file", ioctl(0, IOCTL_PRIVCMD_DM_OP, argument), ENOTTY);
    check_result("nr_vcpus at the end", nr_vcpus(privcmd, 1, NULL), 0);
    return end();
}
