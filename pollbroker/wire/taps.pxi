# Showing the messages that move between two ports to whoever taps the broker. It is included in `native.pyx`.

cdef void _show_run(void *tap, const message *run) noexcept with gil:
    """Have the messages of a run noted, as far as there is room for them."""
    cdef object point = <object> tap
    cdef const uint8_t *at = run.run.slab.bytes + run.run.start
    cdef size_t left = run.run.end - run.run.start
    cdef uint64_t i
    for i in range(run.run.amount.messages):
        if not point.has_room():
            point.lose(run.run.amount.messages - i)
            return
        at = _show_message(point, run, i == 0, at, &left)


cdef const uint8_t *_show_message(object point, const message *run, bint first, const uint8_t *at, size_t *left) except NULL:
    """Have one message noted, and return where the next begins. Only the first of a run has a frame that precedes it."""
    cdef list sizes = [], starts = []
    cdef uint64_t frames = 0, size = 0, length = 0
    cdef unsigned flags = 1
    cdef int header
    cdef const uint8_t *prefix = run.prefix
    cdef size_t prefix_left = run.prefix_size if first else 0
    while prefix_left:
        header = frame_header(prefix, prefix_left, &flags, &length)
        _show_frame(point, sizes, starts, prefix + header, length)
        prefix += header + length
        prefix_left -= header + length
        frames += 1
        size += length
    flags = 1
    while flags & 1 and left[0]:
        header = frame_header(at, left[0], &flags, &length)
        _show_frame(point, sizes, starts, at + header, length)
        at += header + length
        left[0] -= header + length
        frames += 1
        size += length
    point.note(frames, size, sizes, starts)
    return at


cdef int _show_frame(object point, list sizes, list starts, const uint8_t *body, uint64_t length) except -1:
    cdef size_t most
    if len(sizes) < FRAMES_SHOWN:
        most = point.keep if sizes else point.keep_first
        sizes.append(length)
        starts.append(PyBytes_FromStringAndSize(<const char *> body, min(length, most)))
    return 0
