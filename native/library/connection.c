/* Requests to the host and its answers. One connection of this process's own, on which the host answers, and one a file. */
#include "library.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock; /* held for a whole call: one at a time in a process */
    int fd;
    uint32_t id;
    uint32_t next_call;
    uint64_t token;
} process = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1 };

int connect_to_host(int extra_flags)
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

void add_block(struct call *call, uint64_t address, uint64_t size, uint32_t flags)
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

void no_host(void)
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
void release_answer(struct answer *answer)
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
int transact(int fd, struct call *call, struct answer *answer, bool may_carry_more)
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

int finish(int error, const struct postern_reply *reply)
{
    if (!error && reply->ret < 0)
        error = -reply->ret;
    if (!error)
        return reply->ret;
    errno = error;
    return -1;
}

/* In a child: the connection is the parent's; the child gets its own when it first needs one. */
void after_fork_connection(void)
{
    pthread_mutex_init(&process.lock, NULL);
    leave_host();
}
