/*
 * What the parts of the interposition library know of each other. Everything here stays inside the library.
 *
 *     exports.c      what the program calls, and how the library starts
 *     paths.c        which paths name something of ours; opening it
 *     files.c        which descriptors are ours; doorbells
 *     areas.c        places where frames are mapped; mmap of a device
 *     ioctls.c       calls of a device, with the user memory they may touch
 *     connection.c   requests to the host and its answers
 *     user-memory.c  memory of the program's that may not be there
 */
#ifndef POSTERN_LIBRARY_H
#define POSTERN_LIBRARY_H
#define _GNU_SOURCE
#include "../protocol.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>

#define PAGE 4096ul
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* ---- exports.c: the calls we stand in front of, and what is known from the start ---- */

extern int (*real_open)(const char *, int, ...);
extern int (*real_ioctl)(int, unsigned long, ...);
extern void *(*real_mmap)(void *, size_t, int, int, int, off_t);
extern int (*real_munmap)(void *, size_t);
extern ssize_t (*real_read)(int, void *, size_t);
extern ssize_t (*real_write)(int, const void *, size_t);
extern int (*real_close)(int);

extern struct sockaddr_un host_address;
extern socklen_t host_address_length; /* 0: not running under a host */
extern bool exit_with_host;
extern pid_t own_pid;

/* ---- connection.c ---- */

struct call {
    struct postern_request request;
    struct postern_block blocks[POSTERN_MAX_BLOCKS];
};

struct answer {
    struct postern_reply reply;
    int files[POSTERN_MAX_FILES];
    int nr_files;
    struct postern_run *runs; /* malloced */
};

int connect_to_host(int extra_flags);
void after_fork_connection(void);
void add_block(struct call *call, uint64_t address, uint64_t size, uint32_t flags);
int transact(int fd, struct call *call, struct answer *answer, bool may_carry_more);
int finish(int error, const struct postern_reply *reply);
void release_answer(struct answer *answer);
void no_host(void);

/* ---- files.c ---- */

/*
 * What this process opened under a descriptor, for the calls that a socket would answer otherwise than the device. Only a
 * hint for where to look: a descriptor that came from elsewhere has none, and one that was closed keeps it.
 */
enum { OPENED_NOTHING, OPENED_OTHER, OPENED_EVTCHN };
struct opened {
    unsigned char device;
    bool read_only;
};

bool is_own(int fd);
bool may_be_own(unsigned int fd);
int move_up(int fd);
void close_own(int fd);
struct opened *opened_as(int fd);
void note_opened(int fd, struct opened as);
ino_t file_of(int fd);
bool is_device(int fd, ino_t *file);
int doorbell_of(ino_t file, uint32_t port);
void drop_doorbell(ino_t file, uint32_t port);
void add_doorbell(int fd, ino_t file, uint32_t port, int eventfd);

/* Of the tables here and in areas.c. */
extern pthread_mutex_t tables_lock;

/* ---- areas.c ---- */

struct area {
    uintptr_t start;
    size_t pages;
    int prot;
    bool hypercall;         /* memory for hypercall arguments, not an mmap of privcmd */
    bool used;              /* something was mapped into it */
    unsigned char *mapped;  /* one byte a page: mapped, of a used privcmd area */
};

extern size_t nr_areas;

struct area *area_at(uintptr_t address); /* with tables_lock held */
bool forget_area(uintptr_t start, size_t length, struct area *forgotten);
unsigned area_state(uintptr_t address, uint64_t pages);
int transact_mapping(int fd, struct call *call, uint64_t address);
void *device_mmap(void *address, size_t length, int prot, int flags, int fd);

/* ---- user-memory.c ---- */

bool read_user(void *into, const void *from, size_t size);
bool writable(uint64_t address, uint64_t size);
void distrust(const void *address, size_t length);
void forget_scratch(void);
void learn_heap(void);
void learn_stack(void);

/* ---- ioctls.c, paths.c ---- */

int device_ioctl(int fd, ino_t file, unsigned long cmd, uint64_t arg);

struct node;
const char *device_name(const char *path, char (*copy)[64]);
int device_open(const char *device, int flags);
const struct node *node_at(const char *path);
int node_access(const struct node *node, int mode);
int node_stat(const struct node *node, struct stat *st);

#endif
