"""Delimited text as fields and as the bytes they stand in: encoding, delimiter, records.

One parser serves reading and passing on, so that the n-th row that is read is the n-th record that is written.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pandas as pd
import pyarrow as pa

from sustain.errors import DataWarning, FileFormatError

__all__ = ["DELIMITED", "Delimited", "read_text"]

DELIMITED = (".csv", ".tsv", ".txt")

_DELIMITERS = (",", ";", "\t")
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_LONGEST = 1 << 27  # characters of a field; csv's own limit is 131,072
_CHUNK = 100_000  # rows whose fields are Python's strings at the same time
_SNIFFED = 200  # records that choose the delimiter, and characters they are sought in
_HEAD = 1 << 20


@dataclass(frozen=True)
class Delimited:
    """A delimited text, whole.

    Attributes
    ----------
    where : str
        Name for messages.
    mark : bytes
        Byte order mark, which is no part of the text.
    text : str
    encoding : str
        Of the bytes: encoded by it, `text` is what they were.
    delimiter : str
    header : tuple of str
        Names of the columns, without blanks about them. One without a name is ``Unnamed: 0``, as pandas has it.
    """

    where: str
    mark: bytes
    text: str
    encoding: str
    delimiter: str
    header: tuple[str, ...]

    @classmethod
    def of(cls, source: str | Path | IO[bytes], where: str = "", *, again: bool = False) -> Delimited:
        """Read a file and see how it is written; `again` where what must be warned of was said already.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        FileFormatError
            When it is empty or no text.

        Warns
        -----
        DataWarning
            When it is not in UTF-8.
        """
        where = where or str(source)
        held = Path(source).read_bytes() if isinstance(source, str | Path) else source.read()
        mark, text, encoding = _decoded(held, where, again)
        delimiter = _delimiter_of(text, Path(where).suffix.lower())
        first = next((fields for fields in _rows(text[:_HEAD], delimiter, where) if fields), None)
        if first is None:
            raise FileFormatError(
                f"{where}: is empty, expected a table with a header. Fetch or make it again."
            )
        names = tuple(name.strip() or f"Unnamed: {place}" for place, name in enumerate(first))
        return cls(where, mark, text, encoding, delimiter, names)

    def records(self) -> Iterator[tuple[str, bool]]:
        """Raw text of each record, line end included, and whether it has fields; the first that has is the header."""
        taken: list[str] = []

        def lines() -> Iterator[str]:
            for line in io.StringIO(self.text, newline=""):
                taken.append(line)
                yield line

        for fields in csv.reader(lines(), delimiter=self.delimiter):
            raw = "".join(taken)
            taken.clear()
            yield raw, bool(fields)

    def fields(self) -> dict[int, pa.ChunkedArray]:
        """Columns as text, by place; an empty field is empty text.

        Raises
        ------
        FileFormatError
            When a row has more or fewer fields than the header; the message names its line.
        """
        rows = (fields for fields in _rows(self.text, self.delimiter, self.where, len(self.header)) if fields)
        next(rows)
        chunks: list[list[pa.Array]] = []
        while chunk := list(itertools.islice(rows, _CHUNK)):
            chunks.append([pa.array(column, pa.string()) for column in zip(*chunk, strict=True)])
        return {
            place: pa.chunked_array([chunk[place] for chunk in chunks], pa.string())
            for place in range(len(self.header))
        }


_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}


def read_text(source: str | Path | IO[bytes], where: str = "") -> pd.DataFrame:
    """Read a delimited text with every value as text; an empty field is missing, and nothing else is.

    Parameters
    ----------
    source : path or binary file
    where : str
        Name for messages; by default `source`.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    FileFormatError
        When it is no table, or rows have other numbers of fields than the header.
    """
    table = Delimited.of(source, where)
    columns = [pd.Series(column.to_pylist()) for column in table.fields().values()]
    found = pd.concat([column.mask(column == "") for column in columns], axis=1)
    return found.set_axis(list(table.header), axis=1)


def _decoded(held: bytes, where: str, again: bool) -> tuple[bytes, str, str]:
    """Byte order mark, text, and the encoding that gives the same bytes again."""
    for mark, encoding in _MARKS:
        if held.startswith(mark):
            try:
                return mark, held[len(mark) :].decode(encoding), encoding
            except UnicodeDecodeError as error:
                raise FileFormatError(f"{where}: not a text in {encoding} ({error}).") from error
    if b"\0" in held:
        raise FileFormatError(
            f"{where}: holds bytes that no text has. Is it a table of another kind under this name?"
        )
    try:
        return b"", held.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        pass
    try:
        text, encoding = held.decode("cp1252"), "cp1252"
    except UnicodeDecodeError:  # five bytes mean nothing there
        text, encoding = held.decode("latin-1"), "latin-1"
    if not again:
        warnings.warn(
            f"{where}: is not in UTF-8 and was read as {'Windows-1252' if encoding == 'cp1252' else 'Latin-1'} "
            "(western European). If letters come out wrong, save it as UTF-8.",
            DataWarning,
            stacklevel=5,
        )
    return b"", text, encoding


def _delimiter_of(text: str, suffix: str) -> str:
    """Choose the delimiter that gives the same number of fields in the first records, or else the header most.

    Where two do, it is the one with more fields.
    """
    scores = []
    for place, delimiter in enumerate(_DELIMITERS):
        counts = [len(fields) for fields in itertools.islice(_rows(text[:_HEAD], delimiter, ""), _SNIFFED)]
        if len(counts) < _SNIFFED and len(text) > _HEAD:
            counts = counts[:-1]  # cut off in its middle
        counts = [n for n in counts if n] or [1]
        even = len(set(counts)) == 1 and counts[0] > 1
        preferred = suffix == ".tsv" and delimiter == "\t"
        scores.append(((even, preferred, counts[0], -place), delimiter))
    return max(scores)[1]


def _rows(text: str, delimiter: str, where: str, n: int | None = None) -> Iterator[list[str]]:
    """Fields of each record, `n` of them where it says so; a line without anything has none."""
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)  # line ends stay as they are
    try:
        for fields in reader:
            if n is not None and fields and len(fields) != n:
                advice = (
                    "If rows begin with a name of their own (R's write.table), give that column a name in the header."
                    if len(fields) == n + 1
                    else "Put text that holds the delimiter into double quotes, or write the table again."
                )
                raise FileFormatError(
                    f"{where}: the row that ends in line {reader.line_num} has {len(fields)} fields, but the header "
                    f"has {n}, delimited by {_NAMES[delimiter]}. {advice}"
                )
            yield fields
    except csv.Error as error:
        raise FileFormatError(f"{where}: not a delimited table (line {reader.line_num}: {error}).") from error
