/* Ports and their peers, without I/O: the state of the connections of an engine.
 *
 *     wire   what all ports of one engine share
 *     port   one socket of a broker, with any number of peers
 *     peer   one connection: what came from it and was not passed on, and what is to be written to it
 *
 * A port does no I/O itself. It asks for that by its `stream_calls`, which are those of sockets (`net_streams.c`), or those of a
 * simulation. Nothing here waits, and nothing here is used by two threads at a time. */
#ifndef POLLBROKER_WIRE_WIRE_H
#define POLLBROKER_WIRE_WIRE_H

#include "account.h"
#include "admission.h"
#include "handshake.h"
#include "list.h"
#include "map.h"
#include "options.h"
#include "queue.h"
#include "reasons.h"
#include "peer.h"
#include "slab.h"
#include "topics.h"
#include "turns.h"

#include <sys/types.h>

enum {
    PEER_QUEUE_BYTES = 256 << 10,  /* a peer whose queue has so much is full, whatever its number of messages */
    PEER_DROPS_BYTES = 64 << 20,   /* the same where messages for a full peer are dropped, instead of left at their source */
    PEER_QUANTUM_BYTES = 16 << 10, /* what a port takes from one peer while others wait for their turn */
    PASSED_OVER_BYTES = 128, /* what a command costs, or a message that the port takes itself, in bytes that may be read */
    LOOK_AHEAD_BYTES = SLAB_MIDDLE /* what is read from a peer whose port is not read, to find its PINGs */
};
#define LOOK_AFTER_S 0.05

/* What has happened at a port since its owner last looked. */
enum { NEWS_INPUT = 1, NEWS_ROOM = 2 };

struct peer;
struct port;

struct stream_calls {
    /* Read from a peer. Return the number of bytes, 0 at the end of the stream, or a negative errno. */
    ssize_t (*read)(struct peer *peer, void *bytes, size_t count);
    /* Write to a peer. Return the number of bytes, or a negative errno. */
    ssize_t (*write)(struct peer *peer, const struct iovec *pieces, int count);
    /* The connection is over. The peer may still have messages that were read from it. */
    void (*close)(struct peer *peer);
    /* `peer->deadline_s` was changed. */
    void (*set_deadline)(struct peer *peer);
    /* Hands were shaken. NULL if nobody is to be told. */
    void (*connected)(struct peer *peer);
};

struct wire {
    struct pool pool;
    struct link changed;   /* ports that have news */
    struct link unwritten; /* ports with peers that have bytes which nobody has tried to write */
    struct link unread;    /* peers of which something has come, and was not looked through to its end */
    double look_s;         /* when these are looked at */
    struct link dead;      /* peers whose connections are over, and of which nothing is left to be read */
    struct link left;      /* subscribers whose peers have left, and that have subscriptions yet */
    unsigned removals;     /* so many of their subscriptions may still be removed in this turn */
    struct link asking;    /* questions that an authenticator is to be asked: see `wire_next_question` */
    uint64_t questions;    /* that there were so far */
    double now_s;          /* when the present turn began */
    size_t ports_alive, peers_alive;
};

struct port {
    struct wire *wire;
    enum socket_type type;
    struct options options;
    const struct stream_calls *calls;
    void *owner; /* of those who made the port */
    struct link changed, unwritten;
    unsigned news;
    bool ended; /* no peer may be added any more */
    bool shared; /* another process may have duplicates of its streams, and no right to them */
    bool nobody_takes; /* no flow takes messages from this port, and those that come are of no use */
    bool given_away; /* its connections go on at another port, so that their end here is none */

