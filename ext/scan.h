/* Runs of bytes that may stand in a part of a head, as fast as the machine can look at them.
 *
 * Each function returns the first byte from `at` on, up to `end`, that is not of its class. None reads at or beyond
 * `end`: sixteen bytes are only looked at together while sixteen are left.
 */
#ifndef KASERVE_SCAN_H
#define KASERVE_SCAN_H

#include <stdint.h>

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

#endif
