/* Places where foreign frames or hypercall memory are mapped, and the mmap that makes them. */
#include "library.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct area *areas;
size_t nr_areas;

/* Called with tables_lock held. */
struct area *area_at(uintptr_t address)
{
    for (size_t i = 0; i < nr_areas; i++)
        if (address >= areas[i].start && address < areas[i].start + areas[i].pages * PAGE)
            return &areas[i];
    return NULL;
}

/* Forgets one area that overlaps the range; false where there is none. */
bool forget_area(uintptr_t start, size_t length, struct area *forgotten)
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

unsigned area_state(uintptr_t address, uint64_t pages)
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

/* A call whose reply may map frames at `address`; the state of the area there is in the request's flags. */
int transact_mapping(int fd, struct call *call, uint64_t address)
{
    struct answer answer;
    int error = transact(fd, call, &answer, true);

    if (!error && answer.runs)
        error = map_runs(address, answer.runs, answer.reply.nr_runs, answer.files, answer.nr_files);
    release_answer(&answer);
    return finish(error, &answer.reply);
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
void *device_mmap(void *address, size_t length, int prot, int flags, int fd)
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
