#define _GNU_SOURCE /* struct ucred */
#include "notices.h"

#include "wire.h"

#include <stdio.h>
#include <stdlib.h>

bool notices_keep(struct notices *notices, size_t room)
{
    struct notice *items = room ? calloc(room, sizeof *items) : NULL;

    if (room && !items)
        return false;
    free(notices->items);
    *notices = (struct notices){.items = items, .room = room};
    return true;
}

/* The next notice; NULL if there is no room, or nobody listens. */
static struct notice *next_notice(struct notices *notices)
{
    if (!notices->items)
        return NULL;
    if (notices->count == notices->room) {
        notices->lost++;
        return NULL;
    }
    return &notices->items[notices->count++];
}

void notices_add(struct notices *notices, enum notice_kind kind, const struct peer *peer)
{
    struct notice *notice = next_notice(notices);
    struct ucred owner;
    socklen_t size = sizeof owner;

    if (!notice)
        return;
    *notice = (struct notice){.kind = kind, .reason = peer->reason, .port = peer->port};
    if (peer->other_end.size)
        other_end_describe(notice->address, &peer->other_end);
    else if (getsockopt(peer->descriptor, SOL_SOCKET, SO_PEERCRED, &owner, &size) == 0 && owner.pid)
        snprintf(notice->address, sizeof notice->address, "ipc, process %d", (int) owner.pid);
    else
        snprintf(notice->address, sizeof notice->address, "ipc");
}

void notices_add_refused(struct notices *notices, struct port *port, enum reason reason, int error,
                         const struct other_end *from)
{
    struct notice *notice = next_notice(notices);

    if (!notice)
        return;
    *notice = (struct notice){.kind = NOTICE_REFUSED, .reason = reason, .error = error, .port = port};
    if (from)
        other_end_describe(notice->address, from);
}

void notices_forget(struct notices *notices, const struct port *port)
{
    size_t kept = 0;

    for (size_t i = 0; i < notices->count; i++)
        if (notices->items[i].port != port)
            notices->items[kept++] = notices->items[i];
    notices->count = kept;
}
