"""Fetch the files of a data set from its publisher: written aside, checked, then renamed into place."""

import hashlib
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path

from foretaste.errors import DataError
from foretaste.run import Log
from foretaste.sources.source import RemoteFile, Source, located
from foretaste.storage import staged_file

__all__ = ["Progress", "fetch"]

Progress = Callable[[str, int, int, str], None]  # progress(what, bytes done, bytes in all or 0, note)

CHUNK = 1 << 20  # bytes read at a time
TIMEOUT = 30.0  # seconds without a byte until a server counts as out of reach
REPORT_EVERY = 0.25  # seconds between two calls of progress


def fetch(source: Source, folder: Path, log: Log, progress: Progress | None = None) -> None:
    """Download what the folder lacks; nothing where all that is required is there.

    A file that the data set can do without is tried as well, and its absence logged.

    Raises:
        DataError: A required file has no address, cannot be reached, or is not what the publisher published.
            The text says which files to put where.
    """
    missing = [file for file in source.files if located(folder, file) is None]
    needed = [file for file in missing if not file.optional]
    if not needed:
        return
    if any(file.url is None for file in needed):
        raise DataError(_by_hand(source, folder, needed, "the publisher offers no direct download"))
    for url in dict.fromkeys(file.url for file in missing if file.url is not None):
        wanted = [file for file in missing if file.url == url]
        try:
            log(f"{source.name}: downloading {url}")
            _fetch_one(url, wanted, folder, progress)
        except _Unreachable as error:
            if any(not file.optional for file in wanted):
                raise DataError(_by_hand(source, folder, needed, str(error))) from error
            log(f"{source.name}: going on without {', '.join(file.target for file in wanted)}: {error}")


class _Unreachable(Exception):
    """An address gives nothing, or not the right thing; the text says why."""


def _by_hand(source: Source, folder: Path, files: Sequence[RemoteFile], reason: str) -> str:
    files = [file for file in files if located(folder, file) is None]
    lacking = " and ".join(file.target for file in files)
    listed = " and ".join(file.target + _origin(file) for file in files)
    return f"{source.name}: {folder} lacks {lacking}, and {reason}. Put there by hand: {listed}. See {source.homepage}."


def _origin(file: RemoteFile) -> str:
    if file.url is None:
        return ""
    return f" (out of {file.url})" if file.member else f" ({file.url})"


def _fetch_one(url: str, wanted: Sequence[RemoteFile], folder: Path, progress: Progress | None) -> None:
    """Download one address and put what it gives in place."""
    request = urllib.request.Request(url, headers={"User-Agent": "foretaste"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as aside:
                received = Path(aside) / "received"
                total = int(response.headers.get("Content-Length") or 0)
                digest = _receive(response, received, wanted[0].target, total, progress)
                expected = next((file.sha256 for file in wanted if file.sha256), None)
                if expected is not None and digest != expected:
                    raise _Unreachable(f"{url} gave a file with SHA-256 {digest} instead of {expected}")
                _place(received, wanted, folder, url)
    except (urllib.error.URLError, HTTPException, OSError) as error:
        raise _Unreachable(f"{url} could not be downloaded ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """What a failed connection or a full disk says, in a few words."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"{error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(getattr(error.reason, "strerror", None) or error.reason)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _receive(response: object, path: Path, what: str, total: int, progress: Progress | None) -> str:
    """Write a response to a file; the SHA-256 of what came, in hexadecimal."""
    digest, done, told = hashlib.sha256(), 0, 0.0
    with path.open("wb") as file:
        while chunk := response.read(CHUNK):  # type: ignore[attr-defined]
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if progress is not None and time.monotonic() - told > REPORT_EVERY:
                progress(what, done, total, "bytes")
                told = time.monotonic()
    if total and done != total:
        raise _Unreachable(f"the download of {what} broke off after {done:,} of {total:,} bytes")
    if progress is not None:
        progress(what, done, total or done, "bytes")
    return digest.hexdigest()


def _place(received: Path, wanted: Sequence[RemoteFile], folder: Path, url: str) -> None:
    for file in wanted:
        target = folder / file.target
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.member is None:
            os.replace(received, target)
        else:
            _unpack(received, file.member, target, url)


def _unpack(archive: Path, member: str, target: Path, url: str) -> None:
    """Write one member of a zip archive to ``target``; where the archive says it belongs plays no part."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if name == member or name.endswith(f"/{member}")]
            if len(names) != 1:
                raise _Unreachable(f"{url} holds {len(names)} files called {member} instead of one")
            with opened.open(names[0]) as source, staged_file(target) as aside, aside.open("wb") as file:
                shutil.copyfileobj(source, file, CHUNK)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise _Unreachable(f"{url} gave no readable zip archive ({error})") from error
