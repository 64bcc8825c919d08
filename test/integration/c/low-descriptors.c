/* SPDX-License-Identifier: MIT
 *
 * A program sees only the descriptors it asked for, at the numbers it expects, and may close everything it does not know:
 * the library must neither be confused nor take another file for its own. Needs domain 1.
 */
#include "check.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void close_others(int from, int keep)
{
    for (int fd = from; fd < 2000; fd++)
        if (fd != keep) close(fd);
}

int main(void)
{
    int first, second, pair[2], plain, status;
    char byte;

    begin();
    close_others(3, -1);
    first = device("privcmd", 0);
    check_result("the first file", first, 3);
    check_result("its call", nr_vcpus(first, 1, NULL), 0);
    second = device("evtchn", 0);
    check_result("the second file", second, 4);
    check("a bound port", bind_unbound(second, 1) > 0, "refused");
    plain = open("/dev/null", O_RDWR);
    check_result("another file", plain, 5);
    check_result("close-on-exec is as asked: not", fcntl(first, F_GETFD), 0);
    close(second);
    second = device("evtchn", O_CLOEXEC);
    check_result("close-on-exec is as asked", fcntl(second, F_GETFD), FD_CLOEXEC);

    /* other files at numbers that were ours */
    check_result("dup2 of /dev/null over a file", dup2(plain, second), second);
    check_errno("is no device any more", bind_unbound(second, 1), ENOTTY);
    check_result("writes go where they should", write(second, "xyz", 3), 3);
    check_result("sockets are left alone", socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    check_result("odd sizes on them", write(pair[0], "x", 1), 1);
    check_result("both ways", read(pair[1], &byte, 1), 1);

    /* as programs do that become daemons */
    if (fork() == 0) {
        alarm(20);
        close_others(3, -1);
        int fd = device("privcmd", 0);
        _exit(fd == 3 && nr_vcpus(fd, 1, NULL) == 0 ? 0 : 1);
    }
    wait(&status);
    check("a child that closes everything", status == 0, "status %#x", status);
    close_others(3, first);
    check_result("close_range of the rest", close_range((unsigned)first + 1, ~0u, 0), 0);
    closefrom(first + 1);
    check_result("a file that was kept while everything else was closed", nr_vcpus(first, 1, NULL), 0);
    second = device("privcmd", 0);
    check("a new one", second >= 0, "errno %d", errno);
    check_result("works", nr_vcpus(second, 1, NULL), 0);

    /* whatever has the library's numbers now must not be taken for its own, or closed */
    close_others(3, -1);
    for (int i = 0; i < 1900; i++)
        if (open("/dev/null", O_RDWR) < 0) break;
    close(3);
    first = device("privcmd", 0);
    check_result("opened among other files", nr_vcpus(first, 1, NULL), 0);
    int missing = 0, strange = 0;
    for (int fd = 4; fd < 1800; fd++) {
        struct stat st;

        if (fstat(fd, &st) < 0) missing++;
        else if (!S_ISCHR(st.st_mode)) strange++;
    }
    check("which are all still there", missing == 0, "%d missing", missing);
    /* its connection, its empty file, and nothing that was left behind */
    check("beside a few of the library's", strange <= 4, "%d", strange);
    return end();
}
