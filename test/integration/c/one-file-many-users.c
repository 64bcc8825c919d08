/* SPDX-License-Identifier: MIT
 *
 * Threads and forked children use one open file at once, with calls of different shapes. Each answer carries what was
 * asked for, so one that went astray is seen. Needs domains 1 (2 vCPUs) and 2 (1 vCPU).
 */
#include "check.h"

#include <pthread.h>
#include <sys/wait.h>

enum { CALLS = 400 };
static int privcmd, evtchn;

/* Asks for one domain's number of vCPUs, and for a refusal, in turn. @return wrong answers */
static long ask(domid_t dom, unsigned expected)
{
    long wrong = 0;

    for (int i = 0; i < CALLS; i++) {
        unsigned vcpus = 77;

        if (nr_vcpus(privcmd, dom, &vcpus) != 0 || vcpus != expected) wrong++;
        if (nr_vcpus(privcmd, (domid_t)(900 + dom), NULL) != -1 || errno != ESRCH) wrong++;
    }
    return wrong;
}

static void *ask_one(void *arg)
{
    (void)arg;
    return (void *)ask(1, 2);
}

static void *ask_two(void *arg)
{
    (void)arg;
    return (void *)ask(2, 1);
}

/* Maps frames of domain 2 whose content tells which they are, so that descriptors are seen to come to the right caller. */
static void *map_over_and_over(void *arg)
{
    long wrong = 0;

    (void)arg;
    for (int i = 0; i < CALLS / 10; i++) {
        xen_pfn_t gfns[3] = {100, 0x70000, 101};
        int errors[3];
        unsigned char *area = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, privcmd, 0);

        if (area == MAP_FAILED || map_frames(privcmd, 2, area, 3, gfns, errors) != 0 || errors[0] != 0 ||
            errors[1] != -EINVAL || errors[2] != 0 || area[0] != 100 || area[2 * PAGE] != 101)
            wrong++;
        munmap(area, 3 * PAGE);
    }
    return (void *)wrong;
}

static void *bind_and_notify(void *arg)
{
    long wrong = 0;

    (void)arg;
    for (int i = 0; i < CALLS / 10; i++) {
        struct ioctl_evtchn_unbind unbind;
        int port = bind_unbound(evtchn, 1);

        unbind.port = (unsigned)port;
        if (port <= 0 || notify(evtchn, (unsigned)port) != 0 || ioctl(evtchn, IOCTL_EVTCHN_UNBIND, &unbind) != 0) wrong++;
        if (notify(evtchn, (unsigned)port + 1000) != -1 || errno != ENOTCONN) wrong++;
    }
    return (void *)wrong;
}

static long run_threads(void)
{
    static void *(*const work[])(void *) = {ask_one, ask_two, map_over_and_over, bind_and_notify};
    pthread_t threads[4];
    long wrong = 0;

    for (int i = 0; i < 4; i++)
        if (pthread_create(&threads[i], NULL, work[i], NULL)) return -1;
    for (int i = 0; i < 4; i++) {
        void *result;

        pthread_join(threads[i], &result);
        wrong += (long)result;
    }
    return wrong;
}

int main(void)
{
    xen_pfn_t gfns[2] = {100, 101};
    int errors[2], status;
    unsigned char *area;
    pid_t children[2];

    begin();
    privcmd = device("privcmd", O_CLOEXEC);
    evtchn = device("evtchn", O_CLOEXEC);
    area = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, privcmd, 0);
    check_result("frames to tell apart", map_frames(privcmd, 2, area, 2, gfns, errors), 0);
    area[0] = 100;
    area[PAGE] = 101;
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            alarm(25);
            _exit(run_threads() == 0 ? 0 : 1);
        }
    }
    long wrong = run_threads();
    check("this process's answers", wrong == 0, "%ld wrong", wrong);
    for (int i = 0; i < 2; i++) {
        waitpid(children[i], &status, 0);
        check(i ? "the second child's answers" : "the first child's answers", status == 0, "status %#x", status);
    }
    return end();
}
