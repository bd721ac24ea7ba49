"""Fetch a file whose checksum is known, from whichever of its sources serves it, and go on where a call broke off."""

# pooch 1.9 was looked at: it downloads to a new temporary file each time, so it cannot go on, takes one source a file,
# and reads the checksum when all is there. requests decodes and buffers, but knows no more of Range than urllib does.
# What is left is a loop around urllib, which asks a source for bytes and trusts nothing but the checksum.

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from tqdm import tqdm

BLOCK = 1 << 16  # bytes; read1 gives what has come, so a slow source is noticed in time
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class RemoteFile(NamedTuple):
    """A file that is known before it is there."""

    name: str  # in its folder; a "/" in it makes a sub-folder
    checksum: str  # "sha512:", "sha256:" or "md5:" and the hexadecimal digits, all or the first of them
    size: int  # bytes
    sources: tuple[str, ...]  # addresses, tried in this order
    slack: int = 0  # bytes by which the size may be off, where it was published rounded

    def fits(self, size: int) -> bool:
        return abs(size - self.size) <= self.slack

    def is_whole(self, path: Path) -> bool:
        """Whether this very file lies at the path: its size and its checksum. Reads all of it."""
        if not path.is_file() or not self.fits(path.stat().st_size):
            return False
        with path.open("rb") as stream:
            return self.is_right(self.digest(stream))

    def digest(self, stream):
        """The hashlib object of what is left of a binary stream, to be fed with what follows."""
        algorithm = self.checksum.partition(":")[0]
        return hashlib.file_digest(stream, functools.partial(hashlib.new, algorithm, usedforsecurity=False))

    def is_right(self, digest) -> bool:
        return digest.hexdigest().startswith(self.checksum.partition(":")[2])

    def part(self, folder: Path) -> Path:
        """Where the beginning of it is kept. The checksum is in the name: what lies there is of this file only."""
        return folder / f"{self.name}.{self.checksum.partition(':')[2][:8]}.part"


class Patience(NamedTuple):
    """When a source is left for the next one."""

    timeout: float = 20  # seconds without a byte
    min_rate: float = 100_000  # bytes a second, over a window; CIFAR-10's own host gave 55,000 to 80,000 in 2026
    window: float = 20  # seconds
    tries: int = 5  # how often a source that breaks off is asked, as long as it brings something
    pause: float = 1  # seconds between them


PATIENCE = Patience()


class SourceError(Exception):
    """What a source did instead of sending the file. kind: "refused", "broken off", "spoilt" or "slow"."""

    def __init__(self, reason: str, kind: str = "refused", rate: float = 0.0):
        super().__init__(reason)
        self.kind, self.rate = kind, rate


def fetch(file: RemoteFile, folder: Path, sources: Sequence[str | Path], patience: Patience = PATIENCE) -> Path:
    """The whole file in the folder, with a progress bar on stderr. Where it is there already, nothing is fetched.

    sources: addresses of the file (http, https) and paths to it. Each is tried in turn; one that is slower than
    `patience.min_rate` is left for the next, and the fastest of the slow ones is used where no other serves the file.
    What is there of it, from this call or an earlier one, stays in `file.part(folder)` until the checksum is right.
    A second call for the same folder waits for the first.
    Raises ConnectionError where no source gave the file, naming each; OSError where the disk is full or the folder
    cannot be written.
    """
    target, part = folder / file.name, file.part(folder)
    with explained(folder):
        part.parent.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            if file.is_whole(target):
                return target
            if not file.is_whole(part):
                with tqdm(desc=target.name, total=file.size + file.slack, unit="B", unit_scale=True) as bar:
                    _fill(part, file, sources, patience, bar)
            part.replace(target)
    return target


@contextlib.contextmanager
def explained(folder: Path):
    """Turn what can go wrong with a folder into a sentence. Raises OSError with it."""
    try:
        yield
    except ConnectionError:
        raise
    except OSError as error:
        if error.errno in FULL:
            sentence = f"The disk is full: {folder} takes no more. Make room and call this again: what came is kept."
        elif error.errno in FORBIDDEN:
            sentence = f"{folder} may not be written ({error.strerror}). Name another folder."
        else:
            sentence = f"{folder} cannot be used ({error.strerror or error}). Name another folder."
        raise OSError(sentence) from error


