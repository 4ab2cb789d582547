#include "handshake.h"

#include "frame.h"
#include "handshake_out.h"

#include <string.h>
#include <strings.h>

enum { SIGNATURE_SIZE = 10, VERSION_AT = 10, AS_SERVER_AT = 32, GREETING_SIZE = 64, MECHANISM_SIZE = 20 };
enum { REVISION_2 = 1, MAJOR_3 = 3, MINOR_1 = 1 };

static const uint8_t MECHANISMS[][MECHANISM_SIZE] = {
    [MECHANISM_NULL] = "NULL",
    [MECHANISM_PLAIN_CLIENT] = "PLAIN",
    [MECHANISM_PLAIN_SERVER] = "PLAIN",
};

void handshake_begin(struct handshake *handshake, enum socket_type type, const struct options *options)
{
    *handshake = (struct handshake){.type = type, .options = options};
    handshake_put(handshake, (uint8_t[]){0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, MAJOR_3}, SIGNATURE_SIZE + 1);
}

static void fail(struct handshake *handshake, enum reason reason)
{
    handshake->failed = reason;
}

static void on_version(struct handshake *handshake, uint8_t version)
{
    const struct options *options = handshake->options;

    if (version >= MAJOR_3) {
        uint8_t rest[GREETING_SIZE - VERSION_AT - 1] = {MINOR_1};
        memcpy(rest + 1, MECHANISMS[options->mechanism], MECHANISM_SIZE);
        rest[AS_SERVER_AT - VERSION_AT - 1] = options->mechanism == MECHANISM_PLAIN_SERVER;
        handshake_put(handshake, rest, sizeof rest);
        handshake->stage = STAGE_GREETING;
    } else if (version && (options->mechanism || options->has_zap_domain)) {
        fail(handshake, REASON_MECHANISM); /* ZMTP 2 has no mechanisms, and so nobody can be asked about its peers */
    } else if (version == REVISION_2 || version == 2) {
        handshake_put_byte(handshake, (uint8_t) handshake->type);
        handshake_put_byte(handshake, 0);
        handshake_put_byte(handshake, handshake->options->routing_id_size);
        handshake_put(handshake, handshake->options->routing_id, handshake->options->routing_id_size);
        handshake->stage = STAGE_TYPE_2;
    } else {
        fail(handshake, REASON_NOT_ZMTP);
    }
}

static void on_greeting(struct handshake *handshake, const uint8_t *rest)
{
    const struct options *options = handshake->options;
    bool both_serve = options->mechanism == MECHANISM_PLAIN_SERVER && rest[AS_SERVER_AT - VERSION_AT - 1];

    handshake->minor = rest[0];
    if (memcmp(rest + 1, MECHANISMS[options->mechanism], MECHANISM_SIZE) || both_serve) {
        fail(handshake, REASON_MECHANISM);
    } else if (options->mechanism == MECHANISM_PLAIN_SERVER) {
        handshake->stage = STAGE_HELLO;
    } else if (options->mechanism == MECHANISM_PLAIN_CLIENT) {
        handshake_put_hello(handshake);
        handshake->stage = STAGE_WELCOME;
    } else if (options->has_zap_domain) {
        handshake->stage = STAGE_ASKING;
    } else {
        handshake_put_metadata(handshake, "READY");
        handshake->stage = STAGE_READY;
    }
}