    struct link peers;    /* all of them */
    struct link readable; /* those that a message may be taken from, in turn */
    struct link dirty;    /* those with bytes that nobody has tried to write */
    struct link asked;    /* questions about them that an authenticator was asked, and has not answered */
    uint64_t peer_count;  /* that have shaken hands */
    uint64_t connections; /* all of them */
    uint64_t unread_ends; /* peers whose connections are over, and from whom something is left to be taken */
    uint64_t handshakes;  /* those that have yet to shake hands */
    struct map addresses; /* of those that were accepted: struct address */
    bool tells_when_empty; /* there is news when a peer has been written all of its messages */
    int64_t may_read;      /* bytes that may still be read in this turn; what is not passed on costs more: PASSED_OVER_BYTES */
    struct amount discarded; /* frames of messages that have too many, since somebody looked last */
    uint64_t ended_by[REASON_COUNT];

    /* PUSH, DEALER and REQ: the peers that a message can be given to */
    struct turns turns;
    /* ROUTER */
    struct map ids;
    uint32_t next_id;
    bool takes_copies;    /* of other messages: what it has no room for is dropped */
    bool drops_slow_peer; /* a message for a peer that is full is dropped, instead of kept */
    struct peer *awaited; /* the peer that had no room for the message that was offered last */
    /* PUSH and DEALER: the messages of peers that have left, which wait for another */
    struct queue orphans;
    /* REP and REQ: a request was taken, or sent, and its reply is due; the peer that it is about, unless that has left; and
     * at a REP the envelope of the request, encoded */
    bool engaged;
    bool answered; /* REP: what it gave was sent back to it before it was consumed */
    struct peer *partner;
    struct slab *envelope;
    size_t envelope_size;
    /* XPUB and PUB */
    struct topics topics;
    struct queue subscriptions; /* XPUB: those that are to be read */
    struct peer **matched;
    size_t matched_room;
    /* PUB, XPUB, SUB, XSUB: messages that were for a peer and were not written to it */
    uint64_t missed;
    /* XSUB and SUB: what was subscribed to here, and how many bytes tell a publisher of all of that */
    struct prefixes prefixes;
    size_t prefixes_bytes;
};

/* What the peers of a port are: see the union in peer.h. */
static inline bool port_shares(const struct port *port)
{
    return port->type == TYPE_PUSH || port->type == TYPE_DEALER || port->type == TYPE_REQ;
}

static inline bool port_publishes(const struct port *port)
{
    return port->type == TYPE_PUB || port->type == TYPE_XPUB;
}

static inline bool port_subscribes(const struct port *port)
{
    return port->type == TYPE_SUB || port->type == TYPE_XSUB;
}

static inline bool port_routes(const struct port *port)
{
    return port->type == TYPE_ROUTER;
}

/* A message, or several, on the way from a port to another: the encoded frame that precedes it, if there is one, and the
 * run of its frames. */
struct message {
    struct peer *from; /* NULL if it did not come from a peer */
    const uint8_t *prefix;
    size_t prefix_size;
    struct amount prefix_amount;
    struct run run;
};

void wire_init(struct wire *wire);

/* Free the dead peers. Nobody may have a pointer to a peer meanwhile. */
void wire_forget_dead(struct wire *wire);

/* -- peer.c: one connection -- */

/* A peer that has neither a stream nor a handshake. NULL if there is no memory. */
struct peer *peer_without_stream(struct port *port);

/* Its stream: the connection counts from now on. */
void peer_set_stream(struct peer *peer, int descriptor);

/* It has yet to shake hands. Return false if there is no memory. */
bool peer_add_handshake(struct peer *peer);

/* A new connection of a port, whose streams are `owner`'s. It begins with the greeting. NULL if there is no memory. */
struct peer *peer_new(struct port *port, int descriptor, void *owner);

/* The connection of a peer is over, and something is left to be taken. */
void peer_note_unread_end(struct peer *peer);

/* Something has happened at its stream. The stream is to be read until nothing more comes before the same is told again. */
enum { STREAM_INPUT = 1, STREAM_OUTPUT = 2, STREAM_END = 4 };
void peer_on_stream(struct peer *peer, unsigned events);

/* Queue what the handshake has to say. */
void peer_send_greeting(struct peer *peer);

/* When the peer has to be heard next, or is to be sent a PING. */
void peer_set_heartbeat(struct peer *peer);

