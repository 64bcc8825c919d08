/* SPDX-License-Identifier: MIT
 *
 * The raw ioctls of privcmd and evtchn: what Linux and Xen say to every shape of DM_OP, before and after RESTRICT.
 * Needs domains A (HVM, 2 vCPUs), B (HVM, 1 vCPU) and P (PV).
 */
#include "oracle.h"

static int fd;
#define G "raw dm_op"
#define NONE "%s", ""

static void sized(const char *call, domid_t dom, void *block, size_t size)
{
    row(G, call, dm_op1(fd, dom, block, size), NONE);
}

static void counted(const char *call, unsigned num, int show)
{
    static struct xen_dm_op ops[16];
    privcmd_dm_op_buf_t bufs[16];
    privcmd_dm_op_t arg = {.dom = A, .num = num, .ubufs = bufs};
    int rc;

    for (int i = 0; i < 16; i++) {
        memset(&ops[i], 0, sizeof ops[i]);
        ops[i].op = XEN_DMOP_nr_vcpus;
        bufs[i] = (privcmd_dm_op_buf_t){.uptr = &ops[i], .size = sizeof ops[i]};
    }
    rc = ioctl(fd, IOCTL_PRIVCMD_DM_OP, &arg);
    if (show)
        row(G, call, rc, "vcpus=%u", ops[0].u.nr_vcpus.vcpus);
    else
        row(G, call, rc, NONE);
}

static void nr_vcpus_of(const char *call, domid_t dom)
{
    unsigned vcpus;
    int rc = nr_vcpus(fd, dom, &vcpus);

    row(G, call, rc, "vcpus=%u", vcpus);
}

static void unknown_op(const char *call, domid_t dom, uint32_t number)
{
    struct xen_dm_op op = {.op = number};

    sized(call, dom, &op, sizeof op);
}

static void shapes(void)
{
    privcmd_dm_op_t none = {.dom = NOBODY, .num = 0};
    privcmd_dm_op_buf_t null_buf = {.uptr = NULL, .size = 0};
    privcmd_dm_op_t null_call = {.dom = A, .num = 1, .ubufs = &null_buf};
    char *two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct xen_dm_op *op = (void *)(two + 64), *straddle = (void *)(two + PAGE - 8);
    int rc;

    row(G, "DM_OP arg=NULL", ioctl(fd, IOCTL_PRIVCMD_DM_OP, NULL), NONE);
    row(G, "DM_OP num=0 dom=nonexistent(999)", ioctl(fd, IOCTL_PRIVCMD_DM_OP, &none), NONE);
    row(G, "DM_OP num=1 uptr=NULL size=0", ioctl(fd, IOCTL_PRIVCMD_DM_OP, &null_call), NONE);
    op->op = XEN_DMOP_nr_vcpus;
    rc = dm_op1(fd, A, op, sizeof *op);
    row(G, "nr_vcpus full size", rc, "vcpus=%u", op->u.nr_vcpus.vcpus);
    op->u.nr_vcpus.vcpus = 0;
    rc = dm_op1(fd, A, op, 12);
    row(G, "nr_vcpus exact size (12)", rc, "vcpus=%u", op->u.nr_vcpus.vcpus);
    sized("nr_vcpus size 11 (short)", A, op, 11);
    sized("nr_vcpus size 8 (header only)", A, op, 8);
    sized("nr_vcpus size 7", A, op, 7);
    sized("nr_vcpus size 0, unaligned-in-page uptr", A, op, 0);
    sized("nr_vcpus size 4096 (max)", A, two + 64, PAGE);
    sized("nr_vcpus size 4097 (oversize)", A, two + 64, PAGE + 1);
    sized("nr_vcpus size SIZE_MAX", A, op, SIZE_MAX);
    straddle->op = XEN_DMOP_nr_vcpus;
    straddle->pad = 0;
    rc = dm_op1(fd, A, straddle, sizeof *straddle);
    row(G, "nr_vcpus buffer straddles a page boundary", rc, "vcpus=%u", straddle->u.nr_vcpus.vcpus);
    sized("nr_vcpus uptr in kernel half", A, (void *)0xffff800000000000ul, 64);
    sized("nr_vcpus uptr NULL size 64", A, NULL, 64);
    counted("nr_vcpus with num=2 bufs", 2, 1);
    counted("nr_vcpus with num=3 bufs", 3, 1);
    counted("nr_vcpus with num=15 bufs", 15, 1);
    counted("nr_vcpus with num=16 bufs", 16, 1);
    counted("num=17 bufs", 17, 0);
    counted("num=65535 bufs", 65535, 0);
    unknown_op("unknown op=0", A, 0);
    unknown_op("unknown op=21", A, 21);
    unknown_op("unknown op=4294967295", A, ~0u);
    munmap(two, 2 * PAGE);
}

