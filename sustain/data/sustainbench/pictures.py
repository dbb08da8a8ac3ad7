"""JPEG and PNG files, decoded only when they are of the kind and size that was promised."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from sustain.errors import FileFormatError

__all__ = ["read_picture"]


def read_picture(
    content: bytes, kind: str, size: tuple[int, int] | None, where: str, mode: str | None = None
) -> NDArray[np.uint8]:
    """Decode a picture.

    Parameters
    ----------
    content : bytes
    kind : {"JPEG", "PNG"}
        The only format that is tried.
    size : (height, width), optional
        What it must be; compared before a pixel is decoded.
    where : str
        File, for messages.
    mode : str, optional
        Pillow's name of the kind of pixels that it must have, such as ``"RGB"``; by default any, turned into RGB.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    FileFormatError
        When it is not such a picture, or is cut short.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=[kind]) as picture:
            if size is not None and (picture.height, picture.width) != size:
                raise FileFormatError(
                    f"{where}: {picture.height} x {picture.width} pixels; expected {size[0]} x {size[1]}."
                )
            if mode is not None and picture.mode != mode:
                raise FileFormatError(f"{where}: pixels of the kind {picture.mode}; expected {mode}.")
            return np.asarray(picture.convert("RGB"))
    except FileFormatError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FileFormatError(f"{where}: not a whole {kind} picture ({error}). Get it again.") from error
