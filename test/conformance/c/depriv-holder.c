/* SPDX-License-Identifier: MIT
 *
 * depriv-holder CHECKER LIBRARY: opens privcmd and evtchn, restricts nothing, and becomes the checker on them, with
 * LIBRARY preloaded too. The checker must say "fail": this is what shows that a "pass" elsewhere means something.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int privcmd = open("/dev/xen/privcmd", O_RDWR), evtchn = open("/dev/xen/evtchn", O_RDWR);
    char preload[4096], a[16], b[16];
    const char *before = getenv("LD_PRELOAD");

    if (argc != 3 || privcmd < 0 || evtchn < 0) {
        perror("depriv-holder");
        return 2;
    }
    snprintf(preload, sizeof preload, "%s:%s", argv[2], before ? before : "");
    setenv("LD_PRELOAD", preload, 1);
    snprintf(a, sizeof a, "%d", privcmd);
    snprintf(b, sizeof b, "%d", evtchn);
    execl(argv[1], argv[1], "privcmd", a, "unrestricted", "evtchn", b, "unrestricted", NULL);
    perror(argv[1]);
    return 5;
}
