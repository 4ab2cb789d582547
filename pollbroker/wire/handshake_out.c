#include "handshake_out.h"

#include "frame.h"

#include <string.h>

void handshake_put(struct handshake *handshake, const void *bytes, size_t count)
{
    memcpy(handshake->out + handshake->out_size, bytes, count);
    handshake->out_size += count;
}

void handshake_put_byte(struct handshake *handshake, uint8_t byte)
{
    handshake_put(handshake, &byte, 1);
}

static void put_property(struct handshake *handshake, const char *name, const void *value, size_t size)
{
    handshake_put_byte(handshake, (uint8_t) strlen(name));
    handshake_put(handshake, name, strlen(name));
    handshake_put(handshake, (uint8_t[]){0, 0, 0, (uint8_t) size}, 4); /* no value here is longer than 255 bytes */
    handshake_put(handshake, value, size);
}

void handshake_put_command(struct handshake *handshake, const char *command, const uint8_t *body, size_t size)
{
    uint8_t header[FRAME_LONG_HEADER];

    handshake_put(handshake, header, frame_write_header(header, FRAME_COMMAND, 1 + strlen(command) + size));
    handshake_put_byte(handshake, (uint8_t) strlen(command));
    handshake_put(handshake, command, strlen(command));
    handshake_put(handshake, body, size);
}

void handshake_put_metadata(struct handshake *handshake, const char *command)
{
    const struct options *options = handshake->options;
    const char *name = socket_type_name(handshake->type);
    uint8_t header[FRAME_LONG_HEADER];
    size_t begin = handshake->out_size, size;

    handshake_put_byte(handshake, (uint8_t) strlen(command));
    handshake_put(handshake, command, strlen(command));
    put_property(handshake, "Socket-Type", name, strlen(name));
    if (socket_type_has_identity(handshake->type))
        put_property(handshake, "Identity", options->routing_id, options->routing_id_size);
    size = handshake->out_size - begin;
    size_t header_size = frame_write_header(header, FRAME_COMMAND, size);
    memmove(handshake->out + begin + header_size, handshake->out + begin, size);
    memcpy(handshake->out + begin, header, header_size);
    handshake->out_size += header_size;
}

void handshake_put_hello(struct handshake *handshake)
{
    uint8_t body[2 + 2 * CREDENTIAL_MAX];
    const struct options *options = handshake->options;
    size_t username = 1 + options->plain_username.size, password = 1 + options->plain_password.size;

    memcpy(body, &options->plain_username, username);
    memcpy(body + username, &options->plain_password, password);
    handshake_put_command(handshake, "HELLO", body, username + password);
}

void handshake_put_error(struct handshake *handshake, enum verdict verdict)
{
    uint8_t code[] = {3, (uint8_t) ('0' + verdict / 100), '0', '0'};
    uint8_t header[FRAME_LONG_HEADER];

    if (handshake->options->mechanism == MECHANISM_NULL) {
        handshake_put_command(handshake, "ERROR", code, sizeof code);
    } else {
        handshake_put(handshake, header, frame_write_header(header, FRAME_COMMAND, HANDSHAKE_PLAIN_ERROR_SIZE + sizeof code));
        handshake_put(handshake, HANDSHAKE_PLAIN_ERROR, HANDSHAKE_PLAIN_ERROR_SIZE);
        handshake_put(handshake, code, sizeof code);
    }
}
