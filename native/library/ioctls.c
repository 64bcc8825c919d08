/* Calls of a device file: which user memory each may touch, by the kernel's own structs. @spec linux:uapi/xen */
#include "library.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

int device_ioctl(int fd, ino_t file, unsigned long cmd, uint64_t arg)
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
