/* SPDX-License-Identifier: MIT
 *
 * /dev/xen/xenbus as a program finds it: what its reads and writes answer, and whose replies, transactions and watches
 * are whose. Needs a XenStore daemon that is up, and no domains.
 */
#include "oracle.h"

#include <poll.h>
#include <sys/stat.h>
#include <xen/io/xs_wire.h>

#define NONE "%s", ""
#define XENBUS "/dev/xen/xenbus"
#define HOME "/oracle"

struct message {
    struct xsd_sockmsg header;
    char payload[4200];
};

static uint32_t last_id;

/* Puts a message together; `|` stands for nul. */
static size_t compose(struct message *m, uint32_t type, uint32_t tx, const char *text)
{
    size_t length = strlen(text);

    memset(&m->header, 0, sizeof m->header);
    m->header.type = type;
    m->header.req_id = ++last_id;
    m->header.tx_id = tx;
    m->header.len = (uint32_t)length;
    for (size_t i = 0; i < length; i++)
        m->payload[i] = text[i] == '|' ? 0 : text[i];
    return sizeof m->header + length;
}

static int readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 700) > 0 && p.revents & POLLIN;
}

/* Takes one message as libxenstore does. @return 0 where none comes, -1 at the end of the file */
static int take(int fd, struct message *m)
{
    ssize_t n, more;

    if (!readable(fd))
        return 0;
    if (read(fd, &m->header, sizeof m->header) != sizeof m->header)
        return -1;
    for (n = 0; n < (ssize_t)m->header.len; n += more)
        if ((more = read(fd, m->payload + n, m->header.len - (size_t)n)) <= 0)
            return -1;
    for (ssize_t i = 0; i < n; i++)
        if (m->payload[i] == 0)
            m->payload[i] = '|';
    return 1;
}

static void show(const char *g, const char *name, const struct message *m, uint32_t id, uint32_t tx)
{
    int n = (int)m->header.len;

    if (m->header.type == XS_TRANSACTION_START)
        row(g, name, n > 0, "type=%u", m->header.type);
    else if (m->header.type == XS_WATCH_EVENT)
        row(g, name, n, "type=%u %.*s", m->header.type, n, m->payload);
    else
        row(g, name, n, "type=%u %.*s%s%s", m->header.type, n, m->payload, m->header.req_id == id ? "" : " other id",
            m->header.tx_id == tx ? "" : " other tx");
}

/* What comes: `count` messages, or what there is. The reply first: which of it and events overtakes which is chance. */
static void replies(const char *g, const char *call, int fd, uint32_t id, uint32_t tx, int count)
{
    static struct message events[4];
    struct message m;
    char name[120];
    int nr_events = 0, got = 1;

    for (int i = 0; i < count && got > 0; i++) {
        got = take(fd, &m);
        snprintf(name, sizeof name, "%s: reply", call);
        if (got > 0 && m.header.type == XS_WATCH_EVENT)
            events[nr_events++] = m;
        else if (got > 0)
            show(g, name, &m, id, tx);
        else
            row(g, name, 0, got ? "end of file" : "nothing");
    }
    snprintf(name, sizeof name, "%s: event", call);
    for (int i = 0; i < nr_events; i++)
        show(g, name, &events[i], 0, 0);
}
#define reply(g, call, fd, id, tx) replies(g, call, fd, id, tx, 1)
#define event(g, call, fd) replies(g, call, fd, 0, 0, 1)

static void ask_in(const char *g, const char *call, int fd, uint32_t type, uint32_t tx, const char *text, int count)
{
    struct message m;
    size_t size = compose(&m, type, tx, text);
    uint32_t id = last_id;
    ssize_t n = write(fd, &m, size);
    char name[120];

    snprintf(name, sizeof name, "%s: write", call);
    row(g, name, n == (ssize_t)size ? 0 : n, NONE);
    replies(g, call, fd, id, tx, count);
}
#define ask(g, call, fd, type, text) ask_in(g, call, fd, type, 0, text, 1)
/* A request that comes with an event. */
#define ask2(g, call, fd, type, text) ask_in(g, call, fd, type, 0, text, 2)

/* Begins a transaction. */
static uint32_t begin(int fd)
{
    struct message m;
    size_t size = compose(&m, XS_TRANSACTION_START, 0, "|");

    need(write(fd, &m, size) == (ssize_t)size && readable(fd) && read(fd, &m.header, sizeof m.header) > 0, "start");
    need(read(fd, m.payload, m.header.len) == (ssize_t)m.header.len, "start's reply");
    return (uint32_t)strtoul(m.payload, NULL, 10);
}

