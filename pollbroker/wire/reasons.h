/* Why a connection ended. */
#ifndef POLLBROKER_WIRE_REASONS_H
#define POLLBROKER_WIRE_REASONS_H

enum reason {
    NO_REASON,
    REASON_LEFT,            /* the peer has closed the connection */
    REASON_BROKEN,          /* the kernel has reported an error */
    REASON_CLOSED,          /* the port was closed */
    REASON_NOT_ZMTP,        /* the greeting is not that of ZMTP 2 or 3 */
    REASON_MECHANISM,       /* the peer wants another security mechanism */
    REASON_SOCKET_TYPE,     /* the types of the two sockets do not fit */
    REASON_BAD_COMMAND,     /* a command that is malformed, or comes at the wrong time */
    REASON_REFUSED,         /* the peer has sent ERROR */
    REASON_BAD_FRAME,       /* a frame whose header is malformed */
    REASON_LARGE_FRAME,     /* a frame of more than maxmsgsize bytes */
    REASON_SLOW_HANDSHAKE,  /* the handshake took longer than handshake_ivl */
    REASON_SILENT,          /* no heartbeat */
    REASON_ROUTING_ID,      /* another peer has the same routing id */
    REASON_SUBSCRIPTIONS,   /* one that is too long, or too many, or a publisher that does not read them */
    REASON_NO_MEMORY,
    REASON_AUTHENTICATION,  /* the authenticator has refused the peer */
    REASON_NO_VERDICT,      /* there is no authenticator, or its answer is malformed */
    REASON_CONNECTIONS,     /* more than the port accepts, or than it accepts from one address */
    REASON_COUNT
};

#endif