@contextlib.contextmanager
def alone(folder: Path):
    """One call at a time in a folder. The system frees the lock when its holder ends, even a killed one."""
    lock = FileLock(folder / ".prepare.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _tell(f"Another call is fetching into {folder}; waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fill(part: Path, file: RemoteFile, sources: Sequence[str | Path], patience: Patience, bar: tqdm) -> None:
    """Complete the part file from the first source that can."""
    if _size(part) >= file.size + file.slack:  # complete, and not the file
        part.unlink()
    failures, left = {}, list(sources)
    for limits in (patience, patience._replace(min_rate=0)):  # the second time round, a slow source will do
        slow = []
        for source in left:
            try:
                return _ask_again(source, part, file, limits, bar)
            except SourceError as error:
                failures[source] = error
                _tell(f"{source}: {error}.")
                if error.kind == "slow":
                    slow.append(source)
        left = sorted(slow, key=lambda source: failures[source].rate, reverse=True)
    lines = "".join(f"\n  {source}: {error}" for source, error in failures.items())
    kept = ""
    if _size(part):
        kept = f"\n{in_mb(_size(part))} of {in_mb(file.size)} are kept; the next call goes on there."
    else:
        part.unlink(missing_ok=True)
    raise ConnectionError(f"No source gave {file.name}:{lines}{kept}")


def _ask_again(source: str | Path, part: Path, file: RemoteFile, patience: Patience, bar: tqdm) -> None:
    """Complete the part file from one source, which may break off and be asked again. Raises SourceError."""
    for tries_left in reversed(range(patience.tries)):
        before = _size(part)
        try:
            return _receive(source, part, file, patience, bar)
        except SourceError as error:
            if error.kind == "spoilt":
                part.unlink()
            # What is spoilt may have been the beginning, which came from elsewhere
            again = {"spoilt": before > 0, "broken off": _size(part) > before}.get(error.kind, False)
            if not (again and tries_left):
                raise
        time.sleep(patience.pause)


def _receive(source: str | Path, part: Path, file: RemoteFile, patience: Patience, bar: tqdm) -> None:
    """Ask a source once for what the part file lacks, and check the whole as it comes. Raises SourceError."""
    with part.open("a+b") as out:
        out.seek(0)
        digest, before = file.digest(out), out.tell()
        bar.reset()
        bar.initial = bar.n = bar.last_print_n = before  # the rate is that of what comes now
        with contextlib.closing(_blocks(source, file, before, patience)) as blocks:
            for block in blocks:
                out.write(block)
                digest.update(block)
                bar.update(len(block))
                if out.tell() > file.size + file.slack:
                    out.truncate(before)
                    raise SourceError(f"sends more than the {file.size:,} bytes of the file")
        out.flush()
        os.fsync(out.fileno())
    if not file.is_right(digest):
        raise SourceError("sends other bytes: the checksum is wrong", "spoilt")


def _blocks(source: str | Path, file: RemoteFile, start: int, patience: Patience) -> Iterator[bytes]:
    """The bytes of the file from `start` on, as a source sends them. Raises SourceError for all that it does wrong."""
    try:
        stream, at, size = _opened(source, start, patience.timeout)
        with stream:
            if size is not None and not file.fits(size):
                raise SourceError(f"offers {size:,} bytes where the file has {file.size:,}")
            since, count = time.monotonic(), 0
            while block := stream.read1(BLOCK):
                yield block[max(0, start - at) :]  # one that ignores Range sends what is there already, too
                at, count = at + len(block), count + len(block)
                seconds = time.monotonic() - since
                if seconds > patience.window:
                    if count < patience.min_rate * seconds:
                        raise SourceError(f"is slow, {count / seconds / 1000:.0f} kB/s", "slow", count / seconds)
                    since, count = time.monotonic(), 0
            if at < (file.size - file.slack if size is None else size):
                raise SourceError(f"broke off after {at:,} bytes", "broken off")
    except urllib.error.HTTPError as error:
        in_a_circle = error.code in (301, 302, 303, 307, 308)  # urllib has followed ten of them
        raise SourceError("redirects in a circle" if in_a_circle else f"answers {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise SourceError(_reason(error, patience), "broken off") from error


def _opened(source: str | Path, start: int, timeout: float) -> tuple:
    """A source asked for the bytes from `start` on: its stream, the byte that begins at, the file's size there or None.

    No If-Range: the file is known by its checksum, whatever the source calls its version of it.
    """
    if isinstance(source, Path):
        stream = source.open("rb")
        stream.seek(start)
        return stream, start, source.stat().st_size
    headers = {"User-Agent": "finetune-course"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(urllib.request.Request(source, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if start and error.code == 416:  # no such range: what lies here, or what lies there, is wrong
            return _opened(source, 0, timeout)
        raise
    if answer.status == 206:
        found = re.fullmatch(rf"bytes {start}-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if found:
            return answer, start, None if found[1] == "*" else int(found[1])
        answer.close()
        if start:  # another range than it was asked for
            return _opened(source, 0, timeout)
        raise SourceError("sends a part of the file where all was asked for")
    if answer.headers.get_content_type() == "text/html":
        answer.close()
        raise SourceError("answers with a web page, the login page of a network perhaps")
    length = answer.headers.get("Content-Length")
    return answer, 0, None if length is None else int(length)


def _reason(error: Exception, patience: Patience) -> str:
    how = "cannot be reached" if isinstance(error, urllib.error.URLError) else "broke off"
    error = getattr(error, "reason", error)  # what urllib wraps
    if isinstance(error, TimeoutError):
        return f"sent nothing for {patience.timeout:g} s"
    if isinstance(error, FileNotFoundError):
        return "is not there"
    if isinstance(error, ssl.SSLCertVerificationError):
        how = "shows a certificate that this Python does not know (on a Mac, run its Install Certificates.command once)"
    return f"{how} ({getattr(error, 'strerror', None) or error})"


def _tell(text: str) -> None:
    tqdm.write(text, file=sys.stderr)  # past the progress bar


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def in_mb(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"
