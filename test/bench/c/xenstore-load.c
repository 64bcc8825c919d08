/*
 * Loads a XenStore daemon over its socket, the same for any daemon: raw messages put together beforehand, as many
 * outstanding as asked for, every reply checked.
 *
 *     xenstore-load SOCKET PID
 *
 * SOCKET may be /dev/xen/xenbus, where that is a stream. PID is the daemon. Commands come on standard input, one a line; each is answered with one line of JSON.
 *
 *     throughput WHAT CONNECTIONS DEPTH COUNT    {"ns": wall a request, "cpu": the daemon's processor time a request}
 *     latency WHAT COUNT                         {"us": [p50, p99], "cpu": ns} with one request outstanding
 *     transactions CONNECTIONS DEPTH COUNT       {"ns": wall a commit, "cpu": ns, "again": EAGAINs a commit}
 *     nodes COUNT                                {"cpu": ns a node}: guests of 100 nodes each
 *     watches COUNT PER_CONNECTION MS            {"set": how many were set within the time}; the connections stay
 *     open COUNT PER_CONNECTION                  {"cpu": ns}: starts transactions, which stay open
 *     mixed CONNECTIONS MS NODES                 {"us": [p50, p99, worst], "count": n} over that many nodes
 *     release                                    {}: drops what stays
 *     spin, sleep                                {}: whether to stay awake while it waits
 *
 * WHAT is `read`, `write` or `start` (of transactions, which are ended outside the time measured). A transaction is a
 * start, 5 reads, 2 writes and an end; all connections use the same nodes, and it is done again until it commits.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ = 2, WATCH = 4, START = 6, END = 7, WRITE = 11, EVENT = 15, ERROR = 16 };
enum { HEADER = 16, GUEST_NODES = 100, MAX_LOADING = 64, MAX_CONNECTIONS = 4096, BUFFER = 1 << 16, USED_NODES = 16 };
#define VALUE "0123456789"
#define MAX_WAIT_NS 10000000000
#define TRANSACTION_REQUESTS 8 /* behind the start */

struct header { uint32_t type, request, transaction, length; };

struct connection {
    int fd;
    uint32_t salt;
    char in[BUFFER];
    size_t used;
    uint64_t sent, received;
    uint64_t started_ns; /* of the request that `mixed` waits for */
    uint32_t transaction;
};

static const char *socket_path;
static clockid_t daemon_clock;
static struct connection *kept[MAX_CONNECTIONS];
static size_t nr_kept;
static bool spins;

static void fail(const char *what)
{
    fprintf(stderr, "xenstore-load: %s\n", what);
    exit(1);
}

static uint64_t daemon_ns(void)
{
    struct timespec t;

    if (clock_gettime(daemon_clock, &t))
        die("the daemon's clock");
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct connection *connect_daemon(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct connection *c = calloc(1, sizeof *c);

    if (!c)
        die("calloc");
    if (strncmp(socket_path, "/dev/", 5) == 0) {
        c->fd = open(socket_path, O_RDWR | O_CLOEXEC);
        if (c->fd < 0)
            die(socket_path);
        return c;
    }
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strncpy(address.sun_path, socket_path, sizeof address.sun_path - 1);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address))
        die("connect");
    return c;
}

static void disconnect(struct connection *c)
{
    close(c->fd);
    free(c);
}

/* ---- messages */

static size_t put(char *at, uint32_t type, uint32_t transaction, const void *payload, size_t length)
{
    struct header h = { type, 0, transaction, (uint32_t)length };

    memcpy(at, &h, HEADER);
    memcpy(at + HEADER, payload, length);
    return HEADER + length;
}

/* The paths of a guest look like a guest's. */
static int node_path(char *at, uint32_t node)
{
    return sprintf(at, "/local/domain/%u/device/vif/%u/node-%u", 1 + node / GUEST_NODES, node % GUEST_NODES / 10, node % 10);
}

static size_t put_read(char *at, uint32_t transaction, uint32_t node)
{
    char path[128];

    return put(at, READ, transaction, path, (size_t)node_path(path, node) + 1);
}

static size_t put_write(char *at, uint32_t transaction, uint32_t node)
{
    char payload[128];
    size_t length = (size_t)node_path(payload, node) + 1;

    memcpy(payload + length, VALUE, sizeof VALUE - 1);
    return put(at, WRITE, transaction, payload, length + sizeof VALUE - 1);
}

