/*
 * The connection protocol between the interposition library and the host (src/host/protocol.ts; a test compares the
 * two). Transport: Unix SOCK_SEQPACKET, one message a packet, little endian.
 *
 * A process has one connection of its own, on which the host answers (POSTERN_HELLO), and one connection for each open
 * file, on which it asks. The token, which only the process and the host know, tells the host where to answer: so a
 * file can be used from every process that holds a descriptor of it, and answers never get mixed up.
 *
 * On an evtchn file's connection the program itself also reads (packets of one 32-bit port, from the host) and writes
 * (packets of 32-bit ports to unmask); they can't be mistaken for a request, because no port is POSTERN_MAGIC.
 */
#ifndef POSTERN_PROTOCOL_H
#define POSTERN_PROTOCOL_H
#include <stdint.h>

#define POSTERN_MAGIC 0x6e727450u /* "Ptrn" */
#define POSTERN_VERSION 1u

/* Kinds of request. */
#define POSTERN_HELLO 1u  /* first on a process's own connection; arg: version */
#define POSTERN_OPEN 2u   /* first on a file's connection; block 0: the device's name. A descriptor in the answer is the
                             file from then on (a stream, a memory file), and the connection has no more use */
#define POSTERN_IOCTL 3u  /* cmd and arg as ioctl's; blocks: the user memory it may touch */
#define POSTERN_MMAP 4u   /* of /dev/xen/hypercall: arg is the address, cmd the number of pages */
#define POSTERN_MUNMAP 5u /* on the process's own connection, of any area; the same arguments */

/* Request flags: what the caller's address space holds where a mapping call wants to map. */
#define POSTERN_AREA_MASK 7u
#define POSTERN_AREA_NONE 0u
#define POSTERN_AREA_FRESH 1u
#define POSTERN_AREA_FRESH_PART 2u /* at its start, but not the whole of it */
#define POSTERN_AREA_HOLE 3u
#define POSTERN_AREA_MAPPED 4u
#define POSTERN_AREA_FRESH_INSIDE 5u /* not at its start */

struct postern_request {
    uint32_t magic;
    uint16_t kind;
    uint16_t flags;
    uint32_t process;  /* from the answer to HELLO; 0 in HELLO itself */
    uint32_t call;     /* comes back in the reply */
    uint64_t token;    /* from the answer to HELLO */
    uint64_t arg;
    uint32_t cmd;
    uint32_t nr_blocks;
};

/* Block flags. A range of user memory that the call may touch; those with DATA are appended in order. */
#define POSTERN_BLOCK_DATA 1u     /* its bytes follow (readable) */
#define POSTERN_BLOCK_WRITABLE 2u /* the host may answer with bytes for it */

#define POSTERN_MAX_BLOCKS 24
#define POSTERN_MAX_DATA 0x20000 /* bytes of all blocks of one request */

struct postern_block {
    uint64_t address;
    uint32_t size;
    uint32_t flags;
};

/* Reply flags. */
#define POSTERN_REPLY_SCATTERED 1u /* nr_out entries of struct postern_out come before the data */

/*
 * Without SCATTERED, `length` bytes of data belong to the start of the last block: the usual answer, received straight
 * into the caller's buffer. With it, entries say where each piece belongs.
 */
struct postern_reply {
    uint32_t magic;
    uint32_t call;
    int32_t ret; /* 0 or positive, or a negated errno */
    uint16_t flags;
    uint16_t nr_out;
    uint32_t nr_runs; /* struct postern_run entries follow the data: mappings to make, their files attached */
    uint32_t length;  /* bytes of data */
    uint32_t process; /* answer to HELLO */
    uint32_t reserved;
    uint64_t token; /* answer to HELLO */
};

struct postern_out {
    uint32_t block;
    uint32_t offset;
    uint32_t length;
};

/* Consecutive pages to map at `page` pages from the call's address. */
struct postern_run {
    uint32_t page;
    uint32_t nr_pages;
    uint32_t file; /* index among the descriptors attached */
    uint32_t frame; /* in pages from the file's start */
};

#define POSTERN_MAX_FILES 64 /* descriptors of one reply */
#define POSTERN_MAX_GFNS 8192 /* frames of one mapping request; longer ones are sent in pieces */

#endif
