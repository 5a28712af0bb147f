/* Runs of bytes that may stand in a part of a head, and its end, as fast as the machine can look at them.
 *
 * kas_skip_* returns the first byte from `at` on, up to `end`, that is not of its class. None reads at or beyond `end`:
 * sixteen bytes are only looked at together while sixteen are left.
 */
#ifndef KASERVE_SCAN_H
#define KASERVE_SCAN_H

#include <stddef.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* RFC 9110 section 5.5: visible characters, obs-text, space and tab. */
static inline int kas_is_value_byte(unsigned char byte) {
    return (byte >= 0x20 && byte != 0x7f) || byte == '\t';
}

/* The visible characters but "#" (see kaserve.http.grammar). */
static inline int kas_is_target_byte(unsigned char byte) {
    return byte > 0x20 && byte < 0x7f && byte != '#';
}

/* The tchars (RFC 9110 section 5.6.2) that nearly all names are made of: letters, digits and "-". */
static inline int kas_is_name_byte(unsigned char byte) {
    unsigned char lower = byte | 0x20;
    return (lower >= 'a' && lower <= 'z') || (byte >= '0' && byte <= '9') || byte == '-';
}

#if defined(__SSE2__)
/* Marks the unsigned bytes from..from+more. */
static inline __m128i kas_between(__m128i bytes, char from, char more) {
    __m128i above = _mm_sub_epi8(bytes, _mm_set1_epi8(from));
    return _mm_cmpeq_epi8(_mm_min_epu8(above, _mm_set1_epi8(more)), above);
}
#endif

static inline const unsigned char *kas_skip_name(const unsigned char *at, const unsigned char *end) {
#if defined(__SSE2__)
    while (end - at >= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)at);
        __m128i letters = kas_between(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), 'a', 25);
        __m128i others = _mm_or_si128(kas_between(bytes, '0', 9), _mm_cmpeq_epi8(bytes, _mm_set1_epi8('-')));
        int found = _mm_movemask_epi8(_mm_or_si128(letters, others)) ^ 0xffff;
        if (found)
            return at + __builtin_ctz((unsigned)found);
        at += 16;
    }
#endif
    while (at < end && kas_is_name_byte(*at))
        at++;
    return at;
}

static inline const unsigned char *kas_skip_value(const unsigned char *at, const unsigned char *end) {
#if defined(__SSE2__)
    const __m128i below_space = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), delete = _mm_set1_epi8(0x7f);
    while (end - at >= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)at);
        /* unsigned bytes <= 0x1f: those which the minimum with 0x1f leaves as they are */
        __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, below_space), bytes);
        control = _mm_andnot_si128(_mm_cmpeq_epi8(bytes, tab), control);
        int found = _mm_movemask_epi8(_mm_or_si128(control, _mm_cmpeq_epi8(bytes, delete)));
        if (found)
            return at + __builtin_ctz((unsigned)found);
        at += 16;
    }
#endif
    while (at < end && kas_is_value_byte(*at))
        at++;
    return at;
}

static inline const unsigned char *kas_skip_target(const unsigned char *at, const unsigned char *end) {
#if defined(__SSE2__)
    const __m128i space = _mm_set1_epi8(0x20), hash = _mm_set1_epi8('#'), delete = _mm_set1_epi8(0x7f);
    while (end - at >= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)at);
        /* signed: bytes from 0x80 on are negative, so this finds everything outside 0x21..0x7f at once */
        __m128i good = _mm_cmpgt_epi8(bytes, space);
        __m128i bad = _mm_or_si128(_mm_cmpeq_epi8(bytes, hash), _mm_cmpeq_epi8(bytes, delete));
        int found = _mm_movemask_epi8(_mm_andnot_si128(bad, good)) ^ 0xffff;
        if (found)
            return at + __builtin_ctz((unsigned)found);
        at += 16;
    }
#endif
    while (at < end && kas_is_target_byte(*at))
        at++;
    return at;
}

static inline int kas_is_head_end(const unsigned char *at) {
    return at[0] == '\r' && at[1] == '\n' && at[2] == '\r' && at[3] == '\n';
}

/* The first CRLF CRLF within at..end; NULL without one. */
static inline const unsigned char *kas_find_head_end(const unsigned char *at, const unsigned char *end) {
#if defined(__SSE2__)
    const __m128i cr = _mm_set1_epi8('\r');
    while (end - at >= 19) { /* sixteen places where it may begin, and the three bytes behind the last of them */
        __m128i first = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)at), cr);
        __m128i third = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(at + 2)), cr);
        unsigned found = (unsigned)_mm_movemask_epi8(_mm_and_si128(first, third));
        for (; found; found &= found - 1) {
            if (kas_is_head_end(at + __builtin_ctz(found)))
                return at + __builtin_ctz(found);
        }
        at += 16;
    }
#endif
    for (; end - at >= 4; at++) {
        if (kas_is_head_end(at))
            return at;
    }
    return NULL;
}

#endif
