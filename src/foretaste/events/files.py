"""Files of a log: which there are, what is in them, and their bytes and lines, whatever the compression or encoding."""

import glob
import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from foretaste.errors import DataError, nearest

__all__ = ["Format", "TextLines", "find_files", "format_of", "head_of", "open_bytes", "open_seekable"]

Format = Literal["delimited", "json", "parquet"]

HEAD_BYTES = 1 << 18  # enough to see delimiter, header and encoding
GZIP, ZSTD, PARQUET, ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1", b"PK\x03\x04"
UTF8_BOM, UTF16_BOMS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
CONTROL = frozenset(range(32)) - frozenset(b"\t\n\r\x0b\x0c\x1b")


def find_files(source: str | Path) -> list[Path]:
    """The files that a path, a folder or a glob stands for, sorted by name; hidden ones and markers are no data.

    Raises:
        DataError: There is no such file, or the folder holds none.
    """
    if not str(source).strip():
        raise DataError("The path of the log is empty. Name a file, a folder or a pattern.")
    path = Path(source)
    if path.is_dir():
        files = _visible(path.iterdir())
        if not files:
            inside = any(each.is_dir() for each in path.iterdir())
            hint = f"; it has folders inside: name them as '{path}/*/*'" if inside else ""
            raise DataError(f"{path} is a folder without files in it{hint}. Name a log, or a folder of them.")
        return files
    if path.exists():
        return [path]
    if any(sign in str(source) for sign in "*?["):
        files = _visible(Path(each) for each in glob.glob(str(source), recursive=True))
        if files:
            return files
        raise DataError(f"No file matches {str(source)!r}. Check the folder and the pattern.")
    near = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    raise DataError(f"There is no file {path}{nearest(path.name, near)}")


def format_of(path: Path) -> Format:
    """What the file holds, seen from its first bytes.

    Raises:
        DataError: The file is empty, torn, an archive, or no text; or it is not what its name says.
    """
    head = head_of(path)
    suffixes = [each.lower() for each in path.suffixes]
    if not head.strip():
        raise DataError(f"{path} is empty. Give a file with a header and one line per event.")
    if head.startswith(PARQUET):
        return "parquet"
    if any(each in suffixes for each in (".parquet", ".pq")):
        raise DataError(f"{path} is no Parquet file: it does not begin with PAR1. Write it again.")
    if head.startswith(ZIP):
        raise DataError(f"{path} is a zip archive (or a spreadsheet). Unpack it, or save it as CSV.")
    if not head.startswith(UTF16_BOMS) and not _is_text(head):
        raise DataError(
            f"{path} is no text: it begins with {head[:8]!r} and holds control bytes. Give CSV, JSON lines or Parquet."
        )
    first = head.removeprefix(UTF8_BOM).lstrip()
    if first.startswith(b"["):
        raise DataError(f"{path} begins with '[': it is one JSON list. Write one JSON object per line instead.")
    return "json" if first.startswith(b"{") else "delimited"


def head_of(path: Path) -> bytes:
    """The first bytes of the file, unpacked."""
    with open_bytes(path) as stream:
        try:
            return stream.read(HEAD_BYTES) or b""
        except (OSError, pa.ArrowException) as error:
            raise torn(path, error) from error


def open_bytes(path: Path) -> Any:
    """The bytes of the file as a stream, unpacked if it begins like gzip or Zstandard.

    Raises:
        DataError: The file cannot be opened, or is named as packed and is not.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        compression = "gzip" if magic.startswith(GZIP) else "zstd" if magic == ZSTD else None
        suffix = path.suffix.lower()
        if magic and compression is None and suffix in (".gz", ".zst"):
            raise DataError(f"{path} is not packed as its name says ({suffix}). Pack it again, or rename it.")
        return pa.input_stream(str(path), compression=compression, buffer_size=1 << 20)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error


@contextmanager
def open_seekable(path: Path) -> Iterator[Any]:
    """The bytes of the file with random access, as Parquet needs it; a packed file is unpacked beside, on disk."""
    with path.open("rb") as file:
        magic = file.read(4)
    if not (magic.startswith(GZIP) or magic == ZSTD):
        with pa.memory_map(str(path)) as mapped:
            yield mapped
        return
    with tempfile.TemporaryFile() as unpacked, open_bytes(path) as stream:
        while block := stream.read(1 << 24):
            unpacked.write(block)
        unpacked.seek(0)
        yield unpacked


def torn(path: Path, error: Exception) -> DataError:
    """The error for a file that ends too early or does not unpack."""
    reason = str(error).split("\n")[0].rstrip(".")
    return DataError(f"{path} is torn or damaged ({reason}). Copy or write it again.")


class TextLines:
    """The lines of a text file with their line ends; a line that is not UTF-8 is read as Windows-1252 and noted."""

    def __init__(self, path: Path, decoded: Callable[[int], None] = lambda line: None) -> None:
        self.path = path
        self.decoded = decoded  # is told the number, from 1, of each line that was not UTF-8
        self.utf16 = False

    def __iter__(self) -> Iterator[str]:
        with open_bytes(self.path) as stream:
            try:
                start = stream.read(3)
                self.utf16 = start.startswith(UTF16_BOMS)
            except (OSError, pa.ArrowException) as error:
                raise torn(self.path, error) from error
        encoding = "utf-16" if self.utf16 else "utf-8-sig"
        with io.TextIOWrapper(open_bytes(self.path), encoding, errors="surrogateescape", newline="") as lines:
            try:
                for number, line in enumerate(lines, 1):
                    yield line if line.isascii() else self._checked(number, line)
            except (OSError, pa.ArrowException, UnicodeError) as error:
                raise torn(self.path, error) from error

    def _checked(self, number: int, line: str) -> str:
        try:
            line.encode()
        except UnicodeEncodeError:
            self.decoded(number)
            raw = line.encode("utf-8", "surrogateescape")
            try:
                return raw.decode("cp1252")
            except UnicodeDecodeError:
                return raw.decode("latin-1")
        return line


def _visible(paths: Iterator[Path]) -> list[Path]:
    return sorted(each for each in paths if each.is_file() and not each.name.startswith((".", "_")))


def _is_text(head: bytes) -> bool:
    """Whether the bytes can be text in UTF-8, or in a one-byte encoding."""
    if b"\0" in head:
        return False
    try:
        # A character may be cut at the end of the head.
        head[: -4 if len(head) == HEAD_BYTES else None].decode()
    except UnicodeDecodeError:
        return not CONTROL.intersection(head)
    return True
