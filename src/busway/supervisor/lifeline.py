"""What ties a process to its supervisor: two inherited pipes.

On the first the process says that it is ready. The second is never written to: the supervisor
alone holds its write end, so it reaches its end of file when the supervisor is gone, however
that came about.
"""

import os
import signal
import threading
import time

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

    `fd` is the read end of the lifeline. Processes started from here do not inherit it.
    """
    os.set_inheritable(fd, False)
    threading.Thread(target=_watch, args=(fd, grace), name="lifeline", daemon=True).start()


def ignore_interrupts() -> None:
    """Let SIGINT have no effect: a Ctrl-C in the terminal is the supervisor's business.

    The supervisor starts its processes with SIGINT blocked, so that none comes before they can
    do this. What is blocked or ignored is inherited by the processes that a consumer starts, a
    handler that does nothing is not. For the main thread.
    """
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _watch(fd: int, grace: float) -> None:
    os.read(fd, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(1)
