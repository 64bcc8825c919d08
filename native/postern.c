/*
 * The interposition library: stands for /dev/xen/{privcmd,evtchn,hypercall,...} in an unmodified program. An open file
 * is a connection to the host (protocol.h); its calls are carried there with the user memory they may touch, and the
 * host decides everything. No operation number of Xen's appears here. Some files the host hands over, as descriptors that
 * need nothing of us any more: xenbus, and what programs read in /proc/xen and /sys/hypervisor.
 *
 * User pointers are handed to the kernel (pwrite to a memory file, sendmsg, recvmsg), so a bad one comes back as EFAULT
 * and nothing crashes; only memory that is surely there (surely_mapped) is looked at directly. Which descriptors are ours is asked of the kernel too, never remembered by number: dup2
 * over one, which is how restricted programs give theirs up, needs no help.
 *
 * Environment: POSTERN_HOST, the host's socket; POSTERN_EXIT_WITH_HOST, set to anything, ends a program that finds the
 * host gone: a device model has nothing to live for then, and no process must stay behind a host that was killed.
 */
#define _GNU_SOURCE
#include "protocol.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define PAGE 4096ul
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* ---- the calls we stand in front of ---- */

static int (*real_open)(const char *, int, ...);
static int (*real_ioctl)(int, unsigned long, ...);
static void *(*real_mmap)(void *, size_t, int, int, int, off_t);
static int (*real_munmap)(void *, size_t);
static ssize_t (*real_read)(int, void *, size_t);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_close)(int);
static int (*real_faccessat)(int, const char *, int, int);

static struct sockaddr_un host_address;
static socklen_t host_address_length; /* 0: not running under a host */
static bool exit_with_host;
static pid_t own_pid;

static void after_fork_in_child(void);
static void forget_scratch(void);
static void learn_heap(void);
static void learn_stack(void);
static bool surely_mapped(uint64_t address, uint64_t size);

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("POSTERN_HOST");

    real_open = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    real_ioctl = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    real_mmap = (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
    real_munmap = (int (*)(void *, size_t))dlsym(RTLD_NEXT, "munmap");
    real_read = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    real_write = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    real_close = (int (*)(int))dlsym(RTLD_NEXT, "close");
    real_faccessat = (int (*)(int, const char *, int, int))dlsym(RTLD_NEXT, "faccessat");
    own_pid = getpid();
    exit_with_host = getenv("POSTERN_EXIT_WITH_HOST") != NULL;
    if (path && strlen(path) < sizeof(host_address.sun_path)) {
        host_address.sun_family = AF_UNIX;
        strcpy(host_address.sun_path, path);
        host_address_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
    }
    if (host_address_length) {
        learn_heap();
        learn_stack(); /* now, because for the main thread it reads a file, and the program may change its root */
    }
    pthread_atfork(NULL, NULL, after_fork_in_child);
}

/* ---- this process's own connection ---- */

static struct {
    pthread_mutex_t lock; /* held for a whole call: one at a time in a process */
    int fd;
    uint32_t id;
    uint32_t next_call;
    uint64_t token;
} process = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1 };

