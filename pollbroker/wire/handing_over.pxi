# Handing a port over to another process, and taking it over; see record.h. It is included in `native.pyx`.

cdef account *_account_of(part) except NULL:
    if isinstance(part, Pump):
        return (<Pump> part).account
    if isinstance(part, Receiver):
        return (<Receiver> part).account
    return (<Sender?> part).account


cdef struct _Accounts:
    account **all
    uint32_t count


cdef _Accounts _accounts_of(list parts) except *:
    """The accounts of pumps and senders, in a block that the caller frees."""
    cdef _Accounts accounts
    accounts.count = <uint32_t> len(parts)
    accounts.all = <account **> calloc(len(parts) + 1, sizeof(account *))
    if accounts.all == NULL:
        raise MemoryError()
    try:
        for i in range(len(parts)):
            accounts.all[i] = _account_of(parts[i])
    except BaseException:
        free(accounts.all)
        raise
    return accounts


def account_numbers(part):
    """What a pump, a receiver or a sender has counted: what `carry_on` is given in another process. What is held is not
    in it, since that follows from the queues."""
    cdef account *account = _account_of(part)
    cdef Sender sender
    copied = [0, 0, 0, 0]
    if isinstance(part, Sender):
        sender = <Sender> part
        copied = [sender.captured, sender.captured_frames, sender.captured_bytes, sender.capture_dropped]
    return [
        account.received.messages, account.received.frames, account.received.bytes,
        account.sent.messages, account.sent.frames, account.sent.bytes,
        account.unroutable, account.slow_peer, account.interrupted, account.too_many_frames,
        account.long_subscription, account.filtered, *copied,
    ]


def carry_on(part, list numbers):
    """Go on counting from here. Raises `ValueError` or `OverflowError` for what `account_numbers` does not return."""
    cdef account *account = _account_of(part)
    cdef Sender sender
    if len(numbers) != 16:
        raise ValueError(f"{len(numbers)} numbers; expected 16")
    if isinstance(part, Sender):
        sender = <Sender> part
        (sender.captured, sender.captured_frames, sender.captured_bytes, sender.capture_dropped) = numbers[12:]
    (
        account.received.messages, account.received.frames, account.received.bytes,
        account.sent.messages, account.sent.frames, account.sent.bytes,
        account.unroutable, account.slow_peer, account.interrupted, account.too_many_frames,
        account.long_subscription, account.filtered,
    ) = numbers[:12]


def suspend(Port port not None):
    """Neither read nor write, and let no deadline pass, until `resume`. No flow may use the port meanwhile."""
    port._check()
    port.port.shared = False  # the other process is about to have a right to them
    net_suspend(port.port)


def give_away(Port port not None):
    """The connections of a port that is suspended go on at another port. Nobody is told of their end here, which comes
    when this port is closed."""
    port._check()
    port.port.given_away = True


def resume(Port port not None, *, bint shared=False):
    """Go on. Raises `OSError` if a connection could not be watched, which has ended then. `shared`: another process may
    still have duplicates of the descriptors, and has no right to use them."""
    port._check()
    if shared:
        port.port.shared = True
    port._forget_restored()
    port.net.net.wire.now_s = net_now_s(&port.net.net)
    code = net_resume(port.port)
    net_arm(&port.net.net)
    _raise_errno(code)


def write_record(Port port not None, list parts not None, list connectors not None):
    """The record of a port that is suspended, the descriptors of its peers, and for each connector the place of its peer
    among those that are recorded, or -1. `parts` are the pumps and senders that send to the port.

    Raises `ValueError` if messages of something else are in its queues."""
    cdef record record
    cdef _Accounts accounts
    cdef Connector connector
    cdef bint written
    port._check()
    memset(&record, 0, sizeof(record))
    accounts = _accounts_of(parts)
    port.net.net.wire.now_s = net_now_s(&port.net.net)
    try:
        written = record_write(&record, port.port, accounts.all, accounts.count)
        if record.no_memory:
            raise MemoryError()
        if not written:
            raise ValueError("messages are in its queues that no flow counts")
        places = {<uintptr_t> record.peers[i]: i for i in range(record.peer_count)}
        return (
            PyBytes_FromStringAndSize(<const char *> record.bytes, record.size),
            [record.peers[i].descriptor for i in range(record.peer_count) if record.peers[i].descriptor >= 0],
            [places.get(<uintptr_t> connector.watched.peer, -1) for connector in connectors],
        )
    finally:
        record_free(&record)
        free(accounts.all)


def read_record(Port port not None, bytes recorded not None, list parts not None, list descriptors not None):
    """Make the peers and the state of a record in a new port, which stays suspended until `resume`. Those of the
    descriptors that it has taken belong to it, and it closes them; they are removed from the list.

    Raises `ValueError` if the record is refused. The port can only be closed then."""
    cdef reading reading
    cdef _Accounts accounts
    cdef int *numbers
    cdef bint done
    port._check()
    memset(&reading, 0, sizeof(reading))
    reading.at = <const uint8_t *> PyBytes_AsString(recorded)
    reading.end = reading.at + len(recorded)
    reading.descriptor_count = len(descriptors)
    numbers = <int *> calloc(len(descriptors) + 1, sizeof(int))
    if numbers == NULL:
        raise MemoryError()
    try:
        for i in range(len(descriptors)):
            numbers[i] = descriptors[i]
        reading.descriptors = numbers
        accounts = _accounts_of(parts)
        port.net.net.wire.now_s = net_now_s(&port.net.net)
        done = record_read(&reading, port.port, accounts.all, accounts.count)
        free(accounts.all)
        del descriptors[: reading.descriptors_taken]
    finally:
        free(numbers)
    port._forget_restored()
    port.restored = reading.peers
    port.restored_count = reading.peer_count
    if not done:
        raise ValueError(f"byte {reading.wrong_at}: {(<bytes> reading.wrong).decode()}")


def subscribed(Port port not None):
    """What a SUB or XSUB has subscribed to, and how often."""
    cdef prefix *topic
    cdef dict found = {}
    port._check()
    for i in range(port.port.prefixes.map.capacity):
        topic = <prefix *> port.port.prefixes.map.slots[i]
        if topic != NULL:
            found[PyBytes_FromStringAndSize(<const char *> topic.key.bytes, topic.key.size)] = topic.count
    return found