static void on_type(struct handshake *handshake, enum socket_type type)
{
    handshake->peer_type = type;
    if (!socket_types_fit(handshake->type, type))
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
            enum socket_type type = socket_type_named(value, value_size);
            if (type != TYPE_COUNT) {
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

/* Take a credential from `bytes`, up to `end`. Return what is behind it, or NULL if it is not there whole. */
static const uint8_t *take_credential(struct credential *credential, const uint8_t *bytes, const uint8_t *end)
{
    if (bytes == end || end - bytes - 1 < bytes[0])
        return NULL;
    memcpy(credential, bytes, 1 + (size_t) bytes[0]);
    return bytes + 1 + bytes[0];
}

static void on_hello(struct handshake *handshake, const uint8_t *bytes, const uint8_t *end)
{
    bytes = take_credential(&handshake->username, bytes, end);
    if (bytes)
        bytes = take_credential(&handshake->password, bytes, end);
    if (bytes == end)
        handshake->stage = STAGE_ASKING;
    else
        fail(handshake, REASON_BAD_COMMAND);
}

static bool is_command(const char *name, const uint8_t *body, size_t size)
{
    return size > strlen(name) && body[0] == strlen(name) && !memcmp(body + 1, name, strlen(name));
}

static void on_command(struct handshake *handshake, const uint8_t *body, size_t size)
{
    bool is_client = handshake->options->mechanism == MECHANISM_PLAIN_CLIENT;
    bool is_server = handshake->options->mechanism == MECHANISM_PLAIN_SERVER;

    if (handshake->stage == STAGE_READY && is_command("READY", body, size)) {
        on_properties(handshake, body + 6, size - 6);
    } else if (handshake->stage == STAGE_HELLO && is_command("HELLO", body, size)) {
        on_hello(handshake, body + 6, body + size);
    } else if (handshake->stage == STAGE_WELCOME && is_command("WELCOME", body, size) && size == 8) {
        handshake_put_metadata(handshake, "INITIATE");
        handshake->stage = STAGE_READY;
    } else if (handshake->stage == STAGE_INITIATE && is_command("INITIATE", body, size)) {
        on_properties(handshake, body + 9, size - 9);
        if (!handshake->failed)
            handshake_put_metadata(handshake, "READY");
    } else if (!is_server && is_command("ERROR", body, size)) {
        fail(handshake, REASON_REFUSED);
    } else if (is_client && size >= HANDSHAKE_PLAIN_ERROR_SIZE &&
               !memcmp(body, HANDSHAKE_PLAIN_ERROR, HANDSHAKE_PLAIN_ERROR_SIZE)) {
        fail(handshake, REASON_REFUSED);
    } else {
        fail(handshake, REASON_BAD_COMMAND);
    }
}

void handshake_answered(struct handshake *handshake, enum verdict verdict)
{
    bool is_plain = handshake->options->mechanism == MECHANISM_PLAIN_SERVER;

    if (verdict == VERDICT_ACCEPTED) {
        if (is_plain)
            handshake_put_command(handshake, "WELCOME", (const uint8_t *) "", 0);
        else
            handshake_put_metadata(handshake, "READY");
        handshake->stage = is_plain ? STAGE_INITIATE : STAGE_READY;
        return;
    }
    if (verdict == VERDICT_REFUSED || verdict == VERDICT_FAILED)
        handshake_put_error(handshake, verdict); /* after VERDICT_NOT_NOW it shall come again, and so it is told nothing */
    fail(handshake, verdict ? REASON_AUTHENTICATION : REASON_NO_VERDICT);
}

/* The frames of ZMTP 3 are commands at first, and the first one of ZMTP 2 is the identity. */
static size_t on_first_frame(struct handshake *handshake, const uint8_t *bytes, size_t count)
{
    unsigned flags, expected = handshake->stage == STAGE_IDENTITY_2 ? 0 : FRAME_COMMAND;
    uint64_t most = handshake->stage == STAGE_HELLO ? HELLO_MAX_BYTES : expected ? READY_MAX_BYTES : ROUTING_ID_MAX;
    uint64_t length;
    int header = frame_header(bytes, count, &flags, &length);

    if (header == 0)
        return 0;
    if (header < 0 || (flags & ~(unsigned) FRAME_LONG) != expected) {
        fail(handshake, REASON_BAD_FRAME);
        return 0;
    }
    if (length > most) {
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
    case STAGE_HELLO:
    case STAGE_INITIATE:
    case STAGE_WELCOME:
        return on_first_frame(handshake, bytes, count);
    case STAGE_DONE:
    case STAGE_ASKING:
        break;
    }
    return 0;
}

size_t handshake_fed(struct handshake *handshake, const uint8_t *bytes, size_t count)
{
    size_t used = 0;

    while (used < count && handshake->stage != STAGE_DONE && handshake->stage != STAGE_ASKING && !handshake->failed) {
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
