/* Peers about whom an authenticator is asked: from the question to the answer. */
#include "wire.h"

#include <stdlib.h>
#include <string.h>

void peer_begin_asking(struct peer *peer)
{
    struct wire *wire = peer->port->wire;

    peer->question = ++wire->questions;
    list_append(&wire->asking, &peer->asking_link);
}

struct peer *wire_next_question(struct wire *wire)
{
    if (list_is_empty(&wire->asking))
        return NULL;
    struct peer *peer = LISTED(wire->asking.next, struct peer, asking_link);
    link_remove(&peer->asking_link);
    list_append(&peer->port->asked, &peer->asking_link);
    return peer;
}

/* Authenticators answer in the order in which they are asked, as a rule, and so it is one of the first. */
static struct peer *find_asked(const struct port *port, uint64_t question)
{
    for (struct link *link = port->asked.next; link != &port->asked; link = link->next) {
        struct peer *peer = LISTED(link, struct peer, asking_link);
        if (peer->question == question)
            return peer;
    }
    return NULL;
}

static bool keep_user_id(struct peer *peer, const uint8_t *user_id, size_t size)
{
    if (!size)
        return true;
    if (!(peer->user_id = malloc(size)))
        return false;
    memcpy(peer->user_id, user_id, size);
    peer->user_id_size = size;
    return true;
}

/* Write the ERROR, and read what has come: a connection that is closed with bytes that nobody has read is reset, and then the
 * peer might not be given the ERROR. */
static void say_why(struct peer *peer)
{
    uint8_t unread[READY_MAX_BYTES];

    peer_send_greeting(peer);
    peer_flush(peer);
    if (peer->descriptor >= 0)
        peer->port->calls->read(peer, unread, sizeof unread);
}

void port_answer(struct port *port, uint64_t question, enum verdict verdict, const uint8_t *user_id, size_t size)
{
    struct peer *peer = find_asked(port, question);

    if (!peer)
        return;
    link_remove(&peer->asking_link);
    if (verdict == VERDICT_ACCEPTED && !keep_user_id(peer, user_id, size)) {
        peer_end(peer, REASON_NO_MEMORY);
        return;
    }
    peer->heard_s = peer->port->wire->now_s; /* nothing was read from it meanwhile */
    handshake_answered(peer->handshake, verdict);
    enum reason reason = peer->handshake->failed;
    if (reason) {
        say_why(peer);
        peer_end(peer, reason);
        return;
    }
    peer_shake_hands(peer);
    peer_on_stream(peer, STREAM_INPUT);
}
