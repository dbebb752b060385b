"""One run at a time in a work dir."""

from __future__ import annotations

import os
import socket
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked
    fcntl = None  # type: ignore[assignment]  # the type of a module

NAME = '.lock'
_HELD: dict[Path, tuple[int, int]] = {}
"""Lock file -> the process that holds it and its descriptor; closing any descriptor releases it."""


def lock(work_dir: str | Path) -> None:
    """Reserve a work dir for this process until :func:`unlock` or its end, however it ends.

    The file ``.lock`` names host and process. The lock is the operating system's (POSIX record lock):
    a process that was killed leaves the file, but not the lock. A process may lock a folder again.

    Raises:
        RuntimeError: another process trains in this work dir.
    """
    path = Path(work_dir).resolve() / NAME
    if fcntl is None or _HELD.get(path, (0, 0))[0] == os.getpid():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = os.read(descriptor, 200).decode(errors='replace').strip()
        os.close(descriptor)
        raise RuntimeError(
            f'one run at a time may train in a work dir, but {holder or "another process"} trains in '
            f'{path.parent}; choose another --work-dir, or wait until it ends'
        ) from None
    except OSError:  # a file system without locks
        os.close(descriptor)
        return
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f'process {os.getpid()} on {socket.gethostname()}\n'.encode())
    _HELD[path] = (os.getpid(), descriptor)


def unlock(work_dir: str | Path) -> None:
    """Release a work dir that this process has locked; others are left alone."""
    path = Path(work_dir).resolve() / NAME
    owner, descriptor = _HELD.get(path, (0, 0))
    if owner == os.getpid():
        del _HELD[path]
        path.unlink(missing_ok=True)
        os.close(descriptor)
