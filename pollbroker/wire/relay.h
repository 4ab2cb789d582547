/* Moving messages from one port to another. */
#ifndef POLLBROKER_WIRE_RELAY_H
#define POLLBROKER_WIRE_RELAY_H

#include "wire.h"

/* Why it stopped: the numbers of outcomes.py. */
enum relayed { RELAYED_ALL = 0, RELAYED_UNTIL_FULL = 1, RELAYED_UNTIL_LIMIT = 2, RELAYED_WITHOUT_MEMORY = 3 };

/* Move messages until the source is empty, the sink is full, or so many messages or bytes were moved. A message stays at
 * the source until the sink accepts it. */
enum relayed relay(struct port *source, struct port *sink, struct account *account, uint64_t limit_messages,
                   uint64_t limit_bytes);

typedef void (*watched_run)(void *who, const struct message *run);

/* Do the same, and call `accepted` with `who` and each run of messages that the sink has accepted. */
enum relayed relay_watched(struct port *source, struct port *sink, struct account *account, uint64_t limit_messages,
                           uint64_t limit_bytes, watched_run accepted, void *who);

#endif
