/* Scans the bytes of a head, sixteen or sixty-four at a time where the processor has SSE2 (every x86-64 has).
 *
 * Knows the character classes of HTTP, which are those of kaserve/http/grammar.py. Does not know the structure of a
 * head, except where it ends. kas_skip_* returns the first byte from `at` on, up to `end`, that is not of its class.
 * Nothing reads at or beyond `end`: sixteen bytes are only loaded together while sixteen are left, and the last ones
 * are checked one by one.
 */
#ifndef KASERVE_SCAN_H
#define KASERVE_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* Returns the index of the lowest bit that is set; at least one is. */
static inline int kas_lowest(uint64_t bits) {
#if defined(__GNUC__)
    return __builtin_ctzll(bits);
#else
    int lowest = 0;
    for (; !(bits & 1); bits >>= 1)
        lowest++;
    return lowest;
#endif
}

/* RFC 9110 section 5.5: visible characters, obs-text, space and tab. */
static inline int kas_is_value_byte(unsigned char byte) {
    return (byte >= 0x20 && byte != 0x7f) || byte == '\t';
}

/* The visible characters but "#" (see kaserve.http.grammar). */
static inline int kas_is_target_byte(unsigned char byte) {
    return byte > 0x20 && byte < 0x7f && byte != '#';
}

/* The tchars (RFC 9110 section 5.6.2) that nearly all names are made of: letters, digits and "-". The caller checks the
 * others with a table. */
static inline int kas_is_name_byte(unsigned char byte) {
    unsigned char lower = byte | 0x20;
    return (lower >= 'a' && lower <= 'z') || (byte >= '0' && byte <= '9') || byte == '-';
}

#if defined(__SSE2__)
/* Marks the unsigned bytes from..from+more. SSE2 compares signed bytes only: after subtracting `from`, a byte is in the
 * range if the unsigned minimum of it and `more` is the byte itself. */
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

/* Returns whether a token is `name` in any case. `name` has only lower-case letters and "-"; both have this size.
 *
 * Setting the bit 0x20 makes letters lower-case. "-" has this bit already. No other byte that may be in a field value
 * becomes a letter or "-" by it, so for tokens and values the comparison is exact.
 */
static inline int kas_is_name(const unsigned char *token, const unsigned char *name, ptrdiff_t size) {
    uint64_t ours, theirs;
    for (; size >= 8; token += 8, name += 8, size -= 8) {
        memcpy(&ours, token, 8);
        memcpy(&theirs, name, 8);
        if ((ours | 0x2020202020202020u) != theirs)
            return 0;
    }
    for (; size > 0; token++, name++, size--) {
        if ((*token | 0x20) != *name)
            return 0;
    }
    return 1;
}

#if defined(__SSE2__)
/* Returns a bit for each of sixteen bytes that no field value may have. */
static inline unsigned kas_controls_of(const unsigned char *at) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    __m128i control = kas_between(bytes, 0, 0x1f);
    control = _mm_andnot_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t')), control);
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(control, _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f))));
}
#endif

/* Iterates over the bytes of a text that no field value may have: in a valid head these are the CRs and LFs of its
 * lines.
 *
 * The text is scanned in blocks, each of which begins where the one before ended, wherever the lines end. Scanning line
 * by line instead would make each load wait for the end of the line before; this way the processor can load the next
 * block while the lines of the last one are still being read.
 */
struct kas_controls {
    const unsigned char *block, *next, *end;
    uint64_t found; /* a bit for each byte from `block` on that was found and not returned yet */
};

static inline struct kas_controls kas_controls(const unsigned char *at, const unsigned char *end) {
    struct kas_controls controls = {at, at, end, 0};
    return controls;
}

/* Returns the next such byte; the end of the text when there is none. */
static inline const unsigned char *kas_next_control(struct kas_controls *controls) {
    const unsigned char *at;
    while (!controls->found) {
        controls->block = at = controls->next;
        if (at == controls->end)
            return at;
#if defined(__SSE2__)
        if (controls->end - at >= 64) {
            controls->found = (uint64_t)kas_controls_of(at) | (uint64_t)kas_controls_of(at + 16) << 16 |
                              (uint64_t)kas_controls_of(at + 32) << 32 | (uint64_t)kas_controls_of(at + 48) << 48;
            controls->next = at + 64;
            continue;
        }
        if (controls->end - at >= 16) {
            controls->found = kas_controls_of(at);
            controls->next = at + 16;
            continue;
        }
#endif
        for (; controls->next < controls->end && controls->next - at < 64; controls->next++)
            controls->found |= (uint64_t)!kas_is_value_byte(*controls->next) << (controls->next - at);
    }
    at = controls->block + kas_lowest(controls->found);
    controls->found &= controls->found - 1;
    return at;
}

static inline const unsigned char *kas_skip_value(const unsigned char *at, const unsigned char *end) {
#if defined(__SSE2__)
    while (end - at >= 16) {
        unsigned found = kas_controls_of(at);
        if (found)
            return at + __builtin_ctz(found);
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
        /* Signed: bytes from 0x80 on are negative, so one comparison marks exactly 0x21..0x7f. */
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

/* Returns whether CRLF CRLF is at `at`; four bytes are there. */
static inline int kas_is_head_end(const unsigned char *at) {
    return at[0] == '\r' && at[1] == '\n' && at[2] == '\r' && at[3] == '\n';
}

#if defined(__SSE2__)
/* Returns a bit for each of sixteen bytes that is a CR. */
static inline uint64_t kas_crs_of(const unsigned char *at) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    return (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\r')));
}
#endif

/* Returns the first CRLF CRLF within at..end; NULL if there is none. */
static inline const unsigned char *kas_find_head_end(const unsigned char *at, const unsigned char *end) {
#if defined(__SSE2__)
    /* Looks for a CR with another CR two bytes before it, which may be in the block before; only those places are
     * compared with CRLF CRLF. `before` has the last two bits of the block before. */
    const unsigned char *begin = at;
    uint64_t crs, second, before = 0;
    while (end - at > 16) { /* more than 16, so that the LF after the last byte of a block can be read */
        int size = end - at > 64 ? 64 : 16;
        crs = kas_crs_of(at);
        if (size == 64)
            crs |= kas_crs_of(at + 16) << 16 | kas_crs_of(at + 32) << 32 | kas_crs_of(at + 48) << 48;
        for (second = crs & (crs << 2 | before); second; second &= second - 1) {
            if (kas_is_head_end(at + kas_lowest(second) - 2))
                return at + kas_lowest(second) - 2;
        }
        before = crs >> (size - 2);
        at += size;
    }
    if (at != begin)
        at -= 3; /* a CRLF CRLF may have begun in the last three bytes of the blocks */
#endif
    for (; end - at >= 4; at++) {
        if (kas_is_head_end(at))
            return at;
    }
    return NULL;
}

#endif
