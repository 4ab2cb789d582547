/* Doubly linked lists whose links are part of what is listed. A list is a link, too: an empty one links to itself. */
#ifndef POLLBROKER_WIRE_LIST_H
#define POLLBROKER_WIRE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct link {
    struct link *previous, *next;
};

#define LISTED(link, type, member) ((type *) ((char *) (link) - offsetof(type, member)))

static inline void link_init(struct link *link)
{
    link->previous = link->next = link;
}

static inline bool list_is_empty(const struct link *list)
{
    return list->next == list;
}

/* True if the link is in a list. */
static inline bool link_is_in(const struct link *link)
{
    return link->next != link;
}

static inline void list_append(struct link *list, struct link *link)
{
    link->previous = list->previous;
    link->next = list;
    list->previous->next = link;
    list->previous = link;
}

static inline void link_remove(struct link *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
    link_init(link);
}

/* Append the link, unless it is in a list already. */
static inline void list_include(struct link *list, struct link *link)
{
    if (!link_is_in(link))
        list_append(list, link);
}

static inline void list_move_to_end(struct link *list, struct link *link)
{
    link_remove(link);
    list_append(list, link);
}

#endif