static int connect_to_host(int extra_flags)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | extra_flags, 0);

    if (fd < 0)
        return -1;
    if (connect(fd, (struct sockaddr *)&host_address, host_address_length) < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static int send_retrying(int fd, const struct msghdr *msg)
{
    for (;;) {
        if (sendmsg(fd, msg, MSG_NOSIGNAL) >= 0)
            return 0;
        if (errno == EAGAIN) {
            struct pollfd wait = { .fd = fd, .events = POLLOUT };
            poll(&wait, 1, -1);
        } else if (errno != EINTR) {
            return -1;
        }
    }
}

static ssize_t receive(int fd, struct msghdr *msg, int flags)
{
    ssize_t n;

    do
        n = recvmsg(fd, msg, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    return n;
}

/*
 * The library's own descriptors stay out of the low numbers, which programs count on getting, and are not the program's
 * to close: one that closes all it does not know would have the library use whatever gets the number next.
 */
static bool own_descriptors[4096];

static bool is_own(int fd)
{
    return fd >= 0 && (size_t)fd < ARRAY_SIZE(own_descriptors) && own_descriptors[fd];
}

static int move_up(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 700);

    if (high < 0)
        high = fd;
    else
        close(fd);
    if ((size_t)high < ARRAY_SIZE(own_descriptors))
        own_descriptors[high] = true;
    return high;
}

static void close_own(int fd)
{
    if (is_own(fd))
        own_descriptors[fd] = false;
    close(fd);
}

/* Called with process.lock held. */
static bool join_host(void)
{
    struct postern_request hello = { .magic = POSTERN_MAGIC, .kind = POSTERN_HELLO, .arg = POSTERN_VERSION };
    struct postern_reply reply;
    struct iovec iov = { &hello, sizeof hello };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    int fd;

    if (process.fd >= 0)
        return true;
    fd = connect_to_host(SOCK_CLOEXEC);
    if (fd < 0)
        return false;
    iov.iov_base = &hello;
    if (send_retrying(fd, &msg) < 0)
        goto fail;
    iov.iov_base = &reply;
    iov.iov_len = sizeof reply;
    if (receive(fd, &msg, 0) != (ssize_t)sizeof reply || reply.magic != POSTERN_MAGIC || reply.ret < 0)
        goto fail;
    process.fd = move_up(fd);
    process.id = reply.process;
    process.token = reply.token;
    return true;
fail:
    close(fd);
    return false;
}

static void leave_host(void)
{
    if (process.fd >= 0)
        close_own(process.fd);
    process.fd = -1;
}

/* ---- which descriptors are ours ---- */

/* A doorbell rings one port of one evtchn file without asking the host: an eventfd that the host waits on. */
struct doorbell {
    ino_t file; /* the connection's inode number: an open file's identity in every process */
    uint32_t port;
    int eventfd;
    int fd; /* the descriptor it was bound through */
};

static pthread_mutex_t tables_lock = PTHREAD_MUTEX_INITIALIZER;
static ino_t known_files[64];
static unsigned next_known_file;

/*
 * What this process opened under a descriptor, for the calls that a socket would answer otherwise than the device. Only a
 * hint for where to look: a descriptor that came from elsewhere has none, and one that was closed keeps it.
 */
enum { OPENED_NOTHING, OPENED_OTHER, OPENED_EVTCHN };
struct opened {
    unsigned char device;
    bool read_only;
};
static struct opened opened[4096];

static struct opened *opened_as(int fd)
{
    static struct opened beyond;

    return fd >= 0 && (size_t)fd < ARRAY_SIZE(opened) ? &opened[fd] : &beyond;
}

static struct doorbell *doorbells;
static size_t nr_doorbells;

static bool is_known(ino_t inode)
{
    for (size_t i = 0; i < ARRAY_SIZE(known_files); i++)
        if (__atomic_load_n(&known_files[i], __ATOMIC_RELAXED) == inode)
            return true;
    return false;
}

static void remember(ino_t inode)
{
    unsigned slot = __atomic_fetch_add(&next_known_file, 1, __ATOMIC_RELAXED) % ARRAY_SIZE(known_files);

    __atomic_store_n(&known_files[slot], inode, __ATOMIC_RELAXED);
}

/* The open file behind a descriptor, or 0 where it is none of ours. */
static ino_t file_of(int fd)
{
    struct stat st;
    struct sockaddr_un peer;
    socklen_t length = sizeof peer;
    int saved = errno;
    ino_t inode = 0;

    if (!host_address_length || fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
        goto out;
    if (is_known(st.st_ino)) {
        inode = st.st_ino;
        goto out;
    }
    memset(&peer, 0, sizeof peer);
    if (getpeername(fd, (struct sockaddr *)&peer, &length) == 0 && peer.sun_family == AF_UNIX &&
        !strcmp(peer.sun_path, host_address.sun_path)) {
        inode = st.st_ino;
        remember(inode);
    }
out:
    errno = saved;
    return inode;
}

static int doorbell_of(ino_t file, uint32_t port)
{
    int fd = -1;

    pthread_mutex_lock(&tables_lock);
    for (size_t i = 0; i < nr_doorbells && fd < 0; i++)
        if (doorbells[i].file == file && doorbells[i].port == port)
            fd = doorbells[i].eventfd;
    pthread_mutex_unlock(&tables_lock);
    return fd;
}

static void drop_doorbell(ino_t file, uint32_t port)
{
    pthread_mutex_lock(&tables_lock);
    for (size_t i = 0; i < nr_doorbells; i++)
        if (doorbells[i].file == file && doorbells[i].port == port) {
            close_own(doorbells[i].eventfd);
            doorbells[i--] = doorbells[--nr_doorbells];
        }
    pthread_mutex_unlock(&tables_lock);
}

/* Closing a file isn't seen here: give up the doorbells whose descriptor has become something else. */
static void sweep_doorbells(void)
{
    struct stat st;

    for (size_t i = 0; i < nr_doorbells; i++)
        if (fstat(doorbells[i].fd, &st) < 0 || st.st_ino != doorbells[i].file) {
            close_own(doorbells[i].eventfd);
            doorbells[i--] = doorbells[--nr_doorbells];
        }
}

static void add_doorbell(int fd, ino_t file, uint32_t port, int eventfd)
{
    struct doorbell *grown;

    drop_doorbell(file, port);
    pthread_mutex_lock(&tables_lock);
    sweep_doorbells();
    grown = realloc(doorbells, (nr_doorbells + 1) * sizeof *doorbells);
    if (grown) {
        doorbells = grown;
        doorbells[nr_doorbells++] = (struct doorbell){ file, port, eventfd, fd };
    } else {
        close_own(eventfd);
    }
    pthread_mutex_unlock(&tables_lock);
}

/* ---- places where foreign frames or hypercall memory are mapped ---- */

struct area {
    uintptr_t start;
    size_t pages;
    int prot;
    bool hypercall;         /* memory for hypercall arguments, not an mmap of privcmd */
    bool used;              /* something was mapped into it */
    unsigned char *mapped;  /* one byte a page: mapped, of a used privcmd area */
};

static struct area *areas;
static size_t nr_areas;

/* Called with tables_lock held. */
static struct area *area_at(uintptr_t address)
{
    for (size_t i = 0; i < nr_areas; i++)
        if (address >= areas[i].start && address < areas[i].start + areas[i].pages * PAGE)
            return &areas[i];
    return NULL;
}

/* Forgets one area that overlaps the range; false where there is none. */
static bool forget_area(uintptr_t start, size_t length, struct area *forgotten)
{
    bool found = false;

    pthread_mutex_lock(&tables_lock);
    for (size_t i = 0; i < nr_areas && !found; i++)
        if (areas[i].start < start + length && start < areas[i].start + areas[i].pages * PAGE) {
            *forgotten = areas[i];
            free(areas[i].mapped);
            areas[i] = areas[--nr_areas];
            found = true;
        }
    pthread_mutex_unlock(&tables_lock);
    return found;
}

static bool add_area(uintptr_t start, size_t pages, int prot, bool hypercall)
{
    struct area *grown, old;
    unsigned char *mapped = NULL;
    bool ok = false;

    while (forget_area(start, pages * PAGE, &old))
        ;
    if (!hypercall && !(mapped = calloc(pages, 1)))
        return false;
    pthread_mutex_lock(&tables_lock);
    grown = realloc(areas, (nr_areas + 1) * sizeof *areas);
    if (grown) {
        areas = grown;
        areas[nr_areas++] = (struct area){ start, pages, prot, hypercall, false, mapped };
        ok = true;
    }
    pthread_mutex_unlock(&tables_lock);
    if (!ok)
        free(mapped);
    return ok;
}

static unsigned area_state(uintptr_t address, uint64_t pages)
{
    struct area *area;
    unsigned state = POSTERN_AREA_NONE;

    pthread_mutex_lock(&tables_lock);
    area = area_at(address);
    if (area && !area->hypercall && !(address % PAGE)) {
        size_t first = (address - area->start) / PAGE;

        if (!area->used) {
            state = first != 0             ? POSTERN_AREA_FRESH_INSIDE
                    : pages == area->pages ? POSTERN_AREA_FRESH
                                           : POSTERN_AREA_FRESH_PART;
        } else if (pages <= area->pages - first) {
            state = POSTERN_AREA_HOLE;
            for (size_t i = 0; i < pages; i++)
                if (area->mapped[first + i])
                    state = POSTERN_AREA_MAPPED;
        } else {
            state = POSTERN_AREA_MAPPED;
        }
    }
    pthread_mutex_unlock(&tables_lock);
    return state;
}

/* Maps the frames of a reply over the area, with the protection it was mmapped with. */
static int map_runs(uintptr_t address, const struct postern_run *runs, uint32_t nr_runs, const int *files, int nr_files)
{
    int error = 0;

    pthread_mutex_lock(&tables_lock);
    struct area *area = area_at(address);
    for (uint32_t i = 0; area && i < nr_runs; i++) {
        uintptr_t at = address + runs[i].page * PAGE;
        size_t first = (at - area->start) / PAGE;

        if ((int)runs[i].file >= nr_files || first + runs[i].nr_pages > area->pages) {
            error = EINVAL;
            break;
        }
        if (real_mmap((void *)at, runs[i].nr_pages * PAGE, area->prot, MAP_SHARED | MAP_FIXED, files[runs[i].file],
                      (off_t)runs[i].frame * (off_t)PAGE) == MAP_FAILED) {
            error = errno;
            break;
        }
        if (area->mapped) {
            madvise((void *)at, runs[i].nr_pages * PAGE, MADV_DONTFORK); /* as the driver's own mappings */
            memset(area->mapped + first, 1, runs[i].nr_pages);
        }
    }
    if (area)
        area->used = true;
    pthread_mutex_unlock(&tables_lock);
    return error;
}

static void after_fork_in_child(void)
{
    own_pid = getpid();
    pthread_mutex_init(&process.lock, NULL);
    pthread_mutex_init(&tables_lock, NULL);
    forget_scratch();
    leave_host(); /* the parent's; the child gets its own when it first needs one */
}

/* ---- one call ---- */

struct call {
    struct postern_request request;
    struct postern_block blocks[POSTERN_MAX_BLOCKS];
};

static void add_block(struct call *call, uint64_t address, uint64_t size, uint32_t flags)
{
    if (call->request.nr_blocks < POSTERN_MAX_BLOCKS && size <= POSTERN_MAX_DATA)
        call->blocks[call->request.nr_blocks++] =
            (struct postern_block){ .address = address, .size = (uint32_t)size, .flags = flags };
}

/* Sends the request; a block that turns out not to be readable goes without its bytes. */
static int send_call(int fd, struct call *call)
{
    struct iovec iov[2 + POSTERN_MAX_BLOCKS];
    struct msghdr msg = { .msg_iov = iov };
    size_t total = 0;

    call->request.magic = POSTERN_MAGIC;
    call->request.process = process.id;
    call->request.token = process.token;
    call->request.call = ++process.next_call;
    iov[0] = (struct iovec){ &call->request, sizeof call->request };
    iov[1] = (struct iovec){ call->blocks, call->request.nr_blocks * sizeof call->blocks[0] };
    msg.msg_iovlen = 2;
    for (uint32_t i = 0; i < call->request.nr_blocks; i++) {
        struct postern_block *block = &call->blocks[i];

        if (!(block->flags & POSTERN_BLOCK_DATA))
            continue;
        total += block->size;
        if (total > POSTERN_MAX_DATA)
            block->flags &= ~POSTERN_BLOCK_DATA;
        else
            iov[msg.msg_iovlen++] = (struct iovec){ (void *)block->address, block->size };
    }
    if (send_retrying(fd, &msg) == 0)
        return 0;
    if (errno != EFAULT)
        return -1;
    for (uint32_t i = 0; i < call->request.nr_blocks; i++) { /* find the ones that fault, one by one */
        char byte;
        struct postern_block *block = &call->blocks[i];
        struct iovec local = { &byte, 1 }, remote;
        bool readable = true;

        for (uint64_t at = 0; readable && at < block->size; at = ((block->address + at) / PAGE + 1) * PAGE - block->address) {
            remote = (struct iovec){ (void *)(block->address + at), 1 };
            readable = process_vm_readv(own_pid, &local, 1, &remote, 1, 0) == 1;
        }
        if (!readable)
            block->flags &= ~POSTERN_BLOCK_DATA;
    }
    msg.msg_iovlen = 2;
    for (uint32_t i = 0; i < call->request.nr_blocks; i++)
        if (call->blocks[i].flags & POSTERN_BLOCK_DATA)
            iov[msg.msg_iovlen++] = (struct iovec){ (void *)call->blocks[i].address, call->blocks[i].size };
    return send_retrying(fd, &msg);
}

struct answer {
    struct postern_reply reply;
    int files[POSTERN_MAX_FILES];
    int nr_files;
    struct postern_run *runs; /* malloced */
};

static void collect_files(struct msghdr *msg, struct answer *answer)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        int n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (int i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + (size_t)i * sizeof fd, sizeof fd);
            if (answer->nr_files < POSTERN_MAX_FILES)
                answer->files[answer->nr_files++] = fd;
            else
                close(fd);
        }
    }
}