static void send_all(struct connection *c, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t n = send(c->fd, bytes, length, MSG_NOSIGNAL);

        if (n < 0)
            die("send");
        bytes += n;
        length -= (size_t)n;
    }
}

/* Takes what has come. False where there is nothing. */
static bool fill(struct connection *c, int flags)
{
    ssize_t n = recv(c->fd, c->in + c->used, sizeof c->in - c->used, flags);

    if (n == 0)
        fail("the daemon has closed the connection");
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n < 0)
        die("recv");
    c->used += (size_t)n;
    return true;
}

/* The next complete message at an offset of the buffer, or NULL. */
static struct header *message(struct connection *c, size_t at)
{
    struct header *h = (struct header *)(c->in + at);

    return c->used - at >= HEADER && c->used - at >= HEADER + h->length ? h : NULL;
}

static void drop(struct connection *c, size_t bytes)
{
    memmove(c->in, c->in + bytes, c->used - bytes);
    c->used -= bytes;
}

static void check(const struct header *h, uint32_t type)
{
    if (h->type == type && (type != READ || h->length == sizeof VALUE - 1))
        return;
    fprintf(stderr, "xenstore-load: a reply of type %u to %u: %.*s\n", h->type, type, (int)h->length, (char *)(h + 1));
    exit(1);
}

/* Sends one request and waits for its reply; its payload stays in the buffer until the next. */
static struct header *call(struct connection *c, const char *request, size_t length)
{
    struct header *h;

    drop(c, c->used);
    send_all(c, request, length);
    for (;;) {
        while (!(h = message(c, 0)))
            fill(c, 0);
        if (h->type != EVENT)
            return h;
        drop(c, HEADER + h->length);
    }
}

/* ---- throughput */

static uint32_t type_of(const char *what)
{
    return strcmp(what, "read") == 0 ? READ : strcmp(what, "write") == 0 ? WRITE : START;
}

/* `count` requests of a kind, on the connection's own few nodes. */
static size_t put_many(char *at, uint32_t type, uint32_t salt, uint32_t count)
{
    size_t size = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t node = salt * GUEST_NODES + i % USED_NODES;

        size += type == READ ? put_read(at + size, 0, node)
                : type == WRITE ? put_write(at + size, 0, node)
                                : put(at + size, START, 0, "", 1);
    }
    return size;
}

static void make_nodes(struct connection *c, uint32_t guests)
{
    char request[256];

    for (uint32_t i = 0; i < guests * GUEST_NODES; i++)
        if (i % GUEST_NODES < USED_NODES)
            check(call(c, request, put_write(request, 0, i)), WRITE);
    drop(c, c->used);
}

/* Takes all complete replies. Returns how many. */
static uint32_t take_replies(struct connection *c, uint32_t type)
{
    uint32_t n = 0;
    size_t at = 0;

    for (struct header *h; (h = message(c, at)); at += HEADER + h->length) {
        if (h->type == EVENT)
            continue;
        check(h, type);
        n++;
    }
    drop(c, at);
    return n;
}

/* Waits for replies; awake, where the daemon has a processor of its own. */
static int await(int epoll, struct epoll_event *events)
{
    uint64_t end = spins ? now_ns() + MAX_WAIT_NS : 0;
    int n;

    do
        n = epoll_wait(epoll, events, MAX_LOADING, spins ? 0 : MAX_WAIT_NS / 1000000);
    while (n == 0 && spins && now_ns() < end);
    if (n <= 0)
        fail("no reply");
    return n;
}

/* Connects several times and waits for all of them in one epoll. */
static int connect_all(struct connection *c[MAX_LOADING], uint32_t connections)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    if (connections < 1 || connections > MAX_LOADING)
        fail("so many connections are not possible");
    for (uint32_t i = 0; i < connections; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };

        c[i] = connect_daemon();
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, c[i]->fd, &event))
            die("epoll_ctl");
    }
    return epoll;
}