/* Something has come from the peer, or may have come. */
static inline void peer_note_heard(struct peer *peer)
{
    peer->heard_s = peer->port->wire->now_s;
    peer->asked_after_s = 0;
}

/* It is asked now whether it is there, and has not been heard since `heard_s`. */
void peer_note_asked(struct peer *peer);

/* -- commands.c -- */

/* Do what a command says. Return the reason to end the connection, or NO_REASON. */
enum reason peer_obey(struct peer *peer, const uint8_t *body, size_t size);

/* Something has come from a peer. If nobody has taken it after LOOK_AFTER_S, PINGs are looked for in it. */
void peer_note_unread(struct peer *peer);

/* Answer the PINGs of the peers whose ports are not read now, as far as they are among the first LOOK_AHEAD_BYTES. */
void wire_look_ahead(struct wire *wire);

/* -- input.c: what comes from a peer -- */

/* Forget what has come and was not taken. */
void peer_drop_input(struct peer *peer);

/* The stream may have bytes. */
void peer_is_readable(struct peer *peer);

/* Read once, `most` bytes. Return true if something has changed: bytes have come, or the connection is over. */
bool peer_read(struct peer *peer, size_t most);

/* Let what has come, and waits for more, take no more memory than it needs. */
void peer_shrink_input(struct peer *peer);

enum parsed { PARSED_NOTHING, PARSED_MESSAGE, PARSED_TOO_LONG };

/* Go on with the handshake, with what has come. Return true if it is over. */
bool peer_shake_hands(struct peer *peer);

/* Find one more message in what has come, and add it to what is ready. */
enum parsed peer_parse(struct peer *peer);

/* What is ready was passed on, or is to be forgotten. */
void peer_consume(struct peer *peer);

/* Take the last message out of what is ready: `before` was ready then, and ended at `end`. It is forgotten. */
void peer_unready(struct peer *peer, size_t end, struct amount before);

/* Write what is in its queue. */
void peer_flush(struct peer *peer);

static inline bool port_drops(const struct port *port)
{
    switch (port->type) {
    case TYPE_ROUTER:
        return port->drops_slow_peer;
    case TYPE_PUB:
    case TYPE_XPUB:
        return !port->options.xpub_nodrop;
    case TYPE_REP:
        return true;
    default:
        return port->takes_copies;
    }
}

static inline bool peer_has_room(const struct peer *peer)
{
    int most = peer->port->options.sndhwm;
    size_t most_bytes = port_drops(peer->port) ? PEER_DROPS_BYTES : PEER_QUEUE_BYTES;

    return peer->out.bytes < most_bytes && (!most || peer->out.messages < (uint64_t) most);
}

/* Write to a peer that has no room, in the hope that it has some then. Return true if it has. Its connection may be over then. */
bool peer_makes_room(struct peer *peer);

/* Put a message into its queue, whole. The caller has asked before whether it has room. Return false if there is no memory;
 * the connection is over then, and the message is not counted. */
bool peer_enqueue(struct peer *peer, const struct message *message, struct account *account);

/* Put a command, or a subscription, into its queue. */
void peer_enqueue_bytes(struct peer *peer, const uint8_t *bytes, size_t count);

/* Something was queued for a peer: it is written by the next `port_flush` or `wire_flush`, unless the stream is full. */
void peer_note_queued(struct peer *peer);

/* Its routing id. At any port but a ROUTER it is empty. */
struct key peer_routing_id(const struct peer *peer);

/* What precedes each message of a ROUTER's peer, which has this routing id. Return false if there is no memory. */
bool peer_set_routing_id(struct peer *peer, const uint8_t *id, size_t size);

/* Keep who it is. Return false if there is no memory. */
bool peer_set_user_id(struct peer *peer, const uint8_t *user_id, size_t size);

/* The other side has closed the connection, and there may be bytes that it has sent before. Nothing is sent to it any
 * more. */
void peer_leave(struct peer *peer);

