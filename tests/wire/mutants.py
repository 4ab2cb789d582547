"""Faults to plant in the core of the wire, one at a time, and how each is to be found."""

from typing import Final, NamedTuple


class MutantError(Exception):
    """A mutant that no longer applies."""


class Mutant(NamedTuple):
    """A file with a line replaced."""

    claim: str
    """What it does wrong."""
    file: str
    old: str
    """A line, or a part of some lines, that stands in the file once."""
    new: str
    check: str = ""
    """The check that finds it; the fuzzer, if there is none."""

    def applied_to(self, text: str) -> str:
        """The text of the file with the fault in it."""
        if text.count(self.old) != 1:
            raise MutantError(
                f"{self.claim}: expected {self.old!r} once in {self.file}, not {text.count(self.old)} times"
            )
        return text.replace(self.old, self.new)


MUTANTS: Final = (
    Mutant(
        "a slab is freed while a queue still refers to it",
        "queue.c",
        "segment->slab = slab_hold(run->slab);",
        "segment->slab = run->slab;",
    ),
    Mutant(
        "a frame that reaches over the end of a slab is cut there",
        "input.c",
        "if (count < size) {",
        "if (count < size && peer->end < peer->in->capacity) {",
    ),
    Mutant(
        "what has come is moved without its last byte",
        "input.c",
        "peer->end = count;\n    return true;",
        "peer->end = count - (count > SLAB_LARGE / 2);\n    return true;",
    ),
    Mutant(
        "a connection that has ended while it was being accepted is accepted",
        "port.c",
        "        if (peer->descriptor < 0) /* there was no memory for them, and its connection has ended */",
        "        if (peer->descriptor < -1)",
    ),
    Mutant(
        "the mark is forgotten that a segment continues a message",
        "queue.c",
        "    segment->continues = queue->open != 0;\n    segment->copied = false;",
        "    segment->continues = false;\n    segment->copied = false;",
        "cut-behind-a-prefix",
    ),
    Mutant(
        "the mark is forgotten that a peer has something to be written",
        "port.c",
        "        peer_note_queued(peer);\n        if (link_is_in(&peer->sharer.turn)",
        "        if (link_is_in(&peer->sharer.turn)",
        "orphans-are-written",
    ),
    Mutant(
        "only the port knows that a peer has something to be written",
        "port.c",
        "        peer_note_queued(peer);\n        if (link_is_in(&peer->sharer.turn)",
        "        list_include(&port->dirty, &peer->dirty_link);\n        if (link_is_in(&peer->sharer.turn)",
        "orphans-are-written",
    ),
    Mutant(
        "a read goes on beyond the end of a long message",
        "input.c",
        "return rest && rest < asked ? rest : asked;",
        "return asked;",
        "long-messages",
    ),
    Mutant(
        "whoever has sent a long message keeps its slab for a few bytes",
        "input.c",
        "else if (count < LONG_FROM && capacity > SLAB_LARGE)",
        "else if (false)",
        "after-a-long-message",
    ),
    Mutant(
        "a slab is made for a message as long as the last one, however long that was",
        "input.c",
        "size >= LONG_FROM && size <= RESERVES_BYTES ?",
        "size >= LONG_FROM ?",
        "after-a-long-message",
    ),
    Mutant(
        "a subscription is not passed on to the publishers",
        "subscribe.c",
        "    send_to_all(port, true, topic, size);",
        "",
    ),
    Mutant(
        "a publisher that comes later is not told of subscriptions",
        "port.c",
        "        subscribe_attach(port, peer);\n",
        "",
    ),
    Mutant(
        "a subscriber of two prefixes of a topic is given a message twice",
        "publish.c",
        "if (!subscriber->peer || subscriber->epoch == port->topics.epoch)",
        "if (!subscriber->peer)",
    ),
    Mutant(
        "a message is given to a subscriber that has left",
        "publish.c",
        "if (!subscriber->peer || subscriber->epoch == port->topics.epoch)",
        "if (subscriber->epoch == port->topics.epoch)",
    ),
    Mutant(
        "all subscriptions of a peer that leaves are removed in one turn",
        "subscribers.c",
        "if (!wire->removals)",
        "if (false)",
        "many-subscriptions",
    ),
    Mutant(
        "the subscriptions of a peer that has left are forgotten in a hand over",
        "subscribers.c",
        "        while (subscriber->count)\n            remove_first(port, subscriber);",
        "        while (subscriber->count)\n            topics_forget(subscriber);",
    ),
    Mutant(
        "a reply goes to the first peer and not to the one that asked",
        "take.c",
        "port->partner = port->engaged && peer->attached ? peer : NULL;",
        "port->partner = port->engaged ? LISTED(port->peers.next, struct peer, all) : NULL;",
    ),
    Mutant(
        "a reply is taken from any peer",
        "take.c",
        "if (message->from != port->partner || length",
        "if (length",
        "reply-of-another",
    ),
    Mutant(
        "the turns of peers are ignored",
        "take.c",
        "if (peer->deficit <= 0) {",
        "if (false) {",
        "fairness",
    ),
    Mutant(
        "a peer that was alone owes what it has sent",
        "take.c",
        "peer->deficit = alone ? PEER_QUANTUM_BYTES : peer->deficit + PEER_QUANTUM_BYTES;",
        "peer->deficit += PEER_QUANTUM_BYTES;",
        "newcomers",
    ),
    Mutant(
        "a message that does not end keeps the others waiting",
        "take.c",
        "if (peer->read_in_vain && !alone) {",
        "if (false) {",
        "beside-a-large-message",
    ),
    Mutant(
        "the queue of a leaver is dropped",
        "port.c",
        "queue_take_over(&port->orphans, &peer->out);",
        "queue_drop(&peer->out);",
    ),
    Mutant(
        "what a leaver was written is written to another again",
        "queue.c",
        "if (queue->first && queue->first->account && (queue->written || queue->first->continues))",
        "if (false)",
    ),
    Mutant(
        "the budget is ignored",
        "relay.c",
        "while (messages < limit_messages && bytes < limit_bytes) {",
        "while (bytes < limit_bytes) {",
    ),
    Mutant(
        "the budget of bytes is ignored",
        "relay.c",
        "while (messages < limit_messages && bytes < limit_bytes) {",
        "while (messages < limit_messages) {",
        "budget",
    ),
    Mutant(
        "a message may have one frame more than maxframes",
        "input.c",
        "peer->message.frames + 1 + port_routes(peer->port) + (flags & FRAME_MORE) >",
        "peer->message.frames + port_routes(peer->port) + (flags & FRAME_MORE) >",
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
        "a peer that has left is still awaited",
        "port.c",
        "== peer) {\n            port->awaited = NULL;\n",
        "== peer) {\n",
        "awaited-peer-leaves",
    ),
    Mutant(
        "the time at which a peer was asked is before that",
        "peer.c",
        "(float) (after_s * (1 + 2e-7));",
        "(float) after_s;",
        "heartbeats-after-months",
    ),
    Mutant(
        "a message that nobody takes stops an XPUB",
        "take.c",
        "return port->type == TYPE_XPUB && !port->nobody_takes;",
        "return port->type == TYPE_XPUB;",
        "port-that-nobody-takes-from",
    ),
    Mutant(
        "what peers leave to a port that only sends is kept",
        "peer.c",
        "if (peer->start == peer->end || port->nobody_takes) {",
        "if (peer->start == peer->end) {",
        "port-that-nobody-takes-from",
    ),
    Mutant(
        "a peer that leaves much to a port that only sends stays",
        "peer.c",
        "if (peer->port->nobody_takes && !peer->handshake)",
        "if (false)",
        "port-that-nobody-takes-from",
    ),
    Mutant(
        "a reply of too many frames is no answer",
        "take.c",
        "            note_answers(port, peer, 1);\n",
        "",
        "reply-of-too-many-frames",
    ),
    Mutant(
        "great loads are all alike",
        "turns.c",
        "enum { EXACT_BELOW = 32, STEPS = 2 };",
        "enum { EXACT_BELOW = 32, STEPS = 4 };",
        "great-loads",
    ),
    Mutant(
        "a message for a publisher is dropped that could be written",
        "subscribe.c",
        "peer_makes_room(peer) && peer->attached)",
        "peer_has_room(peer))",
        "messages-to-publishers",
    ),
    Mutant(
        "a reply that waits keeps the whole slab that it was read into",
        "output.c",
        "account) &&\n               queue_run(queue, &run, account, shares_from);",
        "account) &&\n               queue_share(queue, &run, account);",
        "replies-that-wait",
    ),
    Mutant(
        "a message behind a prefix is given a large slab",
        "output.c",
        "size_t reserve = count < shares_from ? count : 0;",
        "size_t reserve = 0;",
        "copies-behind-a-prefix",
    ),
    Mutant(
        "what is passed over within a run costs nothing",
        "input.c",
        "    peer->port->may_read -= PASSED_OVER_BYTES;\n    peer->deficit -= (int64_t) (peer->ready_end - end);",
        "    peer->deficit -= (int64_t) (peer->ready_end - end);",
        "passing-over",
    ),
    Mutant(
        "an empty frame with a long header is no delimiter",
        "take.c",
        "length || !(flags & FRAME_MORE))",
        "header != FRAME_SHORT_HEADER || !(flags & FRAME_MORE))",
        "long-delimiter",
    ),
    Mutant(
        "a REP keeps the longest envelope",
        "put.c",
        "if (port->envelope->capacity > SLAB_LARGE) {",
        "if (false) {",
        "long-envelope",
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
        "subscriptions are removed more slowly than others come",
        "subscribers.c",
        "port->wire->removals++;",
        "port->wire->removals += 0;",
        "subscriptions-come-and-go",
    ),
    Mutant(
        "all peers of a port that is not read are looked at in one turn",
        "commands.c",
        "for (int most = LOOKS_MAX; most && wire->unread.next != &unread; most--) {",
        "while (wire->unread.next != &unread) {",
        "looks-have-a-limit",
    ),
    Mutant(
        "a peer that has left counts for ever",
        "peer.c",
        "    peer->port->unread_ends -= peer->unread_end;\n",
        "",
    ),
    Mutant(
        "a subscriber that has cancelled is still awaited",
        "subscribers.c",
        "    if (cancelled)\n        wait_no_more(port, peer);",
        "    if (false)\n        wait_no_more(port, peer);",
        "awaited-subscriber-cancels",
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
        "a request is lost without a word when there is no memory for its envelope",
        "take.c",
        "peer_end(message->from, REASON_NO_MEMORY);",
        ";",
        "request-without-memory",
    ),
    Mutant(
        "a segment is lost when there is no memory for its slab",
        "queue.c",
        "            pool->segments_alive--;\n            free(segment);",
        "            pool->segments_alive--;",
    ),
    Mutant(
        "the first bytes of a message are kept when there is no memory for the rest",
        "queue.c",
        "    if (queue->open) { /* there was no memory",
        "    if (false) { /* there was no memory",
        "no-memory",
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
        "a message in a run that was not subscribed to is passed on",
        "take.c",
        "        if (chooses && !is_subscribed(port, peer->in->bytes",
        "        if (false && !is_subscribed(port, peer->in->bytes",
        "run-with-others",
    ),
    Mutant(
        "a run of messages goes to those that have subscribed to its first",
        "publish.c",
        "if (next.count != matching->count || memcmp(matched, matched + next.first, next.count * sizeof *matched)) {",
        "if (part.run.amount.messages == 0) {",
    ),
    Mutant(
        "more is read from a peer whose port is not read than is looked at",
        "commands.c",
        "< LOOK_AHEAD_BYTES)\n        peer_read(peer, LOOK_AHEAD_BYTES -",
        "< 4 * LOOK_AHEAD_BYTES)\n        peer_read(peer, 4 * LOOK_AHEAD_BYTES -",
        "look-ahead",
    ),
    Mutant(
        "the place of a topic in a map is known to whoever chooses the topic",
        "map.c",
        "    add(last.words, number);",
        "    return number;",
        "chosen-topics",
    ),
    Mutant(
        "a record takes the rest of a message for a whole one",
        "record_write.c",
        "queue->first && queue->first->continues && !queue->written ? sizeof",
        "false ? sizeof",
        "cut-behind-a-prefix-and-moved",
    ),
    Mutant(
        "a REQ takes what a server has sent before it was asked for the reply",
        "put.c",
        "    port_forget_unasked(port);",
        "",
        "reply-before-the-request",
    ),
)
