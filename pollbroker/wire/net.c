#include "net.h"

#include "net_watching.h"
#include "publish.h"

#include <errno.h>
#include <math.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MOST_EVENTS = 256 };

static const double FAULTS_APART_S = 1; /* so that peers cannot fill a log */

struct net *net_of(const struct port *port)
{
    return LISTED(port->wire, struct net, wire);
}

double net_now_s(const struct net *net)
{
    struct timespec now;

    if (net->simulated)
        return net->simulated_s;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
}

int net_watch(struct net *net, int descriptor, uint32_t events, void *about, unsigned kind)
{
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t) (uintptr_t) about | kind};

    return epoll_ctl(net->epoll, EPOLL_CTL_ADD, descriptor, &event) < 0 ? errno : 0;
}

void net_forget(const struct net *net, int descriptor)
{
    if (net->process == getpid())
        epoll_ctl(net->epoll, EPOLL_CTL_DEL, descriptor, NULL);
}

static int begin(struct net *net, const struct stream_calls *calls, bool simulated)
{
    *net = (struct net){.epoll = -1, .timer = -1, .process = getpid(), .calls = *calls, .simulated = simulated};
    wire_init(&net->wire);
    link_init(&net->ended);
    link_init(&net->resting);
    net->wire.now_s = net_now_s(net);
    net->epoll = epoll_create1(EPOLL_CLOEXEC);
    net->timer = simulated ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
                           : timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int code = net->epoll < 0 || net->timer < 0 ? errno : net_watch(net, net->timer, EPOLLIN, NULL, ABOUT_TIMER);
    if (code)
        net_close(net);
    return code;
}

int net_open(struct net *net)
{
    return begin(net, &net_socket_calls, false);
}

int net_open_simulated(struct net *net, const struct stream_calls *calls)
{
    struct stream_calls all = net_socket_calls; /* deadlines and notices are the same */

    all.read = calls->read;
    all.write = calls->write;
    all.close = calls->close;
    return begin(net, &all, true);
}

void net_wake(struct net *net)
{
    eventfd_write(net->timer, 1);
}

void net_close(struct net *net)
{
    wire_forget_dead(&net->wire);
    deadlines_free(&net->deadlines);
    notices_keep(&net->notices, 0);
    pool_empty(&net->wire.pool);
    if (net->epoll >= 0)
        close(net->epoll);
    if (net->timer >= 0)
        close(net->timer);
    net->epoll = net->timer = -1;
}

static void on_peer_event(struct peer *peer, uint32_t events)
{
    unsigned told = events & EPOLLIN ? STREAM_INPUT : 0;

    if (events & EPOLLOUT)
        told |= STREAM_OUTPUT;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        told |= STREAM_END;
    peer_on_stream(peer, told);
}

static bool is_deadline_due(const struct net *net)
{
    const struct peer *first = deadlines_first(&net->deadlines);

    return first && first->deadline_s <= net->wire.now_s;
}

static void call_deadlines(struct net *net)
{
    while (is_deadline_due(net))
        peer_on_deadline(deadlines_first(&net->deadlines));
}

/* Return true if more may have happened. */
static bool serve_events(struct net *net)
{
    struct epoll_event events[MOST_EVENTS];
    int count = epoll_wait(net->epoll, events, MOST_EVENTS, 0);

    for (int i = 0; i < count; i++) {
        void *about = (void *) (uintptr_t) (events[i].data.u64 & ~(uint64_t) ABOUT_MASK);
        unsigned kind = events[i].data.u64 & ABOUT_MASK;
        if (kind == ABOUT_PEER) {
            on_peer_event(about, events[i].events);
        } else if (kind == ABOUT_WATCHED) {
            net_on_watched(net, about);
        } else {
            uint64_t expirations;
            if (read(net->timer, &expirations, sizeof expirations) == sizeof expirations)
                net->armed_s = 0;
        }
    }
    return count == MOST_EVENTS;
}

void net_serve(struct net *net)
{
    wire_forget_dead(&net->wire);
    wire_remove_subscriptions(&net->wire);
    net->wire.now_s = net_now_s(net);
    /* Nobody is taken for silent whose bytes are here, in however many events. */
    for (size_t most = net->wire.peers_alive / MOST_EVENTS; serve_events(net) && is_deadline_due(net) && most; most--)
        ;
    call_deadlines(net);
    wire_look_ahead(&net->wire);
    net_go_on_accepting(net);
}

bool net_is_fault_due(const struct net *net)
{
    return net->fault.count && net->wire.now_s >= net->fault.told_s + FAULTS_APART_S;
}

static void set_timer(struct net *net, double wanted_s)
{
    double whole = floor(wanted_s);

    net->armed_s = wanted_s;
    if (net->simulated) {
        if (wanted_s <= net->simulated_s)
            net_wake(net);
        return;
    }
    struct itimerspec when = {.it_value = {(time_t) whole, (long) ((wanted_s - whole) * 1e9)}};

    if (!when.it_value.tv_sec && !when.it_value.tv_nsec)
        when.it_value.tv_nsec = 1;
    timerfd_settime(net->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

void net_arm(struct net *net)
{
    struct peer *first = deadlines_first(&net->deadlines);
    double wanted_s = first ? first->deadline_s : 0;

    if (!list_is_empty(&net->wire.unread) && (!wanted_s || net->wire.look_s < wanted_s))
        wanted_s = net->wire.look_s;
    if (!list_is_empty(&net->resting) && (!wanted_s || net->rested_s < wanted_s))
        wanted_s = net->rested_s;
    if (net->fault.count && (!wanted_s || net->fault.told_s + FAULTS_APART_S < wanted_s))
        wanted_s = net->fault.told_s + FAULTS_APART_S;
    /* While messages are moved, a port may have news, and a connection may end. */
    if (!list_is_empty(&net->wire.changed) || !list_is_empty(&net->ended) || !list_is_empty(&net->wire.left) ||
        !list_is_empty(&net->wire.dead))
        wanted_s = net->wire.now_s;
    /* An earlier wake-up than is needed does no harm. */
    if (!wanted_s || (net->armed_s && net->armed_s <= wanted_s))
        return;
    set_timer(net, wanted_s);
}