/* End the connection. What was read from the peer can still be taken; `peer_forget` frees it when that is done. */
void peer_end(struct peer *peer, enum reason reason);

void peer_on_deadline(struct peer *peer);

/* Free a peer whose connection is over, with what was read from it. */
void peer_forget(struct peer *peer);

/* -- asking.c: peers about whom an authenticator is asked -- */

enum { USER_ID_MAX = 4096 };

/* Return false if there is no memory. */
bool peer_begin_asking(struct peer *peer);

/* An answer that comes from now on is ignored. The question is asked again, with another number, by `peer_go_on_asking`. */
void peer_suspend_asking(struct peer *peer);
void peer_go_on_asking(struct peer *peer);

/* The question was answered, or needs no answer any more. */
void peer_end_asking(struct peer *peer);

/* The next peer about whom an authenticator is to be asked; NULL if there is none. The question and what the peer has said
 * are in its handshake. */
struct peer *wire_next_question(struct wire *wire);

/* What an authenticator has decided, and who the peer is. Nothing happens if the peer has left meanwhile. */
void port_answer(struct port *port, uint64_t question, enum verdict verdict, const uint8_t *user_id, size_t size);

static inline bool peer_is_asking(const struct peer *peer)
{
    return peer->handshake && peer->handshake->question;
}

/* -- port.c: a port, and its peers that come and go -- */

void port_init(struct port *port, struct wire *wire, enum socket_type type, const struct stream_calls *calls);

/* End all connections, and free everything. */
void port_end(struct port *port);

void port_note(struct port *port, unsigned news);

/* A peer has shaken hands. Return the reason why it cannot be taken in, or NO_REASON. */
enum reason port_attach(struct port *port, struct peer *peer);

/* Nothing is sent to a peer any more. */
void port_detach(struct port *port, struct peer *peer);

/* Nothing more will be taken from a peer. */
void port_finish(struct port *port, struct peer *peer);

/* A peer has room again. */
void port_has_room(struct port *port, struct peer *peer);

/* -- take.c: messages that have come -- */

enum taken { TAKEN_NOTHING, TAKEN_LATER, TAKEN_MESSAGE, TAKEN_TOO_LONG };

/* The next message that has come to this port; several at once, up to `most`, if they are one run of bytes. It stays where
 * it is until `port_consume`. TAKEN_LATER: no more may be read in this turn. TAKEN_TOO_LONG: a message with too many frames
 * was dropped. */
enum taken port_take(struct port *port, struct message *message, uint64_t most);

void port_consume(struct port *port, struct message *message);

/* REQ: forget what has come before a request, since it is no reply to that. No request may be on its way. */
void port_forget_unasked(struct port *port);

/* True if `port_take` may find something. */
bool port_has_input(const struct port *port);

/* -- put.c: messages that go -- */

enum put { PUT_ACCEPTED, PUT_FULL, PUT_UNROUTABLE, PUT_SLOW_PEER, PUT_LONG_SUBSCRIPTION, PUT_NO_MEMORY };

/* Offer messages to a port. They are accepted all or not at all. */
enum put port_put(struct port *port, const struct message *message, struct account *account);

/* How many messages can be offered at once in one run: 1 if they go to several peers in turn. */
uint64_t port_run_max(const struct port *port);

/* True if a message that is offered may be accepted. */
bool port_has_room_for_any(const struct port *port);

/* Write what was put since the last time. */
void port_flush(struct port *port);

/* Do so at all ports. */
void wire_flush(struct wire *wire);

/* Messages that were accepted and are not yet written. */
uint64_t port_held(const struct port *port);

/* Count the messages that have come and were not taken, up to a limit, and forget them. */
uint64_t port_count_unread(struct port *port, uint64_t most);

/* The body of the first frame of a message, and how many bytes of the run are in front of what follows it. */
void message_first(const struct message *message, const uint8_t **body, size_t *size, size_t *rest);

/* The first message of a run, which has one or more. */
struct run run_first(const struct run *run);

#endif
