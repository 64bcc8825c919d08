/* SPDX-License-Identifier: MIT
 *
 * Several threads on one open file, and several processes: no answer is lost or given to another caller.
 * Needs domains A (HVM, 2 vCPUs), B (HVM, 1 vCPU) and P (PV).
 */
#include "oracle.h"

#include <pthread.h>
#include <sys/wait.h>

#define NONE "%s", ""
#define G "threads"
enum { CALLS = 300 };
static int fd;

struct count {
    domid_t dom;
    unsigned expected;
    int right, wrong;
};

static void *count_vcpus(void *arg)
{
    struct count *c = arg;
    unsigned vcpus;

    for (int i = 0; i < CALLS; i++) {
        if (nr_vcpus(fd, c->dom, &vcpus) == 0 && vcpus == c->expected)
            c->right++;
        else
            c->wrong++;
    }
    return NULL;
}

static void *refused_calls(void *arg)
{
    struct count *c = arg;

    for (int i = 0; i < CALLS; i++) {
        if (nr_vcpus(fd, c->dom, NULL) == -1 && errno == ESRCH)
            c->right++;
        else
            c->wrong++;
    }
    return NULL;
}

/* Creates and destroys servers; each id it holds is its own. */
static void *servers(void *arg)
{
    struct count *c = arg;

    for (int i = 0; i < CALLS / 10; i++) {
        struct xen_dm_op op = {.op = XEN_DMOP_create_ioreq_server};
        if (dm_op1(fd, c->dom, &op, sizeof op)) {
            c->wrong++;
            continue;
        }
        unsigned id = op.u.create_ioreq_server.id;
        op = (struct xen_dm_op){.op = XEN_DMOP_map_io_range_to_ioreq_server};
        op.u.map_io_range_to_ioreq_server.id = id;
        op.u.map_io_range_to_ioreq_server.end = 7;
        int bad = dm_op1(fd, c->dom, &op, sizeof op);
        op = (struct xen_dm_op){.op = XEN_DMOP_destroy_ioreq_server};
        op.u.destroy_ioreq_server.id = id;
        bad |= dm_op1(fd, c->dom, &op, sizeof op);
        *(bad ? &c->wrong : &c->right) += 1;
    }
    return NULL;
}

static void mapped(void)
{
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    xen_pfn_t gfn = 0x33;
    char *here = xenforeignmemory_map(fmem, A, PROT_READ | PROT_WRITE, 1, &gfn, NULL);
    int status;

    need(here != NULL, "mapping A");
    strcpy(here, "parent");
    fflush(stdout);
    if (fork() == 0) {
        xenforeignmemory_handle *own = xenforeignmemory_open(NULL, 0);
        char *there = xenforeignmemory_map(own, A, PROT_READ | PROT_WRITE, 1, &gfn, NULL);
        int same = there && !strcmp(there, "parent");

        if (there) strcpy(there, "child");
        _exit(same ? 0 : 1);
    }
    wait(&status);
    row(G, "another process maps the page and sees it", WEXITSTATUS(status), NONE);
    row(G, "what that process wrote", 0, "%s", here);
}

int main(void)
{
    pthread_t t[5];
    struct count c[5] = {{A, 2, 0, 0}, {B, 1, 0, 0}, {NOBODY, 0, 0, 0}, {A, 0, 0, 0}, {A, 0, 0, 0}};
    void *(*body[5])(void *) = {count_vcpus, count_vcpus, refused_calls, servers, servers};
    static const char *const names[5] = {"nr_vcpus A", "nr_vcpus B", "nr_vcpus 999", "create and destroy, first", "create and destroy, second"};

    fd = open_privcmd();
    for (int i = 0; i < 5; i++) need(pthread_create(&t[i], NULL, body[i], &c[i]) == 0, "pthread_create");
    for (int i = 0; i < 5; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < 5; i++) row(G, names[i], 0, "right=%d wrong=%d", c[i].right, c[i].wrong);

    /* The file is shared with a child that calls at the same time. */
    int status;
    struct count parent = {A, 2, 0, 0}, child = {B, 1, 0, 0};
    fflush(stdout);
    if (fork() == 0) {
        count_vcpus(&child);
        _exit(child.wrong != 0);
    }
    count_vcpus(&parent);
    wait(&status);
    row(G, "nr_vcpus A beside a forked child", 0, "right=%d wrong=%d", parent.right, parent.wrong);
    row(G, "nr_vcpus B in the forked child", WEXITSTATUS(status), NONE);
    mapped();
    return 0;
}
