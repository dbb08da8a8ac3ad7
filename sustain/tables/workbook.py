"""A table as an Excel workbook: the same bytes for the same values, so without the hour at which it was made."""

from __future__ import annotations

import re
import zipfile
from io import BytesIO

import pandas as pd

__all__ = ["workbook"]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first hour that a zip archive knows
_HOUR = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_ABOUT = "docProps/core.xml"  # where openpyxl writes the hour of saving


def workbook(data: pd.DataFrame) -> bytes:
    """Excel's file of a table, with its header in the first row and without its index."""
    made, timeless = BytesIO(), BytesIO()
    with pd.ExcelWriter(made, engine="openpyxl") as writer:
        data.to_excel(writer, index=False)
        for row in writer.book.worksheets[0].iter_rows():
            for cell in row:
                if cell.data_type == "f":  # a text that begins with "=" is a text, and nobody's formula
                    cell.data_type = "s"
    with zipfile.ZipFile(made) as read, zipfile.ZipFile(timeless, "w", zipfile.ZIP_DEFLATED) as written:
        for item in read.infolist():
            held = read.read(item)
            if item.filename == _ABOUT:
                held = _HOUR.sub(b"1980-01-01T00:00:00Z", held)
            written.writestr(zipfile.ZipInfo(item.filename, _EPOCH), held, zipfile.ZIP_DEFLATED)
    return timeless.getvalue()
