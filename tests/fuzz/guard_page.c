/* The functions of ext/scan.h on bytes that end where their page ends, or begin where it begins.
 *
 *     cc -O2 -I ext -o guard_page tests/fuzz/guard_page.c && ./guard_page
 *
 * On both sides of the page are pages that cannot be touched, so one byte too far is SIGSEGV, at once and for sure.
 * Every length from 0 to 64 is tried, at every alignment, with each of the 256 bytes at each place; what is returned must
 * be what looking at one byte after the other returns; which bytes a class has is for other tests. Built a second time, with
 * -U__SSE2__, it tries the plain loops.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scan.h"

enum { LONGEST = 64, ALIGNMENTS = 16 };

typedef const unsigned char *(*scan)(const unsigned char *at, const unsigned char *end);
typedef int (*in_class)(unsigned char byte);

static unsigned long scans;

static void fail(const char *why) {
    perror(why);
    exit(2);
}

/* A page between two that cannot be touched. */
static unsigned char *guarded_page(size_t size) {
    unsigned char *pages = mmap(NULL, 3 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + size, size, PROT_READ | PROT_WRITE) != 0)
        fail("a page between guards cannot be had");
    return pages + size;
}

/* Whether touching this byte kills the process: what all of this relies on. */
static int is_out_of_bounds(const volatile unsigned char *byte) {
    int status;
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        (void)*byte;
        _exit(0);
    }
    if (waitpid(child, &status, 0) != child)
        fail("waitpid");
    return WIFSIGNALED(status);
}

/* The reference: one byte after the other. */
static const unsigned char *plainly(in_class is_in, const unsigned char *at, const unsigned char *end) {
    while (at < end && is_in(*at))
        at++;
    return at;
}

static void check(const char *name, scan skip, in_class is_in, const unsigned char *at, const unsigned char *end) {
    const unsigned char *expected = plainly(is_in, at, end), *found = skip(at, end);
    scans++;
    if (found != expected) {
        printf("%s stops at %td of %td bytes, not at %td\n", name, found - at, end - at, expected - at);
        exit(1);
    }
}

/* All bytes at all places of the run at..end, which otherwise consists of `good`. */
static void check_run(const char *name, scan skip, in_class is_in, unsigned char *at, unsigned char *end, int good) {
    memset(at, good, (size_t)(end - at));
    check(name, skip, is_in, at, end);
    for (unsigned char *place = at; place < end; place++) {
        for (int byte = 0; byte < 256; byte++) {
            *place = (unsigned char)byte;
            check(name, skip, is_in, at, end);
        }
        *place = (unsigned char)good;
    }
}

static void check_all(const char *name, scan skip, in_class is_in, unsigned char *page, size_t size) {
    for (size_t length = 0; length <= LONGEST; length++) {
        unsigned char *last = page + size - length;
        check_run(name, skip, is_in, last, page + size, 'a'); /* against the guard behind */
        check_run(name, skip, is_in, page, page + length, '~'); /* and the one in front */
        /* At the other alignments there are good bytes behind the end, which must not be counted. */
        for (size_t shift = 1; shift < ALIGNMENTS; shift++) {
            memset(last - shift, 'a', length + shift);
            check_run(name, skip, is_in, last - shift, last - shift + length, 'a');
        }
    }
    printf("%s: well\n", name);
}

int main(void) {
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *page = guarded_page(size);
    if (!is_out_of_bounds(page - 1) || !is_out_of_bounds(page + size) || is_out_of_bounds(page)) {
        puts("the guards do not hold");
        return 2;
    }
    check_all("kas_skip_value", kas_skip_value, kas_is_value_byte, page, size);
    check_all("kas_skip_target", kas_skip_target, kas_is_target_byte, page, size);
#if defined(__SSE2__)
    printf("%lu scans, sixteen bytes at once\n", scans);
#else
    printf("%lu scans, byte by byte\n", scans);
#endif
    return 0;
}
