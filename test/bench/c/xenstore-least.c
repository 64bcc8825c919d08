/*
 * The least a XenStore daemon could do: takes requests from its socket in batches and answers each at once with what a
 * client expects, from no store at all. What is left of a figure beside this one is the store's and the language's.
 *
 *     xenstore-least SOCKET
 */
#include "bench.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ = 2, START = 6, HEADER = 16, BUFFER = 1 << 16, MAX_EVENTS = 64, MAX_FILES = 1024 };

struct header { uint32_t type, request, transaction, length; };
struct client { size_t used; char in[BUFFER]; };

static struct client *clients[MAX_FILES];
static char out[2 * BUFFER];

static size_t answer(const struct header *request, char *at)
{
    struct header reply = *request;
    const char *payload = request->type == READ ? "0123456789" : request->type == START ? "1" : "OK";

    reply.length = (uint32_t)strlen(payload) + (request->type != READ);
    memcpy(at, &reply, HEADER);
    memcpy(at + HEADER, payload, reply.length);
    return HEADER + reply.length;
}

/* Answers what is complete in the client's buffer. Returns false where the client has gone. */
static int serve(int fd)
{
    struct client *c = clients[fd];
    ssize_t n = recv(fd, c->in + c->used, sizeof c->in - c->used, MSG_DONTWAIT);
    size_t at = 0, size = 0;

    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    c->used += (size_t)n;
    while (c->used - at >= HEADER) {
        const struct header *request = (const struct header *)(c->in + at);

        if (c->used - at < HEADER + request->length || size > BUFFER)
            break;
        size += answer(request, out + size);
        at += HEADER + request->length;
    }
    memmove(c->in, c->in + at, c->used - at);
    c->used -= at;
    return size == 0 || send(fd, out, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static void add(int epoll, int fd)
{
    struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

    if (fd < 0 || fd >= MAX_FILES || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
        die("a new client");
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), epoll = epoll_create1(EPOLL_CLOEXEC);

    if (argc != 2)
        return 2;
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64))
        die(argv[1]);
    add(epoll, listener);
    for (;;) {
        struct epoll_event events[MAX_EVENTS];
        int n = epoll_wait(epoll, events, MAX_EVENTS, -1);

        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;

            if (fd == listener) {
                int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

                add(epoll, accepted);
                clients[accepted] = calloc(1, sizeof **clients);
            } else if (!serve(fd)) {
                free(clients[fd]);
                close(fd);
            }
        }
    }
}
