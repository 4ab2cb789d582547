/* Peers about whom an authenticator is asked: from the question to the answer. */
#include "wire.h"

#include <stdlib.h>
#include <string.h>

bool peer_begin_asking(struct peer *peer)
{
    struct question *question = malloc(sizeof *question);

    if (!question)
        return false;
    *question = (struct question){.peer = peer};
    link_init(&question->link);
    peer->handshake->question = question;
    peer_go_on_asking(peer);
    return true;
}

void peer_suspend_asking(struct peer *peer)
{
    link_remove(&peer->handshake->question->link);
}

void peer_go_on_asking(struct peer *peer)
{
    struct wire *wire = peer->port->wire;

    peer->handshake->question->number = ++wire->questions;
    list_append(&wire->asking, &peer->handshake->question->link);
}

void peer_end_asking(struct peer *peer)
{
    link_remove(&peer->handshake->question->link);
    free(peer->handshake->question);
    peer->handshake->question = NULL;
}

struct peer *wire_next_question(struct wire *wire)
{
    if (list_is_empty(&wire->asking))
        return NULL;
    struct question *question = LISTED(wire->asking.next, struct question, link);
    list_move_to_end(&question->peer->port->asked, &question->link);
    return question->peer;
}

/* The numbers ascend. Authenticators answer in the order in which they are asked, as a rule, and so it is one of the first. */
static struct peer *find_asked(const struct port *port, uint64_t number)
{
    for (struct link *link = port->asked.next; link != &port->asked; link = link->next) {
        struct question *question = LISTED(link, struct question, link);
        if (question->number >= number)
            return question->number == number ? question->peer : NULL;
    }
    return NULL;
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
    peer_end_asking(peer);
    if (verdict == VERDICT_ACCEPTED && !peer_set_user_id(peer, user_id, size)) {
        peer_end(peer, REASON_NO_MEMORY);
        return;
    }
    peer_note_heard(peer); /* nothing was read from it meanwhile */
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