/*
 * Receives the answer, its bytes straight into the caller's buffers. The usual reply fits one receive: data for the
 * last block only. The others are looked at first.
 */
static int receive_answer(struct call *call, struct answer *answer, bool may_carry_more)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * POSTERN_MAX_FILES)];
    } control;
    struct iovec iov[3 + POSTERN_MAX_BLOCKS * 2] = { { &answer->reply, sizeof answer->reply } };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 1 };
    struct postern_out *out = NULL;

    if (may_carry_more) {
        if (receive(process.fd, &msg, MSG_PEEK) < (ssize_t)sizeof answer->reply)
            return EIO;
        if (answer->reply.nr_out > ARRAY_SIZE(iov) - 3)
            return EIO;
        if (answer->reply.nr_out) {
            out = alloca(answer->reply.nr_out * sizeof *out);
            iov[msg.msg_iovlen++] = (struct iovec){ out, answer->reply.nr_out * sizeof *out };
            if (receive(process.fd, &msg, MSG_PEEK) < 0)
                return EIO;
        }
        for (uint16_t i = 0; i < answer->reply.nr_out; i++) {
            if (out[i].block >= call->request.nr_blocks || out[i].length > call->blocks[out[i].block].size ||
                out[i].offset > call->blocks[out[i].block].size - out[i].length)
                return EIO;
            iov[msg.msg_iovlen++] =
                (struct iovec){ (char *)call->blocks[out[i].block].address + out[i].offset, out[i].length };
        }
        if (answer->reply.nr_out == 0 && answer->reply.length && call->request.nr_blocks) {
            struct postern_block *last = &call->blocks[call->request.nr_blocks - 1];

            if (answer->reply.length > last->size)
                return EIO;
            iov[msg.msg_iovlen++] = (struct iovec){ (void *)last->address, answer->reply.length };
        }
        if (answer->reply.nr_runs) {
            size_t bytes = answer->reply.nr_runs * sizeof *answer->runs;

            if (answer->reply.nr_runs > POSTERN_MAX_GFNS || !(answer->runs = malloc(bytes)))
                return ENOMEM;
            iov[msg.msg_iovlen++] = (struct iovec){ answer->runs, bytes };
        }
        msg.msg_control = control.space;
        msg.msg_controllen = sizeof control.space;
    } else if (call->request.nr_blocks &&
               call->blocks[call->request.nr_blocks - 1].flags & POSTERN_BLOCK_WRITABLE) {
        struct postern_block *last = &call->blocks[call->request.nr_blocks - 1];

        iov[msg.msg_iovlen++] = (struct iovec){ (void *)last->address, last->size };
    }
    ssize_t n = receive(process.fd, &msg, 0);
    if (n < 0 && errno == EFAULT) { /* unmapped since it was looked at: the call is done, its bytes have nowhere to go */
        answer->reply.call = call->request.call;
        return EFAULT;
    }
    if (n < (ssize_t)sizeof answer->reply)
        return EIO;
    if (may_carry_more)
        collect_files(&msg, answer);
    return 0;
}