static void throughput(const char *what, uint32_t connections, uint32_t depth, uint64_t count)
{
    struct connection *c[MAX_LOADING] = { NULL };
    uint32_t type = type_of(what);
    uint64_t done = 0, start, cpu;
    char *requests = malloc((size_t)depth * 128);
    size_t size = 0;
    int epoll;

    if (!requests)
        die("malloc");
    epoll = connect_all(c, connections);
    make_nodes(c[0], connections);
    start = now_ns();
    cpu = daemon_ns();
    for (uint32_t i = 0; i < connections; i++) {
        size = put_many(requests, type, i, depth);
        send_all(c[i], requests, size);
        c[i]->sent = depth;
    }
    while (done < count) {
        struct epoll_event events[MAX_LOADING];
        int n = await(epoll, events);

        for (int e = 0; e < n; e++) {
            struct connection *one = c[events[e].data.u32];
            uint32_t replies;

            fill(one, MSG_DONTWAIT);
            replies = take_replies(one, type);
            if (replies == 0)
                continue;
            done += replies;
            one->received += replies;
            if (done >= count)
                continue;
            send_all(one, requests, put_many(requests, type, events[e].data.u32, replies));
            one->sent += replies;
        }
    }
    start = now_ns() - start;
    cpu = daemon_ns() - cpu;
    printf("{\"ns\":%.1f,\"cpu\":%.1f}\n", (double)start / (double)done, (double)cpu / (double)done);
    for (uint32_t i = 0; i < connections; i++)
        disconnect(c[i]);
    close(epoll);
    free(requests);
}

static void latency(const char *what, uint32_t count)
{
    struct connection *c = connect_daemon();
    uint32_t type = type_of(what), *ns = malloc(count * sizeof *ns);
    char request[256];
    uint64_t cpu;

    if (!ns)
        die("malloc");
    make_nodes(c, 1);
    cpu = daemon_ns();
    for (uint32_t i = 0; i < count; i++) {
        size_t size = type == READ ? put_read(request, 0, i % USED_NODES) : put_write(request, 0, i % USED_NODES);
        uint64_t start = now_ns();

        check(call(c, request, size), type);
        ns[i] = (uint32_t)(now_ns() - start);
    }
    cpu = daemon_ns() - cpu;
    printf("{");
    print_percentiles("us", ns, count);
    printf(",\"cpu\":%.1f}\n", (double)cpu / count);
    free(ns);
    disconnect(c);
}

/* ---- transactions */

static bool is_again(const struct header *h)
{
    return h->type == ERROR && h->length == sizeof "EAGAIN" && memcmp(h + 1, "EAGAIN", sizeof "EAGAIN") == 0;
}

/* The i-th request behind the start. */
static size_t put_step(char *at, uint32_t transaction, uint32_t step)
{
    if (step < 5)
        return put_read(at, transaction, step);
    if (step < 7)
        return put_write(at, transaction, step);
    return put(at, END, transaction, "T", 2);
}

/* Sends what is to come next, keeping `depth` requests outstanding. */
static void advance(struct connection *c, uint32_t depth)
{
    char bytes[1024];
    size_t size = 0;

    if (c->transaction == 0) {
        if (c->sent == 0)
            size = put(bytes, START, 0, "", 1);
        c->sent = 1;
    } else {
        for (; c->sent < TRANSACTION_REQUESTS && c->sent - c->received < depth; c->sent++)
            size += put_step(bytes + size, c->transaction, (uint32_t)c->sent);
    }
    if (size > 0)
        send_all(c, bytes, size);
}

/* Takes replies of a transaction. Returns 1 where it has committed, -1 where it has to be done again. */
static int take_step(struct connection *c)
{
    struct header *h;
    int outcome = 0;
    size_t at = 0;

    for (; (h = message(c, at)); at += HEADER + h->length) {
        if (c->transaction == 0) {
            check(h, START);
            c->transaction = (uint32_t)strtoul((char *)(h + 1), NULL, 10);
            c->sent = c->received = 0;
        } else if (++c->received == TRANSACTION_REQUESTS) {
            outcome = is_again(h) ? -1 : 1;
            if (outcome > 0)
                check(h, END);
            c->transaction = 0;
            c->sent = 0;
        } else {
            check(h, c->received <= 5 ? READ : WRITE);
        }
    }
    drop(c, at);
    return outcome;
}

