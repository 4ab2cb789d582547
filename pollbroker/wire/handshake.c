#include "handshake.h"

#include "frame.h"

#include <string.h>
#include <strings.h>

enum { SIGNATURE_SIZE = 10, VERSION_AT = 10, GREETING_SIZE = 64, MECHANISM_SIZE = 20 };
enum { REVISION_2 = 1, MAJOR_3 = 3, MINOR_1 = 1 };

static const char *const NAMES[TYPE_COUNT] = {
    [TYPE_PAIR] = "PAIR", [TYPE_PUB] = "PUB",       [TYPE_SUB] = "SUB",       [TYPE_REQ] = "REQ",
    [TYPE_REP] = "REP",   [TYPE_DEALER] = "DEALER", [TYPE_ROUTER] = "ROUTER", [TYPE_PULL] = "PULL",
    [TYPE_PUSH] = "PUSH", [TYPE_XPUB] = "XPUB",     [TYPE_XSUB] = "XSUB",
};

#define TYPE(name) (1u << TYPE_##name)
static const unsigned FITS[TYPE_COUNT] = {
    [TYPE_PAIR] = TYPE(PAIR),
    [TYPE_PUB] = TYPE(SUB) | TYPE(XSUB),
    [TYPE_SUB] = TYPE(PUB) | TYPE(XPUB),
    [TYPE_REQ] = TYPE(REP) | TYPE(ROUTER),
    [TYPE_REP] = TYPE(REQ) | TYPE(DEALER),
    [TYPE_DEALER] = TYPE(REP) | TYPE(DEALER) | TYPE(ROUTER),
    [TYPE_ROUTER] = TYPE(REQ) | TYPE(DEALER) | TYPE(ROUTER),
    [TYPE_PULL] = TYPE(PUSH),
    [TYPE_PUSH] = TYPE(PULL),
    [TYPE_XPUB] = TYPE(SUB) | TYPE(XSUB),
    [TYPE_XSUB] = TYPE(PUB) | TYPE(XPUB),
};

static void put(struct handshake *handshake, const void *bytes, size_t count)
{
    memcpy(handshake->out + handshake->out_size, bytes, count);
    handshake->out_size += count;
}

static void put_byte(struct handshake *handshake, uint8_t byte)
{
    put(handshake, &byte, 1);
}

static void put_property(struct handshake *handshake, const char *name, const void *value, size_t size)
{
    put_byte(handshake, (uint8_t) strlen(name));
    put(handshake, name, strlen(name));
    put(handshake, (uint8_t[]){0, 0, 0, (uint8_t) size}, 4); /* no value here is longer than 255 bytes */
    put(handshake, value, size);
}

static void put_ready(struct handshake *handshake)
{
    const struct options *options = handshake->options;
    const char *name = NAMES[handshake->type];
    bool has_identity = (TYPE(REQ) | TYPE(DEALER) | TYPE(ROUTER)) & 1u << handshake->type;
    uint8_t header[FRAME_LONG_HEADER];
    size_t begin = handshake->out_size, size;

    put_byte(handshake, 5);
    put(handshake, "READY", 5);
    put_property(handshake, "Socket-Type", name, strlen(name));
    if (has_identity)
        put_property(handshake, "Identity", options->routing_id, options->routing_id_size);
    size = handshake->out_size - begin;
    size_t header_size = frame_write_header(header, FRAME_COMMAND, size);
    memmove(handshake->out + begin + header_size, handshake->out + begin, size);
    memcpy(handshake->out + begin, header, header_size);
    handshake->out_size += header_size;
}

void handshake_begin(struct handshake *handshake, enum socket_type type, const struct options *options)
{
    *handshake = (struct handshake){.type = type, .options = options};
    put(handshake, (uint8_t[]){0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, MAJOR_3}, SIGNATURE_SIZE + 1);
}

static void fail(struct handshake *handshake, enum reason reason)
{
    handshake->failed = reason;
}

static void on_version(struct handshake *handshake, uint8_t version)
{
    if (version >= MAJOR_3) {
        uint8_t rest[GREETING_SIZE - VERSION_AT - 1] = {MINOR_1, 'N', 'U', 'L', 'L'};
        put(handshake, rest, sizeof rest);
        handshake->stage = STAGE_GREETING;
    } else if (version == REVISION_2 || version == 2) {
        put_byte(handshake, (uint8_t) handshake->type);
        put_byte(handshake, 0);
        put_byte(handshake, handshake->options->routing_id_size);
        put(handshake, handshake->options->routing_id, handshake->options->routing_id_size);
        handshake->stage = STAGE_TYPE_2;
    } else {
        fail(handshake, REASON_NOT_ZMTP);
    }
}

static void on_greeting(struct handshake *handshake, const uint8_t *rest)
{
    static const uint8_t null[MECHANISM_SIZE] = "NULL";

    handshake->minor = rest[0];
    if (memcmp(rest + 1, null, MECHANISM_SIZE)) {
        fail(handshake, REASON_MECHANISM);
        return;
    }
    put_ready(handshake);
    handshake->stage = STAGE_READY;
}

static void on_type(struct handshake *handshake, enum socket_type type)
{
    handshake->peer_type = type;
    if (!(FITS[handshake->type] & 1u << type))
        fail(handshake, REASON_SOCKET_TYPE);
}

static bool is_name(const char *name, const uint8_t *bytes, size_t size)
{
    return size == strlen(name) && !strncasecmp(name, (const char *) bytes, size);
}

