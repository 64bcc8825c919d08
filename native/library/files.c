/* Which descriptors are ours, what was opened under them, and the doorbells of event channel files. */
#include "library.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * The library's own descriptors stay out of the low numbers, which programs count on getting, and are not the program's
 * to close: one that closes all it does not know would have the library use whatever gets the number next.
 */
static bool own_descriptors[4096];

bool is_own(int fd)
{
    return fd >= 0 && (size_t)fd < ARRAY_SIZE(own_descriptors) && own_descriptors[fd];
}

/* False where neither this descriptor nor any above it is one of those. */
bool may_be_own(unsigned int fd)
{
    return fd < ARRAY_SIZE(own_descriptors);
}

int move_up(int fd)
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

void close_own(int fd)
{
    if (is_own(fd))
        own_descriptors[fd] = false;
    close(fd);
}

/* A doorbell rings one port of one evtchn file without asking the host: an eventfd that the host waits on. */
struct doorbell {
    ino_t file; /* the connection's inode number: an open file's identity in every process */
    uint32_t port;
    int eventfd;
    int fd; /* the descriptor it was bound through */
};

pthread_mutex_t tables_lock = PTHREAD_MUTEX_INITIALIZER;
static ino_t known_files[64];
static unsigned next_known_file;

static struct opened opened[4096];

struct opened *opened_as(int fd)
{
    static struct opened beyond;

    return fd >= 0 && (size_t)fd < ARRAY_SIZE(opened) ? &opened[fd] : &beyond;
}

void note_opened(int fd, struct opened as)
{
    if ((size_t)fd < ARRAY_SIZE(opened))
        opened[fd] = as;
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
ino_t file_of(int fd)
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

int doorbell_of(ino_t file, uint32_t port)
{
    int fd = -1;

    pthread_mutex_lock(&tables_lock);
    for (size_t i = 0; i < nr_doorbells && fd < 0; i++)
        if (doorbells[i].file == file && doorbells[i].port == port)
            fd = doorbells[i].eventfd;
    pthread_mutex_unlock(&tables_lock);
    return fd;
}

void drop_doorbell(ino_t file, uint32_t port)
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

void add_doorbell(int fd, ino_t file, uint32_t port, int eventfd)
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

bool is_device(int fd, ino_t *file)
{
    return (*file = file_of(fd)) != 0;
}
