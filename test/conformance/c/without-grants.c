/* SPDX-License-Identifier: MIT
 *
 * depriv-fd-checker sets every class of descriptor up before it looks at its arguments, grants too, which this host does
 * not serve yet. Preloaded into the checker, this satisfies that set-up with a page of the checker's own memory: the
 * gntdev class can't be checked then, and isn't asked for.
 */
#include <stdint.h>
#include <stdlib.h>

void *xengntshr_open(void *logger, unsigned flags)
{
    (void)logger;
    (void)flags;
    return malloc(1);
}

void *xengntshr_share_pages(void *handle, uint32_t domid, int count, uint32_t *refs, int writable)
{
    (void)handle;
    (void)domid;
    (void)writable;
    for (int i = 0; i < count; i++) refs[i] = 8 + i;
    return calloc(count, 4096);
}
