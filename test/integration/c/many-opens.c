/* SPDX-License-Identifier: MIT
 *
 * A thousand open files, then as many as are given: the one too many fails with an errno, all that were given work, and
 * closing gives everything back. Prints how many there were. Needs domain 1.
 */
#include "check.h"

#include <sys/resource.h>

static int files[20000];

static int open_all(int most)
{
    int n = 0;

    while (n < most && (files[n] = device("privcmd", O_CLOEXEC)) >= 0) n++;
    return n;
}

static void close_all(int n)
{
    while (n > 0) close(files[--n]);
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    int n, e;

    begin();
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    n = open_all(argc > 1 ? atoi(argv[1]) : 1000);
    e = errno;
    printf("opened\t%d\t%s\n", n, files[n] < 0 ? strerrorname_np(e) : "-");
    check("some were opened", n > 0, "none");
    check_result("the first works", nr_vcpus(files[0], 1, NULL), 0);
    check_result("the last works", nr_vcpus(files[n - 1], 1, NULL), 0);
    check("the first has the lowest number there is", files[0] == 3, "%d", files[0]);
    close_all(n);
    check_result("opened again", open_all(n), n);
    check_result("the last works again", nr_vcpus(files[n - 1], 1, NULL), 0);
    close_all(n);
    return end();
}