static void no_host(void)
{
    static bool said;

    if (!said)
        fprintf(stderr, "postern: no connection to the host at %s: it has ended, or this process was forked after it "
                        "gave up the right to connect\n", host_address.sun_path);
    said = true;
    if (exit_with_host)
        _exit(1);
}

/* What every caller does with the descriptors and runs it was sent, once it has used them. */
static void release_answer(struct answer *answer)
{
    for (int i = 0; i < answer->nr_files; i++)
        close(answer->files[i]);
    free(answer->runs);
    answer->nr_files = 0;
    answer->runs = NULL;
}

/* A host that takes no more connections closes the new one; any other call it answers. */
static bool is_refused(int fd)
{
    struct pollfd p[2] = { { .fd = process.fd, .events = POLLIN }, { .fd = fd } };

    while (poll(p, 2, -1) < 0 && errno == EINTR)
        ;
    return !p[0].revents && p[1].revents & (POLLHUP | POLLERR);
}

/* One request and its answer. @return 0, or an errno of the transport; the call's own result is in the reply */
static int transact(int fd, struct call *call, struct answer *answer, bool may_carry_more)
{
    int error = 0;

    answer->nr_files = 0;
    answer->runs = NULL;
    pthread_mutex_lock(&process.lock);
    if (!join_host()) {
        no_host();
        error = EIO;
    } else if (send_call(fd < 0 ? process.fd : fd, call) < 0) {
        error = errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN ? EIO : errno;
        if (error == EIO && call->request.kind == POSTERN_OPEN)
            error = ENFILE;
    } else if (call->request.kind == POSTERN_OPEN && is_refused(fd)) {
        error = ENFILE;
    } else {
        error = receive_answer(call, answer, may_carry_more);
        if (error == EIO || (!error && (answer->reply.magic != POSTERN_MAGIC || answer->reply.call != call->request.call))) {
            leave_host(); /* whatever it was, it was no answer to this call */
            error = EIO;
        }
    }
    pthread_mutex_unlock(&process.lock);
    return error;
}

static int finish(int error, const struct postern_reply *reply)
{
    if (!error && reply->ret < 0)
        error = -reply->ret;
    if (!error)
        return reply->ret;
    errno = error;
    return -1;
}

/*
 * Copies from memory that may not be there: the kernel copies it into a memory file, which is mapped here. That is less
 * than half the cost of process_vm_readv.
 */
static struct {
    pthread_mutex_t lock;
    int fd;
    char *bytes;
} scratch = { PTHREAD_MUTEX_INITIALIZER, -1, NULL };

static void open_scratch(void)
{
    int fd = memfd_create("postern-scratch", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, PAGE) < 0)
        return;
    scratch.bytes = real_mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    if (scratch.bytes != MAP_FAILED)
        scratch.fd = move_up(fd);
}

/* After a fork: the parent goes on using it. */
static void forget_scratch(void)
{
    pthread_mutex_init(&scratch.lock, NULL);
    if (scratch.fd < 0)
        return;
    real_munmap(scratch.bytes, PAGE);
    close_own(scratch.fd);
    scratch.fd = -1;
}

static bool read_user(void *into, const void *from, size_t size)
{
    struct iovec local = { into, size }, remote = { (void *)from, size };
    bool ok = false;

    if (surely_mapped((uint64_t)(uintptr_t)from, size)) {
        memcpy(into, from, size);
        return true;
    }
    pthread_mutex_lock(&scratch.lock);
    if (scratch.fd < 0)
        open_scratch();
    if (scratch.fd >= 0 && size <= PAGE && (ok = pwrite(scratch.fd, from, size, 0) == (ssize_t)size))
        memcpy(into, scratch.bytes, size);
    pthread_mutex_unlock(&scratch.lock);
    return ok || (scratch.fd < 0 && process_vm_readv(own_pid, &local, 1, &remote, 1, 0) == (ssize_t)size);
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/*
 * Memory that is surely there and writable, so that it can be looked at without asking the kernel: this thread's stack
 * from here up, and the brk heap, where callers mostly keep an ioctl's arguments. Trimming the heap under a pointer that
 * isn't the caller's is the one thing that could still crash it.
 */
static uintptr_t heap_start;
static __thread uintptr_t stack_start, stack_end; /* the end is 1 where it isn't known */

static void learn_heap(void)
{
    char text[1024];
    int fd = real_open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : real_read(fd, text, sizeof text - 1);
    char *at = NULL;

    if (fd >= 0)
        close(fd);
    if (n > 0) {
        text[n] = 0;
        at = strrchr(text, ')'); /* behind it come fields 3 to 52; 47 is start_brk */
    }
    for (int field = 2; at && field < 47; field++)
        at = strchr(at + 1, ' ');
    heap_start = at ? strtoul(at + 1, NULL, 10) : 0;
}

static void learn_stack(void)
{
    pthread_attr_t attr;
    void *base;
    size_t size;

    stack_end = 1;
    if (pthread_getattr_np(pthread_self(), &attr))
        return;
    if (!pthread_attr_getstack(&attr, &base, &size)) {
        stack_start = (uintptr_t)base;
        stack_end = (uintptr_t)base + size;
    }
    pthread_attr_destroy(&attr);
}

static bool surely_mapped(uint64_t address, uint64_t size)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);

    if (size > (1ul << 20) || address + size < address)
        return false;
    if (heap_start && address >= heap_start && address + size <= (uintptr_t)sbrk(0))
        return true;
    if (!stack_end)
        learn_stack();
    return here >= stack_start && here < stack_end && address >= here && address + size <= stack_end;
}

