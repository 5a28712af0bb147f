/* The functions of ext/scan.h on bytes that end where their page ends, or begin where it begins.
 *
 *     cc -O2 -I ext -o guard_page tests/fuzz/guard_page.c && ./guard_page
 *
 * The page lies between two pages that cannot be read, so one byte too far always kills the process by SIGSEGV.
 * Every length from 0 to 64 is tried, at every alignment, with each of the 256 bytes at each place, and longer texts for
 * the functions that work in blocks. The results must be those of a loop over single bytes. Other tests check which bytes
 * a class has. Compiled with -U__SSE2__ it tries the plain loops of scan.h.
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

/* Returns a page between two that cannot be read. */
static unsigned char *guarded_page(size_t size) {
    unsigned char *pages = mmap(NULL, 3 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + size, size, PROT_READ | PROT_WRITE) != 0)
        fail("a page between guards cannot be had");
    return pages + size;
}

/* Returns whether reading this byte kills the process, which all of this relies on. */
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

/* The reference: a loop over single bytes. */
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

/* Tries all bytes at all places of the run at..end, which otherwise consists of `good`. */
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

/* good: two bytes of the class */
static void check_all(
    const char *name, scan skip, in_class is_in, const char *good, unsigned char *page, size_t size
) {
    for (size_t length = 0; length <= LONGEST; length++) {
        unsigned char *last = page + size - length;
        check_run(name, skip, is_in, last, page + size, good[0]); /* before the guard page */
        check_run(name, skip, is_in, page, page + length, good[1]); /* after the guard page */
        /* At the other alignments there are bytes of the class after the end, which must not be counted. */
        for (size_t shift = 1; shift < ALIGNMENTS; shift++) {
            memset(last - shift, good[0], length + shift);
            check_run(name, skip, is_in, last - shift, last - shift + length, good[0]);
        }
    }
    printf("%s: well\n", name);
}

/* Tries a name and tokens of every length, before the guard page; the token differs in one place at most. */
static void check_names(unsigned char *page, size_t size, unsigned char *other_page) {
    static const char tchars[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const char in_names[] = "-az";
    for (size_t length = 0; length <= LONGEST; length++) {
        unsigned char *token = page + size - length, *name = other_page + size - length;
        memset(token, 'K', length);
        memset(name, 'k', length);
        if (!kas_is_name(token, name, (ptrdiff_t)length)) {
            printf("kas_is_name does not know a name of %zu bytes\n", length);
            exit(1);
        }
        for (size_t place = 0; place < length; place++) {
            for (const char *wanted = in_names; *wanted; wanted++) {
                name[place] = (unsigned char)*wanted;
                for (const char *found = tchars; *found; found++) {
                    int same = *found == *wanted || (*wanted != '-' && *found == *wanted - 0x20);
                    token[place] = (unsigned char)*found;
                    scans++;
                    if (kas_is_name(token, name, (ptrdiff_t)length) != same) {
                        printf("kas_is_name takes '%c' for '%c', or does not\n", *found, *wanted);
                        exit(1);
                    }
                }
            }
            token[place] = 'K';
            name[place] = 'k';
        }
    }
    puts("kas_is_name: well");
}

static void check_controls_of(const unsigned char *at, const unsigned char *end) {
    struct kas_controls controls = kas_controls(at, end);
    const unsigned char *found;
    scans++;
    for (const unsigned char *place = at; place < end; place++) {
        if (!kas_is_value_byte(*place) && (found = kas_next_control(&controls)) != place) {
            printf("kas_next_control stops at %td of %td bytes, not at %td\n", found - at, end - at, place - at);
            exit(1);
        }
    }
    if (kas_next_control(&controls) != end || kas_next_control(&controls) != end) {
        printf("kas_next_control finds no end of %td bytes\n", end - at);
        exit(1);
    }
}

/* Tries all bytes at all places, alone and next to line ends, in texts of more than two blocks. */
static void check_controls(unsigned char *page, size_t size) {
    static const char *const around[] = {"aaaa", "\r\n\r\n", "a\r\na"};
    for (size_t length = 0; length <= 3 * LONGEST; length++) {
        for (size_t which = 0; which < sizeof around / sizeof *around; which++) {
            for (int front = 0; front < 2; front++) {
                unsigned char *at = front ? page : page + size - length;
                for (size_t place = 0; place < length; place++)
                    at[place] = (unsigned char)around[which][place % 4];
                check_controls_of(at, at + length);
                for (size_t place = 0; place < length; place++) {
                    unsigned char before = at[place];
                    for (int byte = 0; byte < 256; byte += byte == 0x20 || byte == 0x80 ? 0x5e : 1) {
                        at[place] = (unsigned char)byte;
                        check_controls_of(at, at + length);
                    }
                    at[place] = before;
                }
            }
        }
    }
    puts("kas_next_control: well");
}

/* The reference: a loop over all places. */
static const unsigned char *find_plainly(const unsigned char *at, const unsigned char *end) {
    for (; end - at >= 4; at++) {
        if (memcmp(at, "\r\n\r\n", 4) == 0)
            return at;
    }
    return NULL;
}

static void check_head_end(const unsigned char *at, const unsigned char *end) {
    scans++;
    if (kas_find_head_end(at, end) != find_plainly(at, end)) {
        printf("kas_find_head_end errs on %td bytes\n", end - at);
        exit(1);
    }
}

/* Tries the end of a head, and what resembles it, at all places of texts of more than two blocks; also two in a row. */
static void check_head_ends(unsigned char *page, size_t size) {
    static const char *const ends[] = {
        "\r\n\r\n", "\r\n\r", "\n\r\n", "\r\r\n\r\n", "\r\n\rx", "\rx\r\n", "\r\r\r\r\r\r\r\r",
    };
    for (size_t length = 1; length <= 3 * LONGEST; length++) {
        for (size_t which = 0; which < sizeof ends / sizeof *ends; which++) {
            size_t all = strlen(ends[which]);
            for (size_t first = 0; first + all <= length; first++) {
                for (size_t second = first; second + all <= length && second < first + 8; second++) {
                    for (int front = 0; front < 2; front++) {
                        unsigned char *at = front ? page : page + size - length;
                        memset(at, 'a', length);
                        memcpy(at + first, ends[which], all);
                        memcpy(at + second, ends[which], all);
                        check_head_end(at, at + length);
                        check_head_end(at, at + length - 1); /* the bytes after the end do not count */
                    }
                }
            }
        }
    }
    puts("kas_find_head_end: well");
}

int main(void) {
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *page = guarded_page(size), *other_page = guarded_page(size);
    if (!is_out_of_bounds(page - 1) || !is_out_of_bounds(page + size) || is_out_of_bounds(page)) {
        puts("the guards do not hold");
        return 2;
    }
    check_all("kas_skip_name", kas_skip_name, kas_is_name_byte, "a-", page, size);
    check_all("kas_skip_value", kas_skip_value, kas_is_value_byte, "a~", page, size);
    check_all("kas_skip_target", kas_skip_target, kas_is_target_byte, "a~", page, size);
    check_names(page, size, other_page);
    check_controls(page, size);
    check_head_ends(page, size);
#if defined(__SSE2__)
    printf("%lu scans, sixteen bytes at once\n", scans);
#else
    printf("%lu scans, byte by byte\n", scans);
#endif
    return 0;
}