static void file(void)
{
    const char *g = "xenbus file";
    int fd = open(XENBUS, O_RDWR | O_NONBLOCK | O_CLOEXEC), flag = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct stat st;
    char byte;

    row(g, "stat", stat(XENBUS, &st), "chr=%d", S_ISCHR(st.st_mode));
    row(g, "access F_OK", access(XENBUS, F_OK), NONE);
    row(g, "access R_OK|W_OK", access(XENBUS, R_OK | W_OK), NONE);
    row(g, "open", fd >= 0 ? 0 : -1, NONE);
    row(g, "read, nothing there, O_NONBLOCK", read(fd, &byte, 1), NONE);
    row(g, "poll for input, nothing there", poll(&p, 1, 0), "in=%d", !!(p.revents & POLLIN));
    row(g, "write of nothing", write(fd, &byte, 0), NONE);
    row(g, "lseek", (long)lseek(fd, 0, SEEK_SET), NONE);
    row(g, "ioctl", ioctl(fd, 0x5401, &flag), NONE);
    row_ptr(g, "mmap", mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0));
    close(fd);
    row(g, "open of a device that is not there", open("/dev/xen/nothing", O_RDWR), NONE);
    row(g, "stat of a device that is not there", stat("/dev/xen/nothing", &st), NONE);
}

static void requests(int fd)
{
    const char *g = "xenbus requests";
    static char long_path[4200];

    ask(g, "WRITE", fd, XS_WRITE, HOME "/a|hello");
    ask(g, "READ", fd, XS_READ, HOME "/a|");
    ask(g, "READ of nothing", fd, XS_READ, HOME "/none|");
    ask(g, "READ without nul", fd, XS_READ, HOME "/a");
    ask(g, "DIRECTORY", fd, XS_DIRECTORY, HOME "|");
    ask(g, "GET_PERMS", fd, XS_GET_PERMS, HOME "|");
    ask(g, "RESTRICT", fd, 20, "1|");
    ask(g, "type 99", fd, 99, "x|");
    ask(g, "WATCH_EVENT", fd, XS_WATCH_EVENT, "x|y|");
    memset(long_path, 'x', sizeof long_path);
    long_path[0] = '/';
    long_path[4079] = '|';
    long_path[4080] = 0;
    ask(g, "READ with 4080 bytes", fd, XS_READ, long_path);
}

static void pieces(int fd)
{
    const char *g = "xenbus pieces";
    struct message m;
    char both[200];
    size_t size = compose(&m, XS_READ, 0, HOME "/a|"), two;
    uint32_t id = last_id;
    char byte;

    row(g, "first 5 bytes", write(fd, &m, 5), NONE);
    row(g, "up to the middle of the payload", write(fd, (char *)&m + 5, 14), NONE);
    row(g, "the rest", write(fd, (char *)&m + 19, size - 19) == (ssize_t)(size - 19) ? 0 : -1, NONE);
    reply(g, "in three writes", fd, id, 0);
    size = compose(&m, XS_READ, 0, HOME "/a|");
    need(write(fd, &m, size) == (ssize_t)size && readable(fd), "read");
    row(g, "read of 1 byte", read(fd, &byte, 1), "%d", byte);
    row(g, "read of the next 15", read(fd, both, 15), NONE);
    row(g, "read of the payload", read(fd, both, 5), "%.5s", both);
    size = compose(&m, XS_WRITE, 0, HOME "/b|1");
    memcpy(both, &m, size);
    two = size + compose(&m, XS_WRITE, 0, HOME "/c|2");
    memcpy(both + size, &m, two - size);
    row(g, "two requests in one write", write(fd, both, two) == (ssize_t)two ? 0 : -1, NONE);
    for (int i = 0; i < 2; i++) {
        char name[40];

        snprintf(name, sizeof name, "two requests: %d", i + 1);
        reply(g, name, fd, last_id - 1 + (uint32_t)i, 0);
    }
}

static void transactions(int fd, int other)
{
    const char *g = "xenbus transactions";
    uint32_t tx = begin(fd);

    ask_in(g, "READ in another file's", other, XS_READ, tx, HOME "/a|", 1);
    ask_in(g, "END of another file's", other, XS_TRANSACTION_END, tx, "F|", 1);
    ask_in(g, "WRITE in its own", fd, XS_WRITE, tx, HOME "/t|x", 1);
    ask_in(g, "END with neither", fd, XS_TRANSACTION_END, tx, "x|", 1);
    ask_in(g, "END without nul", fd, XS_TRANSACTION_END, tx, "T", 1);
    ask(g, "READ outside", other, XS_READ, HOME "/t|");
    ask_in(g, "END", fd, XS_TRANSACTION_END, tx, "T|", 1);
    ask_in(g, "END again", fd, XS_TRANSACTION_END, tx, "T|", 1);
    ask(g, "READ outside, committed", other, XS_READ, HOME "/t|");
    ask_in(g, "READ in one that never was", fd, XS_READ, 4000000000u, HOME "/a|", 1);
    ask(g, "END of none", fd, XS_TRANSACTION_END, "T|");
}