/* A program that takes away parts of its heap or stack: from then on the kernel is asked about all of it. */
static void distrust(const void *address, size_t length)
{
    uintptr_t from = (uintptr_t)address, to = from + length;

    if (heap_start && from < (uintptr_t)sbrk(0) && to > heap_start)
        heap_start = 0;
    if (from < stack_end && to > stack_start)
        stack_start = stack_end = 1;
}

static bool populate(uint64_t address, uint64_t size)
{
    uint64_t start = address & ~(PAGE - 1);

    return madvise((void *)start, address + size - start, MADV_POPULATE_WRITE) == 0;
}

/* Would a kernel be able to pin these pages for writing? Linux before 5.14 can't say, and it is taken that it would. */
static bool writable(uint64_t address, uint64_t size)
{
    static int can_say = -1;
    struct area *area;

    if (size == 0 || surely_mapped(address, size))
        return true;
    if (can_say < 0)
        can_say = populate((uint64_t)(uintptr_t)&area, sizeof area);
    if (can_say && !populate(address, size))
        return false;
    if (!nr_areas)
        return true;
    pthread_mutex_lock(&tables_lock); /* foreign frames can't be pinned */
    area = area_at(address) ? area_at(address) : area_at(address + size - 1);
    pthread_mutex_unlock(&tables_lock);
    return !area || area->hypercall;
}

/* ---- the calls ---- */

/* A file that the host hands over takes the connection's place: the program uses it without us. */
static int take_over(int fd, int file, int flags)
{
    if (flags & O_NONBLOCK && fcntl(file, F_SETFL, fcntl(file, F_GETFL) | O_NONBLOCK) < 0)
        return -1;
    return dup3(file, fd, flags & O_CLOEXEC);
}

static int device_open(const char *device, int flags)
{
    struct call call = { .request = { .kind = POSTERN_OPEN } };
    struct answer answer;
    int result;
    bool handed;
    int fd = connect_to_host((flags & O_CLOEXEC ? SOCK_CLOEXEC : 0) | (flags & O_NONBLOCK ? SOCK_NONBLOCK : 0));

    if (fd < 0)
        return -1;
    add_block(&call, (uint64_t)(uintptr_t)device, strlen(device), POSTERN_BLOCK_DATA);
    result = finish(transact(fd, &call, &answer, true), &answer.reply);
    handed = answer.nr_files > 0;
    if (result >= 0 && handed)
        result = take_over(fd, answer.files[0], flags);
    if (result < 0) {
        int saved = errno;
        close(fd);
        release_answer(&answer);
        errno = saved;
        return -1;
    }
    release_answer(&answer);
    if ((size_t)fd < ARRAY_SIZE(opened))
        opened[fd] = (struct opened){ handed                      ? OPENED_NOTHING
                                      : strcmp(device, "evtchn") ? OPENED_OTHER
                                                                 : OPENED_EVTCHN,
                                      (flags & O_ACCMODE) == O_RDONLY };
    return fd;
}

/* Nested user memory of the ioctls that have any; their argument structs are Linux's. @spec linux:uapi/xen/privcmd.h */
#define PRIVCMD(nr, size) (((size) << 16) | ('P' << 8) | (nr))
#define PRIVCMD_MMAP PRIVCMD(2, 16)
#define PRIVCMD_MMAPBATCH PRIVCMD(3, 24)
#define PRIVCMD_MMAPBATCH_V2 PRIVCMD(4, 32)
#define PRIVCMD_DM_OP PRIVCMD(5, 16)
#define PRIVCMD_MMAP_RESOURCE PRIVCMD(7, 32)
#define EVTCHN(nr, size) (((size) << 16) | ('E' << 8) | (nr))
#define EVTCHN_BIND_VIRQ EVTCHN(0, 4)
#define EVTCHN_BIND_INTERDOMAIN EVTCHN(1, 8)
#define EVTCHN_BIND_UNBOUND_PORT EVTCHN(2, 4)
#define EVTCHN_UNBIND EVTCHN(3, 4)
#define EVTCHN_NOTIFY EVTCHN(4, 4)
#define EVTCHN_RESET EVTCHN(5, 0)

struct user_buffer {
    uint64_t address, size;
};

static int ioctl_dm_op(int fd, struct call *call, uint64_t arg)
{
    struct { uint16_t dom, num; uint32_t pad; uint64_t ubufs; } op;
    struct user_buffer buffers[16];
    struct answer answer;
    bool one = false;

    if (read_user(&op, (void *)arg, sizeof op) && op.num <= ARRAY_SIZE(buffers)) {
        add_block(call, op.ubufs, op.num * sizeof buffers[0], POSTERN_BLOCK_DATA);
        if (op.num && read_user(buffers, (void *)op.ubufs, op.num * sizeof buffers[0])) {
            for (unsigned i = 0; i < op.num; i++)
                add_block(call, buffers[i].address, buffers[i].size,
                          POSTERN_BLOCK_DATA | (writable(buffers[i].address, buffers[i].size) ? POSTERN_BLOCK_WRITABLE : 0));
            one = op.num == 1 && call->request.nr_blocks == 3;
        }
    }
    return finish(transact(fd, call, &answer, !one), &answer.reply);
}

/* A call whose reply may map frames at `address`; the state of the area there is in the request's flags. */
static int transact_mapping(int fd, struct call *call, uint64_t address)
{
    struct answer answer;
    int error = transact(fd, call, &answer, true);

    if (!error && answer.runs)
        error = map_runs(address, answer.runs, answer.reply.nr_runs, answer.files, answer.nr_files);
    release_answer(&answer);
    return finish(error, &answer.reply);
}

static int ioctl_mapping(int fd, struct call *call, uint64_t address, uint64_t pages)
{
    call->request.flags = (uint16_t)area_state(address, pages);
    return transact_mapping(fd, call, address);
}

static int ioctl_mmap(int fd, struct call *call, uint64_t arg)
{
    struct { int32_t num; uint16_t dom; uint64_t entries; } op;
    struct { uint64_t va, mfn, npages; } entry, last;

    if (read_user(&op, (void *)arg, sizeof op) && op.num > 0) {
        uint64_t size = (uint64_t)op.num * sizeof entry;

        add_block(call, op.entries, size, POSTERN_BLOCK_DATA);
        if (read_user(&entry, (void *)op.entries, sizeof entry) &&
            read_user(&last, (void *)(op.entries + size - sizeof last), sizeof last))
            return ioctl_mapping(fd, call, entry.va, (last.va - entry.va) / PAGE + last.npages);
    }
    return ioctl_mapping(fd, call, 0, 0);
}

