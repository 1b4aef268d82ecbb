"""Worker processes, which are not to outlive the process that started them."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Let this process, a child of ``multiprocessing``, end when its parent has, even if killed.

    Left alone, a worker of a killed parent waits for ever for what to do next.
    """
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers have a parent to end with"
    parent.join()
    os._exit(1)
