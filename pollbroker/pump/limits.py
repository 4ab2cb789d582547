"""The limits that every pump keeps."""

from typing import Final

MAXFRAMES: Final = 4096
"""The most frames that a message may have, unless the device says otherwise. A message is read whole before it is sent,
so this limits how long one message of a peer can occupy the loop: to about one millisecond, or four in Python."""

BURST_FRAMES: Final = 4096
"""A pump that has moved or discarded so many frames returns LIMIT when it has dealt with its present message."""

SUBSCRIPTION_MAX_BYTES: Final = 4096
"""The longest subscription that is sent to an XSUB. libzmq 4.3.5 removes a subscription by a recursion as deep as its
length (`trie_t::rm_helper` in trie.cpp), so that a long one from any peer would overflow the stack and end the
process."""

FRAMES_SHOWN: Final = 64
"""How many frames of a message somebody is shown who taps the broker."""