/* Payload sizes as dm_op.h declares them; 19, set_irq_level, exists on Arm only and its number is a hole in x86's table. */
static const size_t payload[21] = {0, 6, 24, 24, 24, 4, 4, 16, 6, 2, 2, 8, 16, 24, 16, 16, 4, 24, 24, 8, 4};

static void one_short(void)
{
    static const int in_facts[] = {1, 2, 4, 5, 10, 11, 12, 13, 14, 16, 17, 20, 3, 6, 7, 8, 9, 15, 18, 19};

    for (unsigned i = 0; i < sizeof in_facts / sizeof *in_facts; i++) {
        int n = in_facts[i];
        size_t size = 8 + payload[n] - 1;
        struct xen_dm_op op = {.op = n};
        char call[64];

        snprintf(call, sizeof call, "op=%d payload short by 1 (size %zu)", n, size);
        sized(call, A, &op, size);
    }
}

static void domains(void)
{
    nr_vcpus_of("nr_vcpus dom=0 (dom0 itself)", 0);
    nr_vcpus_of("nr_vcpus dom=DOMID_SELF 0x7ff0", DOMID_SELF);
    nr_vcpus_of("nr_vcpus dom=DOMID_IO 0x7ff1", DOMID_IO);
    nr_vcpus_of("nr_vcpus dom=DOMID_XEN 0x7ff2", DOMID_XEN);
    nr_vcpus_of("nr_vcpus dom=DOMID_COW 0x7ff3", DOMID_COW);
    nr_vcpus_of("nr_vcpus dom=DOMID_INVALID 0x7ff4", DOMID_INVALID);
    nr_vcpus_of("nr_vcpus dom=DOMID_IDLE 0x7fff", DOMID_IDLE);
    nr_vcpus_of("nr_vcpus dom=0xffff", 0xffff);
    nr_vcpus_of("nr_vcpus dom=nonexistent 999", NOBODY);
    nr_vcpus_of("nr_vcpus dom=P (PV domain)", P);
    unknown_op("unknown op on nonexistent dom", NOBODY, 77);
    unknown_op("unknown op dom=P (PV domain)", P, 77);
}

static void misc(void)
{
    const char *g = "raw privcmd misc";
    privcmd_hypercall_t call = {.op = __HYPERVISOR_xen_version, .arg = {XENVER_version}};
    unsigned vcpus;
    int other, rc;

    row(g, "IOCTL_PRIVCMD_UNIMPLEMENTED", ioctl(fd, IOCTL_PRIVCMD_UNIMPLEMENTED, 0), NONE);
    row(g, "DM_OP cmd with wrong size in ioctl number",
        ioctl(fd, _IOC(_IOC_NONE, 'P', 5, sizeof(privcmd_dm_op_t) + 8), NULL), NONE);
    row(g, "HYPERCALL xen_version(XENVER_version)", ioctl(fd, IOCTL_PRIVCMD_HYPERCALL, &call), NONE);
    call.arg[0] = XENVER_pagesize;
    row(g, "HYPERCALL xen_version(XENVER_pagesize)", ioctl(fd, IOCTL_PRIVCMD_HYPERCALL, &call), NONE);
    call.arg[0] = 0x7777;
    row(g, "HYPERCALL xen_version(unknown)", ioctl(fd, IOCTL_PRIVCMD_HYPERCALL, &call), NONE);
    call.op = 63;
    row(g, "HYPERCALL unknown nr 63", ioctl(fd, IOCTL_PRIVCMD_HYPERCALL, &call), NONE);
    row(g, "HYPERCALL arg NULL", ioctl(fd, IOCTL_PRIVCMD_HYPERCALL, NULL), NONE);
    row(g, "RESTRICT arg NULL", ioctl(fd, IOCTL_PRIVCMD_RESTRICT, NULL), NONE);
    row(g, "MMAP arg NULL", ioctl(fd, IOCTL_PRIVCMD_MMAP, NULL), NONE);
    row(g, "MMAPBATCH arg NULL", ioctl(fd, IOCTL_PRIVCMD_MMAPBATCH, NULL), NONE);
    row(g, "MMAPBATCH_V2 arg NULL", ioctl(fd, IOCTL_PRIVCMD_MMAPBATCH_V2, NULL), NONE);
    row(g, "MMAP_RESOURCE arg NULL", ioctl(fd, IOCTL_PRIVCMD_MMAP_RESOURCE, NULL), NONE);
    row(g, "read(fd)", read(fd, &call, sizeof call), NONE);
    row(g, "write(fd)", write(fd, &call, sizeof call), NONE);

    other = open("/dev/xen/privcmd", O_RDONLY);
    row(g, "nr_vcpus on O_RDONLY fd", nr_vcpus(other, A, NULL), NONE);
    close(other);
    other = open("/proc/xen/privcmd", O_RDWR);
    rc = nr_vcpus(other, A, &vcpus);
    row(g, "nr_vcpus on /proc/xen/privcmd", rc, "vcpus=%u", vcpus);
    close(other);
    other = open("/dev/xen/hypercall", O_RDWR);
    row(g, "DM_OP on /dev/xen/hypercall", nr_vcpus(other, A, NULL), NONE);
    close(other);
    other = open("/dev/xen/evtchn", O_RDWR);
    row(g, "DM_OP on /dev/xen/evtchn", nr_vcpus(other, A, NULL), NONE);
    close(other);
    other = open("/dev/null", O_RDWR);
    row(g, "DM_OP on /dev/null", nr_vcpus(other, A, NULL), NONE);
    close(other);
    errno = 0;
    row(g, "DM_OP on a closed fd", nr_vcpus(other, A, NULL), NONE);
    row(g, "open /dev/xen/nothing", open("/dev/xen/nothing", O_RDWR), NONE);
}

