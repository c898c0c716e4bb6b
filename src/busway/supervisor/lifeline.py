"""What ties a process to its supervisor: two inherited pipes.

On the first the process says that it is ready. The second is never written to: the supervisor
alone holds its write end, so it reaches its end of file when the supervisor is gone, however
that came about.
"""

import os
import signal
import threading
import time
from types import FrameType

GRACE = 10.0
"""Seconds that a process has to stop by itself when its supervisor is gone."""


def announce_ready(fd: int) -> None:
    """Tell the supervisor, through descriptor `fd`, that this process does its work now.

    Closes `fd`. It is no error when the supervisor is gone.
    """
    try:
        os.write(fd, b"ready")
    except BrokenPipeError:
        pass
    finally:
        os.close(fd)


def hold_lifeline(fd: int, grace: float = GRACE) -> None:
    """End this process when its supervisor is gone: SIGTERM, and an exit `grace` seconds later.

    `fd` is the read end of the lifeline. Processes started from here do not inherit it. SIGINT
    has no effect from here on; the supervisor stops its children with SIGTERM. Call it in the
    main thread.
    """
    os.set_inheritable(fd, False)
    # The supervisor starts its children with SIGINT blocked: a Ctrl-C in the terminal is its
    # business. A handler that does nothing, unlike a blocked signal, is not inherited by the
    # processes that a consumer starts.
    signal.signal(signal.SIGINT, _ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_watch, args=(fd, grace), name="lifeline", daemon=True).start()


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing."""


def _watch(fd: int, grace: float) -> None:
    os.read(fd, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(1)
