/* SPDX-License-Identifier: MIT
 *
 * Ends as it is told: exit-with status N, or exit-with signal N.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "signal")) raise(atoi(argv[2]));
    return argc == 3 ? atoi(argv[2]) : 99;
}