static void transactions(uint32_t connections, uint32_t depth, uint64_t count)
{
    struct connection *c[MAX_LOADING] = { NULL };
    uint64_t commits = 0, again = 0, start, cpu;
    int epoll = connect_all(c, connections);
    make_nodes(c[0], 1);
    start = now_ns();
    cpu = daemon_ns();
    for (uint32_t i = 0; i < connections; i++)
        advance(c[i], depth);
    while (commits < count) {
        struct epoll_event events[MAX_LOADING];
        int n = await(epoll, events);

        for (int e = 0; e < n; e++) {
            struct connection *one = c[events[e].data.u32];
            int outcome;

            fill(one, MSG_DONTWAIT);
            outcome = take_step(one);
            commits += outcome > 0;
            again += outcome < 0;
            advance(one, depth);
        }
    }
    start = now_ns() - start;
    cpu = daemon_ns() - cpu;
    printf("{\"ns\":%.1f,\"cpu\":%.1f,\"again\":%.4f}\n", (double)start / (double)commits, (double)cpu / (double)commits,
           (double)again / (double)commits);
    for (uint32_t i = 0; i < connections; i++)
        disconnect(c[i]);
    close(epoll);
}

/* ---- what stays */

static struct connection *keep(void)
{
    if (nr_kept == MAX_CONNECTIONS)
        fail("too many connections");
    return kept[nr_kept++] = connect_daemon();
}

static void release(void)
{
    while (nr_kept > 0)
        disconnect(kept[--nr_kept]);
    printf("{}\n");
}

/* Waits for the replies to `count` requests, past events. */
static void await_replies(struct connection *c, uint32_t type, uint32_t count)
{
    while (count > 0) {
        uint32_t n;

        fill(c, 0);
        n = take_replies(c, type);
        count -= n < count ? n : count;
    }
}

static void nodes(uint32_t count)
{
    struct connection *c = connect_daemon();
    char bytes[16384];
    uint64_t cpu = daemon_ns();

    for (uint32_t i = 0; i < count;) {
        uint32_t n = 0;
        size_t size = 0;

        for (; n < GUEST_NODES && i < count; n++, i++)
            size += put_write(bytes + size, 0, i);
        send_all(c, bytes, size);
        await_replies(c, WRITE, n);
    }
    cpu = daemon_ns() - cpu;
    printf("{\"cpu\":%.1f}\n", (double)cpu / count);
    disconnect(c);
}

static void watches(uint32_t count, uint32_t per_connection, uint64_t ms)
{
    uint64_t end = now_ns() + ms * 1000000;
    struct connection *c = NULL;
    uint32_t set = 0;

    while (set < count && now_ns() < end) {
        char bytes[16384], payload[128];
        uint32_t n = 0;
        size_t size = 0;

        if (set % per_connection == 0)
            c = keep();
        for (; n < 100 && set < count && (n == 0 || set % per_connection != 0); n++, set++) {
            int length = sprintf(payload, "/watched/%u/state", set);

            length += 1 + sprintf(payload + length + 1, "token-%u", set) + 1;
            size += put(bytes + size, WATCH, 0, payload, (size_t)length);
        }
        send_all(c, bytes, size);
        await_replies(c, WATCH, n);
    }
    printf("{\"set\":%u}\n", set);
}

static void open_transactions(uint32_t count, uint32_t per_connection)
{
    uint64_t cpu = daemon_ns();

    for (uint32_t done = 0; done < count;) {
        uint32_t n = count - done < per_connection ? count - done : per_connection;
        struct connection *c = keep();
        char *bytes = malloc((size_t)n * 32);
        size_t size = 0;

        if (!bytes)
            die("malloc");
        for (uint32_t i = 0; i < n; i++)
            size += put(bytes + size, START, 0, "", 1);
        send_all(c, bytes, size);
        await_replies(c, START, n);
        free(bytes);
        done += n;
    }
    printf("{\"cpu\":%.1f}\n", (double)(daemon_ns() - cpu) / count);
}

/* ---- a mixed load */

static uint32_t pseudo_random(void)
{
    static uint32_t state = 2463534242u;

    state ^= state << 13;
    state ^= state >> 17;
    return state ^= state << 5;
}

/*
 * A request of a client that has nothing outstanding: mostly reads and writes anywhere, now and then a transaction, which
 * is not left open where there is to be a pause: a daemon may have others wait for it.
 */