static int dm_op_count(int on, domid_t dom, unsigned num)
{
    privcmd_dm_op_t call = {.dom = dom, .num = num, .ubufs = NULL};

    return ioctl(on, IOCTL_PRIVCMD_DM_OP, &call);
}

static void restricted(void)
{
    const char *g = "raw restrict";
    int r = open_privcmd(), fresh;
    xen_pfn_t gfn = 0;
    int err = 0;
    privcmd_mmap_resource_t res = {.dom = A, .type = XENMEM_resource_ioreq_server, .num = 1, .addr = 0x1000};
    privcmd_mmapbatch_v2_t batch = {.num = 1, .dom = B, .addr = 0x1000, .arr = &gfn, .err = &err};
    privcmd_mmapbatch_t batch1 = {.num = 1, .dom = B, .addr = 0x1000, .arr = &gfn};
    privcmd_mmap_entry_t entry = {.va = 0x1000, .mfn = 0, .npages = 1};
    privcmd_mmap_t mmap0 = {.num = 1, .dom = B, .entry = &entry};
    privcmd_hypercall_t call = {.op = __HYPERVISOR_xen_version, .arg = {XENVER_version}};

    row(g, "RESTRICT(A)", privcmd_restrict(r, A), NONE);
    row(g, "RESTRICT(A) again", privcmd_restrict(r, A), NONE);
    row(g, "RESTRICT(B) after A", privcmd_restrict(r, B), NONE);
    row(g, "RESTRICT(DOMID_INVALID) after A", privcmd_restrict(r, DOMID_INVALID), NONE);
    row(g, "restricted(A): nr_vcpus A", nr_vcpus(r, A, NULL), NONE);
    row(g, "restricted(A): nr_vcpus B", nr_vcpus(r, B, NULL), NONE);
    row(g, "restricted(A): nr_vcpus 999", nr_vcpus(r, NOBODY, NULL), NONE);
    row(g, "restricted(A): nr_vcpus DOMID_INVALID", nr_vcpus(r, DOMID_INVALID, NULL), NONE);
    row(g, "restricted(A): DM_OP num=0 dom=A", dm_op_count(r, A, 0), NONE);
    row(g, "restricted(A): DM_OP num=0 dom=B", dm_op_count(r, B, 0), NONE);
    row(g, "restricted(A): num=17 dom=B", dm_op_count(r, B, 17), NONE);
    row(g, "restricted(A): num=17 dom=A", dm_op_count(r, A, 17), NONE);
    row(g, "restricted(A): HYPERCALL xen_version", ioctl(r, IOCTL_PRIVCMD_HYPERCALL, &call), NONE);
    row(g, "restricted(A): HYPERCALL arg NULL", ioctl(r, IOCTL_PRIVCMD_HYPERCALL, NULL), NONE);
    row(g, "restricted(A): MMAP_RESOURCE dom=A (bad addr)", ioctl(r, IOCTL_PRIVCMD_MMAP_RESOURCE, &res), NONE);
    res.dom = B;
    row(g, "restricted(A): MMAP_RESOURCE dom=B", ioctl(r, IOCTL_PRIVCMD_MMAP_RESOURCE, &res), NONE);
    row(g, "restricted(A): MMAPBATCH_V2 dom=B", ioctl(r, IOCTL_PRIVCMD_MMAPBATCH_V2, &batch), NONE);
    row(g, "restricted(A): MMAPBATCH dom=B", ioctl(r, IOCTL_PRIVCMD_MMAPBATCH, &batch1), NONE);
    row(g, "restricted(A): MMAP dom=B", ioctl(r, IOCTL_PRIVCMD_MMAP, &mmap0), NONE);
    row(g, "restricted(A): UNIMPLEMENTED", ioctl(r, IOCTL_PRIVCMD_UNIMPLEMENTED, 0), NONE);
    fresh = open_privcmd();
    row(g, "fresh fd after other fd restricted: nr_vcpus B", nr_vcpus(fresh, B, NULL), NONE);
    close(r);

    r = open_privcmd();
    row(g, "RESTRICT(999)", privcmd_restrict(r, NOBODY), NONE);
    row(g, "restricted(999): nr_vcpus 999", nr_vcpus(r, NOBODY, NULL), NONE);
    row(g, "restricted(999): nr_vcpus A", nr_vcpus(r, A, NULL), NONE);
    close(r);
    /* DOMID_INVALID is how the driver spells "not restricted": setting it changes nothing. */
    row(g, "RESTRICT(DOMID_INVALID)", privcmd_restrict(fresh, DOMID_INVALID), NONE);
    row(g, "...then nr_vcpus A", nr_vcpus(fresh, A, NULL), NONE);
    row(g, "...then RESTRICT(A)", privcmd_restrict(fresh, A), NONE);
    row(g, "...then nr_vcpus B", nr_vcpus(fresh, B, NULL), NONE);
    close(fresh);
    r = open_privcmd();
    row(g, "RESTRICT(0)", privcmd_restrict(r, 0), NONE);
    row(g, "restricted(0): nr_vcpus 0", nr_vcpus(r, 0, NULL), NONE);
    row(g, "restricted(0): nr_vcpus A", nr_vcpus(r, A, NULL), NONE);
    close(r);
}

