/* A source and a sink that speak ZMTP 3.0 themselves (RFC 23, NULL mechanism), over one TCP socket.
 *
 * A libzmq client takes about as much CPU time for a message as a broker.  On two cores such clients take most of the
 * machine, and all brokers seem to be equally fast.  These clients take very little: messages are encoded once, before
 * the first is sent, and counted by their headers.
 */
#include "load.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MORE = 1, LONG = 2, COMMAND = 4 };   /* flags of a frame */
enum { GREETING = 64, SHORT_HEADER = 2, LONG_HEADER = 9 };
enum { BLOCK_MESSAGES = 1000, BLOCK_BYTES = 8 << 20 };  /* the limits of what one write carries */
enum { BUFFER = 1 << 20 };
enum { COMMAND_BYTES = 255 };               /* libzmq's READY is never longer than this */

static int write_all(int descriptor, const unsigned char *data, size_t size)
{
    while (size) {
        ssize_t written = write(descriptor, data, size);
        if (written < 0 && errno != EINTR)
            return errno;
        if (written > 0) {
            data += written;
            size -= (size_t) written;
        }
    }
    return 0;
}

static int read_all(int descriptor, unsigned char *data, size_t size)
{
    while (size) {
        ssize_t got = read(descriptor, data, size);
        if (got < 0 && errno != EINTR)
            return errno;
        if (got == 0)
            return ECONNRESET;
        if (got > 0) {
            data += got;
            size -= (size_t) got;
        }
    }
    return 0;
}

/* Greeting and READY, each sent before the peer's is read, so that two of these can talk to each other. */
static int shake_hands(int descriptor, const char *socket_type)
{
    static const unsigned char greeting[GREETING] = { 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'N', 'U', 'L', 'L' };
    static const char ready[] = "\5READY", property[] = "\13Socket-Type";
    unsigned char theirs[COMMAND_BYTES], command[64];
    size_t length = strlen(socket_type), size = SHORT_HEADER;
    int code;

    memcpy(command + size, ready, sizeof ready - 1), size += sizeof ready - 1;
    memcpy(command + size, property, sizeof property - 1), size += sizeof property - 1;
    memcpy(command + size, (unsigned char[]) { 0, 0, 0, (unsigned char) length }, 4), size += 4;
    memcpy(command + size, socket_type, length), size += length;
    command[0] = COMMAND;
    command[1] = (unsigned char) (size - SHORT_HEADER);

    if ((code = write_all(descriptor, greeting, GREETING)) || (code = read_all(descriptor, theirs, GREETING)))
        return code;
    if (theirs[0] != 0xff || theirs[9] != 0x7f || theirs[10] < 3 || memcmp(theirs + 12, "NULL", 5))
        return EPROTO;
    if ((code = write_all(descriptor, command, size)) || (code = read_all(descriptor, theirs, SHORT_HEADER)))
        return code;
    if (theirs[0] != COMMAND || theirs[1] < sizeof ready - 1)
        return EPROTO;
    size = theirs[1];
    if ((code = read_all(descriptor, theirs, size)))
        return code;
    return memcmp(theirs, ready, sizeof ready - 1) ? EPROTO : 0;
}

/* Writes the header of a frame.  Returns its size in bytes. */
static size_t put_header(unsigned char *data, uint64_t size, int more)
{
    if (size <= UINT8_MAX) {
        data[0] = (unsigned char) (more ? MORE : 0);
        data[1] = (unsigned char) size;
        return SHORT_HEADER;
    }
    data[0] = (unsigned char) ((more ? MORE : 0) | LONG);
    for (int byte = 0; byte < 8; byte++)
        data[1 + byte] = (unsigned char) (size >> (56 - 8 * byte));
    return LONG_HEADER;
}

/* PUSH. */
int load_wire_source(progress_t *progress, const order_t *order)
{
    const uint64_t limit = order->limit ? order->limit : UINT64_MAX;
    const size_t header = order->size <= UINT8_MAX ? SHORT_HEADER : LONG_HEADER;
    const size_t message = (size_t) order->frames * (header + order->size);
    uint64_t messages = BLOCK_BYTES / message < BLOCK_MESSAGES ? BLOCK_BYTES / message : BLOCK_MESSAGES, sent = 0;
    messages = messages ? messages : 1;
    unsigned char *block = calloc(messages, message), *at = block;
    int code = block ? shake_hands(order->descriptor, "PUSH") : ENOMEM;

    for (uint64_t i = 0; block && i < messages; i++)
        for (int frame = 0; frame < order->frames; frame++)
            at += put_header(at, order->size, frame + 1 < order->frames) + order->size;
    while (!code && sent < limit) {
        uint64_t some = limit - sent < messages ? limit - sent : messages;
        code = write_all(order->descriptor, block, some * message);
        if (!code)
            publish(&progress->messages, sent += some);
    }
    free(block);
    return code;
}

/* Where the sink is in the stream.  Bodies are skipped, so none has to fit into the buffer. */
typedef struct {
    uint64_t body;      /* bytes of the present frame's body that are still to come */
    int frames;         /* of the present message, so far */
    int good;
    uint64_t received, malformed;
} stream_t;

/* Takes a frame's header from `data`: how many bytes it has, 0 if it is not all there. */
static size_t take_header(stream_t *stream, const order_t *order, const unsigned char *data, size_t size)
{
    size_t header = SHORT_HEADER;
    if (size < SHORT_HEADER)
        return 0;
    if (data[0] & LONG) {
        header = LONG_HEADER;
        if (size < LONG_HEADER)
            return 0;
        stream->body = 0;
        for (int byte = 0; byte < 8; byte++)
            stream->body = stream->body << 8 | data[1 + byte];
    } else
        stream->body = data[1];
    if (data[0] & COMMAND) /* a heartbeat, say: no part of a message */
        return header;
    stream->good &= stream->body == order->size;
    stream->frames++;
    if (!(data[0] & MORE)) { /* counted a moment before its last body is there, which over a window is nothing */
        if (stream->good && stream->frames == order->frames)
            stream->received++;
        else
            stream->malformed++;
        stream->frames = 0;
        stream->good = 1;
    }
    return header;
}

/* PULL. */
int load_wire_sink(progress_t *progress, const order_t *order)
{
    unsigned char *buffer = malloc(BUFFER);
    stream_t stream = { .good = 1 };
    size_t have = 0;
    int code = buffer ? shake_hands(order->descriptor, "PULL") : ENOMEM;

    while (!code) {
        ssize_t got = read(order->descriptor, buffer + have, BUFFER - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            code = got ? errno : ECONNRESET;
            break;
        }
        have += (size_t) got;
        size_t at = 0;
        for (;;) {
            size_t skipped = stream.body < have - at ? (size_t) stream.body : have - at;
            at += skipped;
            stream.body -= skipped;
            size_t header = stream.body ? 0 : take_header(&stream, order, buffer + at, have - at);
            if (!header)
                break;
            at += header;
        }
        memmove(buffer, buffer + at, have - at); /* less than a header */
        have -= at;
        publish(&progress->messages, stream.received);
        publish(&progress->malformed, stream.malformed);
    }
    free(buffer);
    return code;
}