static void send_mixed(struct connection *c, uint32_t nodes, bool pausing)
{
    uint32_t dice = pseudo_random() % 100, node = pseudo_random() % nodes;
    char bytes[256];
    size_t size;

    if (c->transaction != 0 && (pausing || dice < 20))
        size = put(bytes, END, c->transaction, "T", 2);
    else if (c->transaction == 0 && dice < 5)
        size = put(bytes, START, 0, "", 1);
    else if (dice < 60)
        size = put_read(bytes, c->transaction, node);
    else
        size = put_write(bytes, c->transaction, node);
    c->started_ns = now_ns();
    send_all(c, bytes, size);
}

/* Takes the reply, if it is there. Any is fine but an error that isn't EAGAIN. */
static bool take_mixed(struct connection *c)
{
    struct header *h = message(c, 0);

    if (!h)
        return false;
    if (h->type == ERROR && !is_again(h))
        check(h, 0);
    if (h->type == START)
        c->transaction = (uint32_t)strtoul((char *)(h + 1), NULL, 10);
    if (h->type == END || h->type == ERROR)
        c->transaction = 0;
    drop(c, HEADER + h->length);
    return true;
}

/* A millisecond of load, then a pause, so that neither side ever uses a processor up. */
static void mixed(uint32_t connections, uint64_t ms, uint32_t nodes)
{
    struct connection *c[MAX_LOADING] = { NULL };
    uint32_t max = (uint32_t)ms * 1000, count = 0, *ns = malloc(max * sizeof *ns);
    uint64_t end = now_ns() + ms * 1000000;
    int epoll = connect_all(c, connections);

    if (!ns)
        die("malloc");
    while (now_ns() < end && count < max / 2) {
        uint64_t pause = now_ns() + 1000000;
        uint32_t outstanding = connections;

        for (uint32_t i = 0; i < connections; i++)
            send_mixed(c[i], nodes, false);
        while (outstanding > 0) {
            struct epoll_event events[MAX_LOADING];
            int n = await(epoll, events);

            for (int e = 0; e < n; e++) {
                struct connection *one = c[events[e].data.u32];

                fill(one, MSG_DONTWAIT);
                if (!take_mixed(one))
                    continue;
                ns[count++] = (uint32_t)(now_ns() - one->started_ns);
                if (now_ns() < pause || one->transaction != 0)
                    send_mixed(one, nodes, now_ns() >= pause);
                else
                    outstanding--;
            }
        }
        usleep(500);
    }
    qsort(ns, count, sizeof *ns, by_value);
    printf("{\"us\":[%.3f,%.3f,%.3f],\"count\":%u}\n", ns[count / 2] / 1e3, ns[count / 100 * 99] / 1e3,
           ns[count - 1] / 1e3, count);
    for (uint32_t i = 0; i < connections; i++)
        disconnect(c[i]);
    close(epoll);
    free(ns);
}

static void set_spin(bool on)
{
    spins = on;
    printf("{}\n");
}

static void run(char *line)
{
    char what[16];
    unsigned a, b, c;

    if (sscanf(line, "throughput %15s %u %u %u", what, &a, &b, &c) == 4)
        throughput(what, a, b, c);
    else if (sscanf(line, "latency %15s %u", what, &a) == 2)
        latency(what, a);
    else if (sscanf(line, "transactions %u %u %u", &a, &b, &c) == 3)
        transactions(a, b, c);
    else if (sscanf(line, "nodes %u", &a) == 1)
        nodes(a);
    else if (sscanf(line, "watches %u %u %u", &a, &b, &c) == 3)
        watches(a, b, c);
    else if (sscanf(line, "open %u %u", &a, &b) == 2)
        open_transactions(a, b);
    else if (sscanf(line, "mixed %u %u %u", &a, &b, &c) == 3)
        mixed(a, b, c);
    else if (strncmp(line, "release", 7) == 0)
        release();
    else if (strcmp(line, "spin\n") == 0 || strcmp(line, "sleep\n") == 0)
        set_spin(line[1] == 'p');
    else
        fail("an unknown command");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char line[256];

    if (argc != 3)
        fail("usage: xenstore-load SOCKET PID");
    socket_path = argv[1];
    if (clock_getcpuclockid(atoi(argv[2]), &daemon_clock))
        fail("no such daemon");
    while (fgets(line, sizeof line, stdin))
        run(line);
    return 0;
}
