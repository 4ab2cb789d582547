#include "socket_types.h"

#include <string.h>

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

const char *socket_type_name(enum socket_type type)
{
    return NAMES[type];
}

enum socket_type socket_type_named(const uint8_t *name, size_t size)
{
    enum socket_type type = 0;

    while (type < TYPE_COUNT && (size != strlen(NAMES[type]) || memcmp(NAMES[type], name, size)))
        type++;
    return type;
}

bool socket_types_fit(enum socket_type ours, enum socket_type theirs)
{
    return FITS[ours] & 1u << theirs;
}

bool socket_type_has_identity(enum socket_type type)
{
    return (TYPE(REQ) | TYPE(DEALER) | TYPE(ROUTER)) & 1u << type;
}
