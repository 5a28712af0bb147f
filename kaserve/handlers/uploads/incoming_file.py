"""IncomingFile: a file that is not there before it is complete.

Knows how a file gets its name at once or not at all, on systems and file systems that differ in what they offer. Does
not know HTTP, nor why a file may be replaced.

The content goes straight to a file that has no name, or a hidden one, in the directory where it belongs; it gets its
name when it is complete, and disappears by itself when it never is. It is not forced to the disk (fsync), which could
take seconds: readers never see a part of it, but a power failure may lose it.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable

__all__ = ["Check", "IncomingFile"]

# Without a name, if the system can give it one later; then not even a crash leaves anything behind.
_UNNAMED: int = getattr(os, "O_TMPFILE", 0) if os.path.isdir("/proc/self/fd") else 0
_WRITE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_NOT_SUPPORTED = frozenset((errno.EOPNOTSUPP, errno.ENOTSUP, errno.EISDIR, errno.EINVAL, errno.EPERM, errno.ENOSYS))

# Raises an exception if the file that has the name now, of this status, may not be replaced; None: there is none.
Check = Callable[[os.stat_result | None], None]


class IncomingFile:
    """A new file, whose content is still being received.

    All methods raise OSError, and whatever the check raises.
    """

    def __init__(self, parent: int, name: bytes, check: Check) -> None:
        """Creates the file, without its name.

        Args:
            parent: a descriptor of the directory where it belongs; it is owned by this object from now on, also if an
                exception is raised.
            name: the name it will have.
            check: raises an exception if what has the name may not be replaced. It is called at the beginning, so that
                nothing is received to no purpose, and at the end, when it counts.
        """
        self._parent = parent
        self._name = name
        self._check = check
        self._fd = -1
        self._temporary: bytes | None = None  # the name it has meanwhile
        try:
            previous = self._status()
            check(previous)
            # Never readable by more than may read what it is to replace, not even while it is received.
            self._create(0o666 if previous is None else stat.S_IMODE(previous.st_mode) & 0o666)
        except BaseException:
            self.close()
            raise

    def _status(self) -> os.stat_result | None:
        """The status of what has the name now. A link counts itself, not what it leads to."""
        try:
            return os.stat(self._name, dir_fd=self._parent, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _create(self, mode: int) -> None:
        """Creates the file, with those of the permissions `mode` that the umask leaves."""
        if _UNNAMED:
            try:
                self._fd = os.open(b".", _UNNAMED | os.O_WRONLY | os.O_CLOEXEC, mode, dir_fd=self._parent)
                return
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise
        self._temporary = _temporary_name()
        self._fd = os.open(self._temporary, _WRITE | os.O_CREAT | os.O_EXCL, mode, dir_fd=self._parent)

    def write(self, data: bytes) -> None:
        """Appends to the content."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def commit(self) -> tuple[bool, os.stat_result]:
        """Gives the file its name.

        Returns:
            Whether another file had the name before, and the status of the new one.
        """
        before = self._status()
        self._check(before)
        if before is None:
            self._appear()
        else:
            self._adopt_permissions(before)
            self._replace()
        self._remove_temporary()  # before the status is read, since it changes the ctime
        return before is not None, os.fstat(self._fd)

    def _adopt_permissions(self, previous: os.stat_result) -> None:
        """Gives the file the owner, if this process may, the group and the permissions of the one that it replaces.

        The bits that run a program as its owner are not among them: they were meant for another content.
        """
        mode = stat.S_IMODE(previous.st_mode) & 0o777
        for owner, group in ((previous.st_uid, previous.st_gid), (-1, previous.st_gid)):
            try:
                os.fchown(self._fd, owner, group)
                break
            except OSError:  # only root gives files away, and only members of a group to it
                continue
        if os.fstat(self._fd).st_gid != previous.st_gid:  # what that group may is not for another one
            mode = mode & 0o707 | mode << 3 & 0o070
        try:
            os.fchmod(self._fd, mode)
        except OSError as error:  # a file system without permissions
            if error.errno not in _NOT_SUPPORTED:
                raise

    def _appear(self) -> None:
        """Gives it a name that no file has; never takes that of another file, however late that appeared."""
        source = self._temporary or f"/proc/self/fd/{self._fd}".encode()
        try:
            os.link(source, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        except OSError as error:
            if self._temporary is None or error.errno not in _NOT_SUPPORTED:
                raise
            # A file system without hard links: an empty file takes the name first, and is then replaced.
            os.close(os.open(self._name, _WRITE | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=self._parent))
            self._replace()

    def _replace(self) -> None:
        """Gives it the name of another file: at any moment a reader finds either the one or the other."""
        if self._temporary is None:
            temporary = _temporary_name()
            os.link(f"/proc/self/fd/{self._fd}".encode(), temporary, dst_dir_fd=self._parent)
            self._temporary = temporary
        os.rename(self._temporary, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        self._temporary = None

    def close(self) -> None:
        """Closes the file and the directory. A file that was not committed is gone. May be called twice."""
        self._remove_temporary()
        for fd in (self._fd, self._parent):
            if fd >= 0:
                os.close(fd)
        self._fd = self._parent = -1

    def _remove_temporary(self) -> None:
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            try:
                os.unlink(temporary, dir_fd=self._parent)
            except OSError:  # never created, or removed by another program
                pass


def _temporary_name() -> bytes:
    return f".kaserve-{secrets.token_hex(8)}".encode()
