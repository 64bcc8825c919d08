/* SPDX-License-Identifier: MIT
 *
 * Foreign mappings: before and after one another, in parts, with holes, read-only, after the file is closed, and across
 * fork; hypercall memory. Needs domains 1 and 2.
 */
#include "check.h"

#include <signal.h>
#include <setjmp.h>
#include <sys/wait.h>

static int privcmd;
static sigjmp_buf back;

static void faulted(int signal)
{
    siglongjmp(back, signal);
}

/* The signal that touching an address brings, 0 for none. */
__attribute__((noinline)) static int touch(volatile unsigned char *at, bool write)
{
    int signal = sigsetjmp(back, 1);

    if (signal == 0) {
        if (write) *at = *at;
        else (void)*at;
    }
    return signal;
}

static unsigned char *area_of(size_t pages, int prot)
{
    return mmap(NULL, pages * PAGE, prot, MAP_SHARED, privcmd, 0);
}

static void parts(void)
{
    unsigned char *whole = area_of(4, PROT_READ | PROT_WRITE), *pieces = area_of(4, PROT_READ | PROT_WRITE);
    xen_pfn_t gfns[8] = {10, 11, 12, 13}, swapped[4] = {13, 11, 12, 10}, holes[4] = {10, 0x70000, 12, 0x70001};
    int errors[8];

    check("an area touched before it is mapped", touch(whole, false) == SIGBUS, "readable");
    check_errno("a part of a fresh area", map_frames(privcmd, 1, pieces, 2, gfns, errors), EINVAL);
    check_errno("more than the area", map_frames(privcmd, 1, pieces, 8, gfns, errors), EINVAL);
    check_errno("an address inside a page", map_frames(privcmd, 1, pieces + 16, 4, gfns, errors), EINVAL);
    check_result("all of it", map_frames(privcmd, 1, whole, 4, gfns, errors), 0);
    check_errno("over what is mapped", map_frames(privcmd, 1, whole, 4, gfns, errors), EINVAL);
    for (int i = 0; i < 4; i++) whole[(size_t)i * PAGE] = (unsigned char)(50 + i);
    check_result("the same frames elsewhere, in another order", map_frames(privcmd, 1, pieces, 4, swapped, errors), 0);
    check("are the same frames", pieces[0] == 53 && pieces[PAGE] == 51 && pieces[3 * PAGE] == 50, "%d %d %d", pieces[0],
          pieces[PAGE], pieces[3 * PAGE]);
    munmap(pieces, 4 * PAGE);
    pieces = area_of(4, PROT_READ | PROT_WRITE);
    check_result("with holes", map_frames(privcmd, 1, pieces, 4, holes, errors), 0);
    check("errors a page", errors[0] == 0 && errors[1] == -EINVAL && errors[2] == 0 && errors[3] == -EINVAL,
          "%d %d %d %d", errors[0], errors[1], errors[2], errors[3]);
    check("a hole cannot be touched", touch(pieces + PAGE, false) != 0, "readable");
    check("its neighbour can", pieces[2 * PAGE] == 52, "%d", pieces[2 * PAGE]);
    check_result("a hole is filled later", map_frames(privcmd, 1, pieces + PAGE, 1, gfns + 1, errors), 0);
    check("with its frame", pieces[PAGE] == 51, "%d", pieces[PAGE]);
    munmap(pieces + PAGE, PAGE);
    check("half unmapped: the rest stays", pieces[0] == 50 && pieces[2 * PAGE] == 52, "%d %d", pieces[0], pieces[2 * PAGE]);
    check("and what was unmapped is gone", touch(pieces + PAGE, false) == SIGSEGV, "readable");
    munmap(pieces, 4 * PAGE);
    munmap(whole, 4 * PAGE);
}

static void protection(void)
{
    unsigned char *read_only = area_of(1, PROT_READ);
    xen_pfn_t gfn = 20;
    int error;

    check_result("a read-only area", map_frames(privcmd, 1, read_only, 1, &gfn, &error), 0);
    check_result("can be read", touch(read_only, false), 0);
    check_result("cannot be written", touch(read_only, true), SIGSEGV);
    munmap(read_only, PAGE);
}

static void lifetime(void)
{
    int fd = device("privcmd", 0), error, status;
    xen_pfn_t gfn = 30;
    unsigned char *area = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pid_t child;

    check_result("mapped", map_frames(fd, 1, area, 1, &gfn, &error), 0);
    close(fd);
    area[0] = 99;
    check("a mapping outlives its file", area[0] == 99, "%d", area[0]);
    child = fork();
    if (child == 0) _exit(touch(area, false));
    waitpid(child, &status, 0);
    check("a child does not inherit it, as with the driver", WEXITSTATUS(status) == SIGSEGV, "status %#x", status);
    munmap(area, PAGE);
}

/* Far more frames than one message carries, and in every second extent. */
static void large(void)
{
    enum { N = 12000 };
    static xen_pfn_t gfns[N];
    static int errors[N];
    unsigned char *area = area_of(N, PROT_READ | PROT_WRITE);
    long wrong = 0;

    for (int i = 0; i < N; i++) gfns[i] = (xen_pfn_t)(N - 1 - i);
    check_result("12000 frames backwards", map_frames(privcmd, 2, area, N, gfns, errors), 0);
    for (int i = 0; i < N; i++) wrong += errors[i] != 0;
    check("no errors", wrong == 0, "%ld", wrong);
    for (int i = 0; i < N; i++) *(uint32_t *)(area + (size_t)i * PAGE) = (uint32_t)i;
    for (int i = 0; i < N; i++) wrong += *(uint32_t *)(area + (size_t)i * PAGE) != (uint32_t)i;
    check("each a page of its own", wrong == 0, "%ld", wrong);
    munmap(area, N * PAGE);
}

static void hypercall_memory(void)
{
    int fd = device("hypercall", 0);
    unsigned char *memory = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    privcmd_hypercall_t call = {.op = __HYPERVISOR_xen_version, .arg = {1, (uintptr_t)memory}};

    check("hypercall memory", memory != MAP_FAILED, "no memory");
    check_result("extraversion into it", ioctl(privcmd, IOCTL_PRIVCMD_HYPERCALL, &call), 0);
    check("is there", memory[0] == '.', "%d", memory[0]);
    munmap(memory, PAGE);
    check_errno("what was unmapped faults", ioctl(privcmd, IOCTL_PRIVCMD_HYPERCALL, &call), EFAULT);
    munmap(memory + PAGE, PAGE);
    close(fd);
}

int main(void)
{
    begin();
    signal(SIGSEGV, faulted);
    signal(SIGBUS, faulted);
    privcmd = device("privcmd", 0);
    parts();
    protection();
    lifetime();
    large();
    hypercall_memory();
    check_result("nr_vcpus at the end", nr_vcpus(privcmd, 1, NULL), 0);
    return end();
}
