"""Faults to plant in how connections are kept: in handshakes and heartbeats, at their end, and in hand overs."""

from typing import Final

from tests.wire.planting import Mutant

MUTANTS_OF_CONNECTIONS: Final = (
    Mutant(
        "a connection that has ended while it was being accepted is accepted",
        "port.c",
        "        if (peer->descriptor < 0) /* there was no memory for them, and its connection has ended */",
        "        if (peer->descriptor < -1)",
    ),
    Mutant(
        "a deadline is set after the end of the connection",
        "peer.c",
        "    if (peer->descriptor < 0)\n        return; /* a PING",
        "    if (false)\n        return; /* a PING",
    ),
    Mutant(
        "messages are taken from a peer that was refused",
        "peer.c",
        "    if (peer->handshake) /* nothing is taken",
        "    if (false) /* nothing is taken",
    ),
    Mutant(
        "the time at which a peer was asked is before that",
        "peer.c",
        "(float) (after_s * (1 + 2e-7));",
        "(float) after_s;",
        "heartbeats-after-months",
    ),
    Mutant(
        "a peer that reads slowly is taken for silent",
        "output.c",
        "if (was_blocked && peer->asked_after_s)",
        "if (false)",
        "heartbeats-to-slow-readers",
    ),
    Mutant(
        "a peer that is sent PING again is given the time to answer again",
        "output.c",
        "if (was_blocked && peer->asked_after_s)",
        "if (peer->asked_after_s)",
        "heartbeats-to-slow-readers",
    ),
    Mutant(
        "a PING is queued behind another that waits",
        "peer.c",
        "if (!peer->ping_left)",
        "if (true)",
        "heartbeats-that-wait",
    ),
    Mutant(
        "no PING is queued behind messages while another that was written is in front of them",
        "output.c",
        "peer->ping_left -= (size_t) written < peer->ping_left ? (uint32_t) written : peer->ping_left;",
        "peer->ping_left = peer->ping_left && peer->out.bytes;",
        "heartbeats-amid-a-backlog",
    ),
    Mutant(
        "a peer that has left counts for ever",
        "peer.c",
        "    peer->port->unread_ends -= peer->unread_end;\n",
        "",
    ),
    Mutant(
        "a peer is taken for silent that was not asked",
        "peer.c",
        "double answer_s = timeout && peer->asked_after_s && !peer->leaves ?",
        "double answer_s = timeout && options->heartbeat_ivl ?",
        "heartbeats-after-a-pause",
    ),
    Mutant(
        "a peer that has answered is taken for silent",
        "input.c",
        "        peer_note_heard(peer);",
        "        peer->heard_s = peer->port->wire->now_s;",
        "heartbeats-after-a-pause",
    ),
    Mutant(
        "PINGs are answered without a limit",
        "commands.c",
        "    if (peer->out.bytes >= PEER_QUEUE_BYTES)\n        return; /* it does not read",
        "    if (false)\n        return; /* it does not read",
        "unread-pongs",
    ),
    Mutant(
        "a peer is let in although it was refused",
        "handshake.c",
        "    if (verdict == VERDICT_ACCEPTED) {",
        "    if (verdict) {",
    ),
    Mutant(
        "an authenticator is told the password for the name",
        "handshake.c",
        "take_credential(&handshake->username, bytes, end);\n    if (bytes)\n"
        "        bytes = take_credential(&handshake->password, bytes, end);",
        "take_credential(&handshake->password, bytes, end);\n    if (bytes)\n"
        "        bytes = take_credential(&handshake->username, bytes, end);",
    ),
    Mutant(
        "the mechanisms are not compared",
        "handshake.c",
        "if (memcmp(rest + 1, MECHANISMS[options->mechanism], MECHANISM_SIZE) || both_serve) {",
        "if (both_serve) {",
    ),
    Mutant(
        "a peer of ZMTP 2 needs no password",
        "handshake.c",
        "} else if (version && (options->mechanism || options->has_zap_domain)) {",
        "} else if (false) {",
    ),
    Mutant(
        "nobody finds out that a peer has left while it was asked about",
        "peer.c",
        "    if (peer->descriptor >= 0 && peer_is_asking(peer)) { /* it is not read",
        "    if (false) { /* it is not read",
    ),
    Mutant(
        "a peer is read while it is asked about",
        "input.c",
        "if (peer->descriptor < 0 || peer_is_asking(peer)) {",
        "if (peer->descriptor < 0) {",
    ),
    Mutant(
        "an answer is given to the peer that asked first",
        "asking.c",
        "if (question->number >= number)\n            return question->number == number ? question->peer : NULL;",
        "if (true)\n            return question->peer;",
    ),
    Mutant(
        "a message that was written in part is written from its start again by another process",
        "record_values.c",
        "queue->written = written, queue->bytes -= written;",
        "queue->written = 0;",
    ),
    Mutant(
        "what was read and not taken is not handed over",
        "record_write.c",
        "    put_u64(record, peer->in ? scanned + rest : 0);\n    if (peer->in) {",
        "    put_u64(record, 0);\n    if (false) {",
    ),
    Mutant(
        "a peer has another routing id after a hand over",
        "record_peers.c",
        "if (!peer_set_routing_id(peer, id, size)) {",
        "if (!peer_set_routing_id(peer, id, size) || !(peer->routed.prefix[1 + size] ^= 1)) {",
    ),
    Mutant(
        "a subscription is lost in a hand over",
        "record_peers.c",
        "= peer_subscribe(peer, topic, size);",
        "= size == 2 ? SUBSCRIBED : peer_subscribe(peer, topic, size);",
    ),
    Mutant(
        "the rest of a message of too many frames is taken for a message after a hand over",
        "record_peers.c",
        "peer->discarding = flags & FLAG_DISCARDING;",
        "peer->discarding = false;",
    ),
    Mutant(
        "a record is believed to have the messages that it counts",
        "record_values.c",
        "!count_messages(bytes, size, in_message, &messages) || messages != run.amount.messages",
        "false",
        "changed-records",
    ),
    Mutant(
        "a command that was obeyed is obeyed again after a hand over",
        "record_write.c",
        "rest = peer->end - peer->scanned - peer->gap;",
        "rest = peer->end - peer->scanned - (((struct peer *) peer)->gap = 0);",
    ),
    Mutant(
        "a PING that was answered early is answered again",
        "commands.c",
        "        if (!ping && !(flags & FRAME_COMMAND && is_pong(",
        "        if (!(flags & FRAME_COMMAND && is_pong(",
    ),
    Mutant(
        "the stream of a peer that has left is not read to its end",
        "input.c",
        "peer->readable = (size_t) count == asked || peer->leaves;",
        "peer->readable = (size_t) count == asked;",
    ),
    Mutant(
        "a record takes the rest of a message for a whole one",
        "record_write.c",
        "queue->first && queue->first->continues && !queue->written ? sizeof",
        "false ? sizeof",
        "cut-behind-a-prefix-and-moved",
    ),
)