struct batch {
    uint32_t num;
    uint16_t dom;
    uint64_t address, frames, errors;
};

static void add_batch_blocks(struct call *call, const struct batch *batch, bool v2)
{
    add_block(call, batch->frames, batch->num * 8ul, POSTERN_BLOCK_DATA | (v2 ? 0 : POSTERN_BLOCK_WRITABLE));
    if (v2)
        add_block(call, batch->errors, batch->num * 4ul,
                  writable(batch->errors, batch->num * 4ul) ? POSTERN_BLOCK_WRITABLE : 0);
}

/* Frames beyond what one message holds go in pieces: the kernel has no such bound, and libraries use big batches. */
static int ioctl_mmapbatch(int fd, struct call *call, uint64_t arg, bool v2)
{
    struct batch batch = { 0 };
    unsigned whole;
    int result = 0;

    if (!read_user(&batch, (void *)arg, v2 ? 32 : 24) || batch.num <= POSTERN_MAX_GFNS || (int32_t)batch.num < 0) {
        add_batch_blocks(call, &batch, v2);
        return ioctl_mapping(fd, call, batch.address, batch.num);
    }
    whole = area_state(batch.address, batch.num);
    for (uint32_t done = 0; done < batch.num && result == 0;) {
        struct call piece = { .request = call->request };
        struct batch part = batch;

        part.num = batch.num - done > POSTERN_MAX_GFNS ? POSTERN_MAX_GFNS : batch.num - done;
        part.address = batch.address + done * PAGE;
        part.frames = batch.frames + done * 8ul;
        part.errors = batch.errors + done * 4ul;
        piece.request.nr_blocks = 0;
        piece.request.flags = (uint16_t)whole;
        piece.request.arg = (uint64_t)(uintptr_t)&part;
        add_block(&piece, (uint64_t)(uintptr_t)&part, v2 ? 32 : 24, POSTERN_BLOCK_DATA);
        add_batch_blocks(&piece, &part, v2);
        result = transact_mapping(fd, &piece, part.address);
        done += part.num;
    }
    return result;
}

static int ioctl_bind(int fd, ino_t file, struct call *call)
{
    struct answer answer;
    int error = transact(fd, call, &answer, true);
    int port = finish(error, &answer.reply);

    if (port >= 0 && answer.nr_files > 0) {
        add_doorbell(fd, file, (uint32_t)port, move_up(answer.files[0]));
        answer.files[0] = answer.files[--answer.nr_files];
    }
    release_answer(&answer);
    return port;
}

static int ioctl_notify(int fd, ino_t file, struct call *call, uint64_t arg)
{
    struct answer answer;
    uint32_t port;
    uint64_t one = 1;

    if (read_user(&port, (void *)arg, sizeof port)) {
        int bell = doorbell_of(file, port);

        if (bell >= 0 && real_write(bell, &one, sizeof one) == sizeof one)
            return 0;
    }
    return finish(transact(fd, call, &answer, false), &answer.reply);
}

static int device_ioctl(int fd, ino_t file, unsigned long cmd, uint64_t arg)
{
    struct call call = { .request = { .kind = POSTERN_IOCTL, .cmd = (uint32_t)cmd, .arg = arg } };
    size_t size = (cmd >> 16) & 0x3fff;
    struct answer answer;
    int result;

    if (size)
        add_block(&call, arg, size, POSTERN_BLOCK_DATA);
    switch ((uint32_t)cmd) {
    case PRIVCMD_DM_OP:
        return ioctl_dm_op(fd, &call, arg);
    case PRIVCMD_MMAP:
        return ioctl_mmap(fd, &call, arg);
    case PRIVCMD_MMAPBATCH:
        return ioctl_mmapbatch(fd, &call, arg, false);
    case PRIVCMD_MMAPBATCH_V2:
        return ioctl_mmapbatch(fd, &call, arg, true);
    case PRIVCMD_MMAP_RESOURCE: {
        struct { uint16_t dom; uint32_t type, id, idx; uint64_t num, address; } op = { 0 };

        call.blocks[0].flags |= POSTERN_BLOCK_WRITABLE; /* the size query answers in place */
        read_user(&op, (void *)arg, sizeof op);
        return ioctl_mapping(fd, &call, op.address, op.num);
    }
    case EVTCHN_BIND_VIRQ:
    case EVTCHN_BIND_INTERDOMAIN:
    case EVTCHN_BIND_UNBOUND_PORT:
        return ioctl_bind(fd, file, &call);
    case EVTCHN_NOTIFY:
        return ioctl_notify(fd, file, &call, arg);
    case EVTCHN_UNBIND: {
        uint32_t port;

        if (read_user(&port, (void *)arg, sizeof port))
            drop_doorbell(file, port);
        break;
    }
    case EVTCHN_RESET:
        result = finish(transact(fd, &call, &answer, false), &answer.reply);
        if (result == 0) { /* drop what is queued for the program */
            char port[4];
            while (recv(fd, port, sizeof port, MSG_DONTWAIT) > 0)
                ;
        }
        return result;
    default:
        break;
    }
    return finish(transact(fd, &call, &answer, true), &answer.reply);
}

/* mmap of /dev/xen/hypercall: memory that the host can follow pointers into. */
static void *mmap_hypercall(int fd, uintptr_t at, size_t pages, int prot)
{
    struct call call = { .request = { .kind = POSTERN_MMAP, .arg = at, .cmd = (uint32_t)pages } };
    struct area area;
    int saved;

    if (pages >> 20 || !add_area(at, pages, prot, true))
        errno = ENOMEM;
    else if (transact_mapping(fd, &call, at) >= 0)
        return (void *)at;
    saved = errno;
    forget_area(at, pages * PAGE, &area);
    real_munmap((void *)at, pages * PAGE);
    errno = saved;
    return MAP_FAILED;
}

/* An empty file: what nothing has been mapped into yet is SIGBUS to touch, as with the driver. */
static int empty_file(void)
{
    static int fd = -1;

    pthread_mutex_lock(&tables_lock);
    if (fd < 0 && (fd = memfd_create("postern-unmapped", MFD_CLOEXEC)) >= 0)
        fd = move_up(fd);
    pthread_mutex_unlock(&tables_lock);
    return fd;
}