static void watches(int fd, int other)
{
    const char *g = "xenbus watches";

    ask2(g, "WATCH", fd, XS_WATCH, HOME "/w|token|");
    ask2(g, "WATCH of the same by another", other, XS_WATCH, HOME "/w|token|");
    ask2(g, "WRITE under it", other, XS_WRITE, HOME "/w/x|1");
    event(g, "WRITE under it by another", fd);
    ask(g, "UNWATCH by another token", fd, XS_UNWATCH, HOME "/w|nothing|");
    ask2(g, "WATCH twice", fd, XS_WATCH, HOME "/w|token|");
    ask2(g, "WRITE under two", other, XS_WRITE, HOME "/w/x|2");
    replies(g, "WRITE under two by another", fd, 0, 0, 2);
    ask(g, "UNWATCH one of two", fd, XS_UNWATCH, HOME "/w|token|");
    ask(g, "UNWATCH the second", fd, XS_UNWATCH, HOME "/w|token|");
    ask(g, "UNWATCH a third", fd, XS_UNWATCH, HOME "/w|token|");
    ask2(g, "WRITE when unwatched", other, XS_WRITE, HOME "/w/x|3");
    event(g, "WRITE when unwatched by another", fd);
    ask(g, "UNWATCH by the other", other, XS_UNWATCH, HOME "/w|token|");
    ask(g, "WATCH without token", fd, XS_WATCH, HOME "/w|");
    ask(g, "WATCH with a token that does not end", fd, XS_WATCH, HOME "/w|token");
    ask(g, "UNWATCH without token", fd, XS_UNWATCH, HOME "/w|");
    ask2(g, "WATCH with a depth", fd, XS_WATCH, HOME "/w|deep|0|");
    ask(g, "UNWATCH of that", fd, XS_UNWATCH, HOME "/w|deep|");
    ask2(g, "WATCH @releaseDomain", fd, XS_WATCH, "@releaseDomain|r|");
}

/* What the daemon refuses, or the driver has no buffer for. */
static void refused(void)
{
    const char *g = "xenbus refused";
    static char path[4200];
    struct message m;
    int fd = open(XENBUS, O_RDWR | O_CLOEXEC);

    ask(g, "WATCH of a bad path", fd, XS_WATCH, "bad path|t|");
    ask2(g, "WATCH of an unknown special", fd, XS_WATCH, "@nothing|t|");
    ask(g, "READ afterwards", fd, XS_READ, HOME "/a|");
    close(fd);
    fd = open(XENBUS, O_RDWR | O_CLOEXEC);
    memset(path, 'x', sizeof path);
    path[4081] = 0;
    ask(g, "READ with 4081 bytes", fd, XS_READ, path);
    close(fd);
    fd = open(XENBUS, O_RDWR | O_CLOEXEC);
    compose(&m, XS_READ, 0, "x|");
    m.header.len = 5000;
    row(g, "header of 5000 bytes", write(fd, &m.header, sizeof m.header), NONE);
    reply(g, "header of 5000 bytes", fd, last_id, 0);
    close(fd);
}

/* What a file leaves behind when it is closed. */
static void closing(int other)
{
    const char *g = "xenbus closing";
    struct message m;
    int fd = open(XENBUS, O_RDWR | O_CLOEXEC);
    uint32_t tx = begin(fd);

    ask_in(g, "WRITE in a transaction", fd, XS_WRITE, tx, HOME "/closed|x", 1);
    ask2(g, "WATCH", fd, XS_WATCH, HOME "/closed|t|");
    compose(&m, XS_READ, 0, HOME "/a|");
    row(g, "half a request", write(fd, &m, 10), NONE);
    row(g, "close", close(fd), NONE);
    ask(g, "READ by another", other, XS_READ, HOME "/closed|");
    fd = open(XENBUS, O_RDWR | O_CLOEXEC);
    ask_in(g, "its transaction, in a new file", fd, XS_READ, tx, HOME "/a|", 1);
    ask(g, "a request in a new file", fd, XS_READ, HOME "/a|");
    close(fd);
}

int main(void)
{
    int fd, other;

    file();
    fd = open_device(XENBUS);
    other = open_device(XENBUS);
    requests(fd);
    pieces(fd);
    transactions(fd, other);
    watches(fd, other);
    refused();
    closing(other);
    ask("xenbus end", "RM", fd, XS_RM, HOME "|");
    return 0;
}
