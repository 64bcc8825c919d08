/* Time and percentiles, for all C programs of the bench. */
#ifndef BENCH_H
#define BENCH_H
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* Sorts the samples (nanoseconds) and prints `"NAME":[p50,p99]` in microseconds. */
static inline void print_percentiles(const char *name, uint32_t *ns, size_t count)
{
    qsort(ns, count, sizeof *ns, by_value);
    printf("\"%s\":[%.3f,%.3f]", name, ns[count / 2] / 1000.0, ns[count * 99 / 100] / 1000.0);
}

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}
#endif