static void on_properties(struct handshake *handshake, const uint8_t *bytes, size_t count)
{
    bool has_type = false;

    while (count) {
        size_t name_size = bytes[0];
        if (count < 1 + name_size + 4)
            break;
        const uint8_t *name = bytes + 1, *length = name + name_size, *value = length + 4;
        size_t value_size = (size_t) length[0] << 24 | (size_t) length[1] << 16 | (size_t) length[2] << 8 | length[3];
        if (count - 1 - name_size - 4 < value_size)
            break;
        if (is_name("Socket-Type", name, name_size)) {
            for (unsigned type = 0; type < TYPE_COUNT; type++)
                if (value_size == strlen(NAMES[type]) && !memcmp(NAMES[type], value, value_size)) {
                    on_type(handshake, type);
                    has_type = true;
                }
        } else if (is_name("Identity", name, name_size)) {
            if (value_size > ROUTING_ID_MAX)
                break;
            memcpy(handshake->identity, value, value_size);
            handshake->identity_size = (uint8_t) value_size;
        }
        bytes = value + value_size;
        count -= 1 + name_size + 4 + value_size;
    }
    if (handshake->failed)
        return;
    if (count)
        fail(handshake, REASON_BAD_COMMAND);
    else if (!has_type)
        fail(handshake, REASON_SOCKET_TYPE);
    else
        handshake->stage = STAGE_DONE;
}

static void on_command(struct handshake *handshake, const uint8_t *body, size_t size)
{
    if (size >= 6 && !memcmp(body, "\5READY", 6))
        on_properties(handshake, body + 6, size - 6);
    else
        fail(handshake, size >= 6 && !memcmp(body, "\5ERROR", 6) ? REASON_REFUSED : REASON_BAD_COMMAND);
}

/* The first frame of ZMTP 3 is a command, and that of ZMTP 2 is the identity. */
static size_t on_first_frame(struct handshake *handshake, const uint8_t *bytes, size_t count)
{
    unsigned flags, expected = handshake->stage == STAGE_READY ? FRAME_COMMAND : 0;
    uint64_t length;
    int header = frame_header(bytes, count, &flags, &length);

    if (header == 0)
        return 0;
    if (header < 0 || (flags & ~(unsigned) FRAME_LONG) != expected) {
        fail(handshake, REASON_BAD_FRAME);
        return 0;
    }
    if (length > (expected ? READY_MAX_BYTES : ROUTING_ID_MAX)) {
        fail(handshake, REASON_BAD_COMMAND);
        return 0;
    }
    if (count - (size_t) header < length)
        return 0;
    if (expected) {
        on_command(handshake, bytes + header, length);
    } else {
        memcpy(handshake->identity, bytes + header, length);
        handshake->identity_size = (uint8_t) length;
        handshake->stage = STAGE_DONE;
    }
    return (size_t) header + length;
}

/* What the present stage can use of the bytes. 0 if they are too few. */
static size_t use(struct handshake *handshake, const uint8_t *bytes, size_t count)
{
    switch (handshake->stage) {
    case STAGE_SIGNATURE:
        if (bytes[0] != 0xff || (count >= SIGNATURE_SIZE && !(bytes[SIGNATURE_SIZE - 1] & 1)))
            fail(handshake, REASON_NOT_ZMTP);
        if (count < SIGNATURE_SIZE)
            return 0;
        handshake->stage = STAGE_VERSION;
        return SIGNATURE_SIZE;
    case STAGE_VERSION:
        on_version(handshake, bytes[0]);
        return 1;
    case STAGE_GREETING:
        if (count < GREETING_SIZE - VERSION_AT - 1)
            return 0;
        on_greeting(handshake, bytes);
        return GREETING_SIZE - VERSION_AT - 1;
    case STAGE_TYPE_2:
        if (bytes[0] < TYPE_COUNT)
            on_type(handshake, bytes[0]);
        else
            fail(handshake, REASON_SOCKET_TYPE);
        handshake->stage = STAGE_IDENTITY_2;
        return 1;
    case STAGE_READY:
    case STAGE_IDENTITY_2:
        return on_first_frame(handshake, bytes, count);
    case STAGE_DONE:
        break;
    }
    return 0;
}

size_t handshake_fed(struct handshake *handshake, const uint8_t *bytes, size_t count)
{
    size_t used = 0;

    while (used < count && handshake->stage != STAGE_DONE && !handshake->failed) {
        size_t more = use(handshake, bytes + used, count - used);
        if (!more)
            break;
        used += more;
    }
    return used;
}

/* -- moving a handshake to another process ------------------------------------------------------------------------- */

/* The numbers that stages have in records, which stay when stages are added. A stage that is not here is not moved. */
static const struct {
    enum handshake_stage stage;
    int number;
} RECORDED[] = {{STAGE_SIGNATURE, 0}, {STAGE_VERSION, 1}, {STAGE_GREETING, 2},
                {STAGE_READY, 3},     {STAGE_TYPE_2, 4},  {STAGE_IDENTITY_2, 5}};

enum { RECORDED_COUNT = sizeof RECORDED / sizeof RECORDED[0] };

int handshake_number(const struct handshake *handshake)
{
    for (int i = 0; i < RECORDED_COUNT; i++)
        if (RECORDED[i].stage == handshake->stage && !handshake->failed && !handshake->out_size)
            return RECORDED[i].number;
    return -1;
}

bool handshake_restore(struct handshake *handshake, enum socket_type type, const struct options *options, int number,
                       uint8_t peer_type, uint8_t minor, const uint8_t *identity, size_t identity_size)
{
    if (number < 0 || number >= RECORDED_COUNT || peer_type >= TYPE_COUNT || identity_size > ROUTING_ID_MAX)
        return false;
    *handshake = (struct handshake){.type = type, .options = options, .stage = RECORDED[number].stage};
    handshake->peer_type = peer_type;
    handshake->minor = minor;
    handshake->identity_size = (uint8_t) identity_size;
    if (identity_size)
        memcpy(handshake->identity, identity, identity_size);
    return true;
}
