"""Are enough descriptors left for a socket of libzmq?"""

import os
from typing import Final

SPARE_DESCRIPTORS: Final = 16
"""libzmq 4.3.5 needs up to a dozen at once: for a context's threads, a socket's mailbox, a listener, a name look-up."""


def check_descriptors() -> None:
    """Raise `OSError` (EMFILE) if fewer descriptors are left than libzmq needs: it would abort the whole process."""
    spare: list[int] = []
    try:
        for _ in range(SPARE_DESCRIPTORS):
            spare.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for descriptor in spare:
            os.close(descriptor)