static void evtchn(void)
{
    const char *g = "raw evtchn";
    int e = open_device("/dev/xen/evtchn");
    struct ioctl_evtchn_notify notify = {.port = 12345};
    struct ioctl_evtchn_unbind unbind = {.port = 0xffffffff};
    char byte[4] = "";

    row(g, "read size 3", read(e, byte, 3), NONE);
    row(g, "write size 3", write(e, byte, 3), NONE);
    row(g, "ioctl unknown", ioctl(e, _IOC(_IOC_NONE, 'E', 99, 0), 0), NONE);
    row(g, "BIND_VIRQ NULL", ioctl(e, IOCTL_EVTCHN_BIND_VIRQ, NULL), NONE);
    row(g, "BIND_INTERDOMAIN NULL", ioctl(e, IOCTL_EVTCHN_BIND_INTERDOMAIN, NULL), NONE);
    row(g, "BIND_UNBOUND_PORT NULL", ioctl(e, IOCTL_EVTCHN_BIND_UNBOUND_PORT, NULL), NONE);
    row(g, "UNBIND NULL", ioctl(e, IOCTL_EVTCHN_UNBIND, NULL), NONE);
    row(g, "NOTIFY NULL", ioctl(e, IOCTL_EVTCHN_NOTIFY, NULL), NONE);
    row(g, "RESTRICT_DOMID NULL", ioctl(e, IOCTL_EVTCHN_RESTRICT_DOMID, NULL), NONE);
    row(g, "RESET", ioctl(e, IOCTL_EVTCHN_RESET, 0), NONE);
    row(g, "NOTIFY 12345", ioctl(e, IOCTL_EVTCHN_NOTIFY, &notify), NONE);
    notify.port = 0xffffffff;
    row(g, "NOTIFY 0xffffffff", ioctl(e, IOCTL_EVTCHN_NOTIFY, &notify), NONE);
    row(g, "UNBIND 0xffffffff", ioctl(e, IOCTL_EVTCHN_UNBIND, &unbind), NONE);
    unbind.port = 0;
    row(g, "UNBIND 0", ioctl(e, IOCTL_EVTCHN_UNBIND, &unbind), NONE);
    close(e);
}

int main(void)
{
    fd = open_privcmd();
    shapes();
    one_short();
    domains();
    misc();
    restricted();
    evtchn();
    return 0;
}
