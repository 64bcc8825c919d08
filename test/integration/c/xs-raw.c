/*
 * A client of XenStore that says exactly what it is told to, and opens the store as libxenstore does: what XENSTORED_PATH
 * names is a socket or a device.
 *
 *     xs-raw TYPE[@TX]:PAYLOAD... [hold]     payloads with | for nul; prints each reply as `TYPE PAYLOAD`
 *     hold                                   then waits until its input ends
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct header { uint32_t type, id, tx, length; };

static int open_store(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct stat st;
    int fd;

    if (stat(path, &st))
        return -1;
    if (!S_ISSOCK(st.st_mode))
        return open(path, O_RDWR | O_CLOEXEC);
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(fd, (struct sockaddr *)&address, sizeof address) ? -1 : fd;
}

static int take(int fd, void *into, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = read(fd, (char *)into + done, size - done);

        if (n <= 0)
            return 0;
        done += (size_t)n;
    }
    return 1;
}

static void swap(char *text, size_t length, char from, char to)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] == from)
            text[i] = to;
}

int main(int argc, char **argv)
{
    const char *path = getenv("XENSTORED_PATH");
    int fd = path ? open_store(path) : -1;
    char reply[4097];

    if (fd < 0) {
        printf("open: %s\n", strerror(errno));
        return 1;
    }
    for (int i = 1; i < argc && strcmp(argv[i], "hold"); i++) {
        char *payload = strchr(argv[i], ':') + 1, *at = strchr(argv[i], '@');
        struct header header = { (uint32_t)atoi(argv[i]), (uint32_t)i, 0, (uint32_t)strlen(payload) };

        if (at && at < payload)
            header.tx = (uint32_t)strtoul(at + 1, NULL, 10);

        swap(payload, header.length, '|', 0);
        if (write(fd, &header, sizeof header) < 0 || (header.length && write(fd, payload, header.length) < 0)) {
            printf("write: %s\n", strerror(errno));
            return 1;
        }
        if (!take(fd, &header, sizeof header) || header.length > 4096 || !take(fd, reply, header.length)) {
            printf("end\n");
            return 1;
        }
        swap(reply, header.length, 0, '|');
        printf("%u %.*s\n", header.type, (int)header.length, reply);
        fflush(stdout);
    }
    if (!strcmp(argv[argc - 1], "hold"))
        while (read(0, reply, sizeof reply) > 0)
            ;
    return 0;
}
