/* Frames of ZMTP 3 (RFC 23, RFC 37), and of ZMTP 2, which are the same: flags, a length of one byte or of eight, and
 * the body. */
#ifndef POLLBROKER_WIRE_FRAME_H
#define POLLBROKER_WIRE_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum { FRAME_MORE = 1, FRAME_LONG = 2, FRAME_COMMAND = 4 };
enum { FRAME_SHORT_MAX = 255, FRAME_SHORT_HEADER = 2, FRAME_LONG_HEADER = 9 };

static inline uint64_t frame_read_u64(const uint8_t *bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* Read the header of a frame. Return its size in bytes, 0 if the bytes are too few, or -1 if it is malformed. */
static inline int frame_header(const uint8_t *bytes, size_t count, unsigned *flags, uint64_t *length)
{
    if (count < FRAME_SHORT_HEADER)
        return 0;
    *flags = bytes[0];
    if (*flags > 7 || (*flags & (FRAME_COMMAND | FRAME_MORE)) == (FRAME_COMMAND | FRAME_MORE))
        return -1;
    if (!(*flags & FRAME_LONG)) {
        *length = bytes[1];
        return FRAME_SHORT_HEADER;
    }
    if (count < FRAME_LONG_HEADER)
        return 0;
    *length = frame_read_u64(bytes + 1);
    return *length >> 63 ? -1 : FRAME_LONG_HEADER;
}

/* The size of the header of a frame whose body has `length` bytes. */
static inline size_t frame_header_size(uint64_t length)
{
    return length <= FRAME_SHORT_MAX ? FRAME_SHORT_HEADER : FRAME_LONG_HEADER;
}

/* Write the header of a frame, and return its size. */
static inline size_t frame_write_header(uint8_t *out, unsigned flags, uint64_t length)
{
    if (length <= FRAME_SHORT_MAX) {
        out[0] = (uint8_t) flags;
        out[1] = (uint8_t) length;
        return FRAME_SHORT_HEADER;
    }
    out[0] = (uint8_t) (flags | FRAME_LONG);
    for (int i = 0; i < 8; i++)
        out[1 + i] = (uint8_t) (length >> (56 - 8 * i));
    return FRAME_LONG_HEADER;
}

#endif
