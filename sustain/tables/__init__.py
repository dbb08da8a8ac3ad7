"""Tables that people bring, read and written at one place: delimited text, Parquet, Stata, SPSS and Excel."""

from sustain.tables.delimited import read_text
from sustain.tables.reading import SUFFIXES, read_table
from sustain.tables.writing import WRITABLE, add_columns, require_writable, write_table

__all__ = [
    "SUFFIXES",
    "WRITABLE",
    "add_columns",
    "read_table",
    "read_text",
    "require_writable",
    "write_table",
]