/* An mmap of one of our files: reserve the place, and for hypercall memory fill it at once. */
static void *device_mmap(void *address, size_t length, int prot, int flags, int fd)
{
    struct call call = { .request = { .kind = POSTERN_MMAP, .arg = 0, .cmd = 0 } };
    size_t pages = (length + PAGE - 1) / PAGE;
    struct answer answer;
    int kind, empty;
    void *at;

    /* cmd 0 asks what an mmap of this file is: 0 an area for foreign frames, 1 hypercall memory */
    kind = finish(transact(fd, &call, &answer, true), &answer.reply);
    if (kind < 0)
        return MAP_FAILED;
    if (opened_as(fd)->read_only && flags & MAP_SHARED && prot & PROT_WRITE) {
        errno = EACCES;
        return MAP_FAILED;
    }
    empty = empty_file();
    if (empty < 0)
        return MAP_FAILED;
    at = real_mmap(address, length, prot, MAP_SHARED | MAP_NORESERVE | (flags & MAP_FIXED), empty, 0);
    if (at == MAP_FAILED)
        return at;
    if (kind == 1)
        return mmap_hypercall(fd, (uintptr_t)at, pages, prot);
    madvise(at, length, MADV_DONTFORK);
    if (!add_area((uintptr_t)at, pages, prot, false)) {
        real_munmap(at, length);
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return at;
}

/* ---- what the program calls ---- */

/*
 * The device that a path names, or NULL; what is not memory is left for the kernel to refuse.
 * @param copy the path, as far as it matters
 */
static const char *device_name(const char *path, char (*copy)[64])
{
    /* each with what of it the name leaves out */
    static const struct { const char *path; size_t skipped; } prefixes[] = {
        { "/dev/xen/", 9 }, { "/proc/xen/", 10 }, { "/sys/hypervisor/", 5 },
    };
    struct iovec local = { *copy, sizeof *copy - 1 }, remote = { (void *)path, sizeof *copy - 1 };
    ssize_t n;

    if (!host_address_length)
        return NULL;
    n = process_vm_readv(own_pid, &local, 1, &remote, 1, 0);
    if (n <= 0 || ((size_t)n < local.iov_len && !memchr(*copy, 0, (size_t)n)))
        return NULL;
    (*copy)[n] = 0;
    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
        if (!strncmp(*copy, prefixes[i].path, strlen(prefixes[i].path)))
            return *copy + prefixes[i].skipped;
    return NULL;
}

static bool is_device(int fd, ino_t *file)
{
    return (*file = file_of(fd)) != 0;
}

/* What there is to be found by programs that look before they open, and what it is. */
static const struct node {
    const char *path;
    mode_t mode;
} nodes[] = {
    { "/dev/xen/privcmd", S_IFCHR | 0600 },   { "/dev/xen/evtchn", S_IFCHR | 0600 },
    { "/dev/xen/hypercall", S_IFCHR | 0600 }, { "/dev/xen/gntdev", S_IFCHR | 0600 },
    { "/dev/xen/xenbus", S_IFCHR | 0600 },    { "/proc/xen/privcmd", S_IFREG | 0600 },
    { "/proc/xen/xenbus", S_IFREG | 0600 },   { "/proc/xen/xsd_kva", S_IFREG | 0600 },
    { "/proc/xen/xsd_port", S_IFREG | 0600 }, { "/proc/xen/capabilities", S_IFREG | 0444 },
    { "/sys/hypervisor/type", S_IFREG | 0444 },
    { "/sys/hypervisor/version/major", S_IFREG | 0444 },
    { "/sys/hypervisor/version/minor", S_IFREG | 0444 },
    { "/sys/hypervisor/version/extra", S_IFREG | 0444 },
};

/* The node that a path names, or NULL. */
static const struct node *node_at(const char *path)
{
    char copy[64];

    if (device_name(path, &copy))
        for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
            if (!strcmp(copy, nodes[i].path))
                return &nodes[i];
    return NULL;
}

static int node_access(const struct node *node, int mode)
{
    bool owner = geteuid() == 0;

    if ((mode & X_OK) || (mode & W_OK && !(owner && node->mode & 0200)) || (mode & R_OK && !owner && !(node->mode & 4))) {
        errno = EACCES;
        return -1;
    }
    return 0;
}

static int node_stat(const struct node *node, struct stat *st)
{
    struct stat filled = { .st_mode = node->mode, .st_nlink = 1, .st_blksize = (blksize_t)PAGE };

    filled.st_ino = (ino_t)(node - nodes) + 1;
    if (S_ISCHR(node->mode))
        filled.st_rdev = makedev(10, 100 + (unsigned)(node - nodes)); /* a misc device of some number */
    *st = filled;
    return 0;
}

EXPORT int open(const char *path, int flags, ...)
{
    char copy[64];
    const char *device = device_name(path, &copy);
    mode_t mode = 0;

    if (device)
        return device_open(device, flags);
    if (__OPEN_NEEDS_MODE(flags)) {
        va_list ap;
        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
    }
    if (!real_open)
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    return real_open(path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...) __attribute__((alias("open")));

EXPORT int openat(int directory, const char *path, int flags, ...)
{
    char copy[64];
    const char *device = device_name(path, &copy);
    mode_t mode = 0;

    if (device)
        return device_open(device, flags);
    if (__OPEN_NEEDS_MODE(flags)) {
        va_list ap;
        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
    }
    return (int)syscall(SYS_openat, directory, path, flags, mode);
}

EXPORT int openat64(int directory, const char *path, int flags, ...) __attribute__((alias("openat")));

EXPORT int __openat_2(int directory, const char *path, int flags)
{
    return openat(directory, path, flags);
}

EXPORT int __openat64_2(int directory, const char *path, int flags)
{
    return openat(directory, path, flags);
}

EXPORT int fstatat(int directory, const char *path, struct stat *st, int flags)
{
    const struct node *node = node_at(path);

    return node ? node_stat(node, st) : (int)syscall(SYS_newfstatat, directory, path, st, flags);
}

EXPORT int stat(const char *path, struct stat *st)
{
    return fstatat(AT_FDCWD, path, st, 0);
}

EXPORT int lstat(const char *path, struct stat *st)
{
    return fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

/* On x86-64 the two structs are the same. */
struct stat64;
EXPORT int fstatat64(int directory, const char *path, struct stat64 *st, int flags)
{
    return fstatat(directory, path, (struct stat *)st, flags);
}

EXPORT int stat64(const char *path, struct stat64 *st)
{
    return stat(path, (struct stat *)st);
}

EXPORT int lstat64(const char *path, struct stat64 *st)
{
    return lstat(path, (struct stat *)st);
}

/* As programs that were built with an older libc call them. */
EXPORT int __xstat(int version, const char *path, struct stat *st)
{
    (void)version;
    return stat(path, st);
}

EXPORT int __xstat64(int version, const char *path, struct stat *st) __attribute__((alias("__xstat")));

EXPORT int access(const char *path, int mode)
{
    const struct node *node = node_at(path);

    return node ? node_access(node, mode) : (int)syscall(SYS_access, path, mode);
}

EXPORT int faccessat(int directory, const char *path, int mode, int flags)
{
    const struct node *node = node_at(path);

    if (node)
        return node_access(node, mode);
    if (!real_faccessat) {
        errno = ENOSYS;
        return -1;
    }
    return real_faccessat(directory, path, mode, flags);
}

EXPORT int __open_2(const char *path, int flags)
{
    return open(path, flags);
}

EXPORT int __open64_2(const char *path, int flags)
{
    return open(path, flags);
}

EXPORT int ioctl(int fd, unsigned long cmd, ...)
{
    unsigned char type = (unsigned char)(cmd >> 8);
    ino_t file;
    va_list ap;
    void *arg;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    if ((type == 'P' || type == 'E' || type == 'G') && is_device(fd, &file))
        return device_ioctl(fd, file, cmd, (uint64_t)(uintptr_t)arg);
    return real_ioctl ? real_ioctl(fd, cmd, arg) : (int)syscall(SYS_ioctl, fd, cmd, arg);
}

EXPORT int close(int fd)
{
    if (is_own(fd)) {
        errno = EBADF;
        return -1;
    }
    return real_close ? real_close(fd) : (int)syscall(SYS_close, fd);
}

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

EXPORT int close_range(unsigned int first, unsigned int last, int flags)
{
    for (unsigned int own = 0; own < ARRAY_SIZE(own_descriptors); own++) {
        if (!own_descriptors[own] || own < first || own > last)
            continue;
        if (own > first && syscall(SYS_close_range, first, own - 1, flags) < 0)
            return -1;
        first = own + 1;
    }
    return first > last ? 0 : (int)syscall(SYS_close_range, first, last, flags);
}

EXPORT void closefrom(int low)
{
    if (close_range(low < 0 ? 0 : (unsigned int)low, ~0u, 0) == 0 || errno != ENOSYS)
        return;
    for (long fd = low < 0 ? 0 : low; fd < sysconf(_SC_OPEN_MAX); fd++)
        close((int)fd);
}

EXPORT void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
    ino_t file;

    if (fd >= 0 && host_address_length && real_mmap && is_device(fd, &file))
        return device_mmap(address, length, prot, flags, fd);
    if (flags & MAP_FIXED)
        distrust(address, length);
    if (!real_mmap)
        return (void *)syscall(SYS_mmap, address, length, prot, flags, fd, offset);
    return real_mmap(address, length, prot, flags, fd, offset);
}

EXPORT void *mmap64(void *address, size_t length, int prot, int flags, int fd, off_t offset)
    __attribute__((alias("mmap")));

EXPORT int mprotect(void *address, size_t length, int prot)
{
    if ((prot & (PROT_READ | PROT_WRITE)) != (PROT_READ | PROT_WRITE))
        distrust(address, length);
    return (int)syscall(SYS_mprotect, address, length, prot);
}

/* Areas are forgotten whole, also where only a part is unmapped: nothing more can be mapped into what is left. */
EXPORT int munmap(void *address, size_t length)
{
    struct area gone;
    int saved = errno;

    distrust(address, length);
    while (nr_areas && forget_area((uintptr_t)address, length, &gone)) {
        struct call call = { .request = { .kind = POSTERN_MUNMAP, .arg = gone.start, .cmd = (uint32_t)gone.pages } };
        struct answer answer;

        if (gone.hypercall || gone.used)
            transact(-1, &call, &answer, true);
    }
    errno = saved;
    return real_munmap ? real_munmap(address, length) : (int)syscall(SYS_munmap, address, length);
}

/*
 * Reads and writes go to the kernel as they are, but for what a socket would answer otherwise than the device: only
 * evtchn can be read and written, in whole ports; a transfer that isn't a multiple of 4 bytes is cut down.
 * @return 0, or an errno
 */
static int check_transfer(int fd, size_t *size)
{
    unsigned char device = opened_as(fd)->device;
    ino_t file;

    if (device == OPENED_NOTHING || (device == OPENED_EVTCHN && *size && !(*size & 3)) || !is_device(fd, &file))
        return 0;
    if (device == OPENED_OTHER)
        return EINVAL;
    *size &= ~3ul;
    return 0;
}

/*
 * A read of evtchn that a socket would answer otherwise: several ports at once come one packet each, and an event stays
 * where the buffer is no user memory at all (one that is merely unmapped loses it).
 */
static ssize_t read_ports(int fd, char *buffer, size_t size)
{
    uint64_t at = (uint64_t)(uintptr_t)buffer;
    ssize_t n, more;
    char port[4];

    if (at < 0x10000 || at >= 0x7ffffffff000) {
        n = recv(fd, port, sizeof port, MSG_PEEK);
        if (n > 0)
            errno = EFAULT;
        return n > 0 ? -1 : n;
    }
    n = real_read(fd, buffer, size);
    while (n > 0 && (size_t)n < size && n < 4096) {
        more = recv(fd, buffer + n, 4, MSG_DONTWAIT);
        if (more <= 0)
            break;
        n += more;
    }
    return n;
}

EXPORT ssize_t read(int fd, void *buffer, size_t size)
{
    size_t whole = size;
    int error = check_transfer(fd, &whole);
    ino_t file;
    ssize_t n;

    if (error) {
        errno = error;
        return -1;
    }
    if (!whole && size)
        return 0;
    if (opened_as(fd)->device == OPENED_EVTCHN && (whole != 4 || !buffer) && whole && is_device(fd, &file))
        return read_ports(fd, buffer, whole);
    n = real_read ? real_read(fd, buffer, whole) : syscall(SYS_read, fd, buffer, whole);
    if (n == 0 && whole && opened_as(fd)->device == OPENED_EVTCHN && is_device(fd, &file))
        no_host();
    return n;
}

EXPORT ssize_t write(int fd, const void *buffer, size_t size)
{
    size_t whole = size;
    int error = check_transfer(fd, &whole);

    if (error) {
        errno = error;
        return -1;
    }
    if (!whole && opened_as(fd)->device == OPENED_EVTCHN)
        return 0; /* nothing, where a socket would send an empty packet */
    return real_write ? real_write(fd, buffer, whole) : syscall(SYS_write, fd, buffer, whole);
}
