/* What writing and reading a record have in common; see record.h. */
#ifndef POLLBROKER_WIRE_RECORD_FORMAT_H
#define POLLBROKER_WIRE_RECORD_FORMAT_H

enum { MAGIC = 0x70775042, END_MARK = 0x2e646e65 }; /* "BPwp", "end." */

enum {
    FLAG_STREAM = 1,      /* the connection is not over */
    FLAG_ATTACHED = 2,    /* hands were shaken */
    FLAG_LEAVES = 4,      /* the other side has closed the connection */
    FLAG_DISCARDING = 8,  /* what comes is the rest of a message that has too many frames */
    FLAG_HANDSHAKE = 16,  /* the handshake goes on */
    FLAG_READABLE = 32,   /* the stream may have bytes */
    FLAG_PING = 64,       /* a PING is due at a time */
    FLAG_ALL = 127
};

enum { ENGAGED = 1 };

static const double MICROSECONDS = 1e6, LONGEST_S = 1e9;

#endif
