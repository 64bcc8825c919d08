/* Memory of the program's: read without trusting that it is there, and whether a kernel could write to it. */
#include "library.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * Memory that is surely there and writable, so that it can be looked at without asking the kernel: this thread's stack
 * from here up, and the brk heap, where callers mostly keep an ioctl's arguments. Trimming the heap under a pointer that
 * isn't the caller's is the one thing that could still crash it.
 */
static uintptr_t heap_start;
static __thread uintptr_t stack_start, stack_end; /* the end is 1 where it isn't known */

void learn_heap(void)
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

void learn_stack(void)
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
void distrust(const void *address, size_t length)
{
    uintptr_t from = (uintptr_t)address, to = from + length;

    if (heap_start && from < (uintptr_t)sbrk(0) && to > heap_start)
        heap_start = 0;
    if (from < stack_end && to > stack_start)
        stack_start = stack_end = 1;
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
void forget_scratch(void)
{
    pthread_mutex_init(&scratch.lock, NULL);
    if (scratch.fd < 0)
        return;
    real_munmap(scratch.bytes, PAGE);
    close_own(scratch.fd);
    scratch.fd = -1;
}

bool read_user(void *into, const void *from, size_t size)
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

static bool populate(uint64_t address, uint64_t size)
{
    uint64_t start = address & ~(PAGE - 1);

    return madvise((void *)start, address + size - start, MADV_POPULATE_WRITE) == 0;
}

/* Would a kernel be able to pin these pages for writing? Linux before 5.14 can't say, and it is taken that it would. */
bool writable(uint64_t address, uint64_t size)
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
