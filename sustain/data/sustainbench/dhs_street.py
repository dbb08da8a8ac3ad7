"""Street-level pictures (Mapillary) around DHS sites: an optional second input of the six DHS tasks.

- ``mapillary/metadata/{CC}.csv`` and ``mapillary/imagery/{CC}.zip`` for 48 of the 56 countries, with pictures at about
  a fifth of the sites. Where there are pictures is no accident: results on these sites do not speak for the others;
- a picture is the member ``{CC}/{DHSID_EA}/{mapillary id}.jpeg``. The header of the metadata has not been seen, so
  sites and pictures are taken from the members' names and nothing hangs on the metadata;
- pictures stay in their archives, and are read from there one at a time.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sustain.data.sustainbench import dhs, dhs_tasks, figures
from sustain.data.sustainbench.arrays import DAMAGE
from sustain.data.sustainbench.dataset import Sample
from sustain.data.sustainbench.pictures import read_picture
from sustain.errors import DataError, FileFormatError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MISSING_COUNTRIES", "StreetPictures", "list_pictures"]

MISSING_COUNTRIES = ("GA", "GY", "ID", "KM", "MA", "MB", "NI", "SZ")
"""Countries of the DHS tasks without pictures."""

_MEMBER = re.compile(
    r"(?:^|/)(?P<country>[A-Z]{2})/(?P<site>[A-Z0-9]{2}-[0-9]{4}-[0-9A-Z]#-[0-9]+)/(?P<picture>[0-9A-Za-z_\-]+)\.jpe?g$"
)
_MAX_PICTURE = 1 << 25


def list_pictures(raw: str | Path) -> pd.DataFrame:
    """List the pictures in the archives of a folder.

    Parameters
    ----------
    raw : str or Path
        Folder with ``mapillary/imagery/{CC}.zip``.

    Returns
    -------
    DataFrame
        One row a picture, by site and picture: country, site (``DHSID_EA``), picture (Mapillary's id), archive,
        member.

    Raises
    ------
    FileNotFoundError
        When there is no archive.
    FileFormatError
        When an archive is damaged, or holds no picture.
    """
    folder = Path(raw) / "mapillary" / "imagery"
    archives = sorted(folder.glob("??.zip"))
    if not archives:
        raise FileNotFoundError(f"{folder}: no CC.zip here. Fetch or add the source's published files first.")
    rows = []
    for archive in archives:
        try:
            with zipfile.ZipFile(archive) as files:
                names = files.namelist()
        except DAMAGE as error:
            raise FileFormatError(f"{archive}: damaged or truncated ({error}). Get it again.") from error
        found = [(match, name) for name in names if (match := _MEMBER.search(name))]
        if not found:
            raise FileFormatError(f"{archive}: no member like CC/DHSID_EA/ID.jpeg. Get it again.")
        rows += [(m["country"], m["site"], m["picture"], archive.name, name) for m, name in found]
    table = pd.DataFrame(rows, columns=["country", "site", "picture", "archive", "member"])
    return table.sort_values(["site", "picture"], ignore_index=True)


class StreetPictures:
    """The pictures of the sites of one part of a DHS task, one sample a picture.

    ``image``: float32 ``(3, H, W)``, red, green, blue, 0-255; sizes differ, the shorter side has 1,024 pixels.
    ``label``: float32, that of the site. ``site``: its id.

    Parameters
    ----------
    raw : str or Path
        Folder with ``mapillary/imagery``.
    sites : DataFrame
        As `sustain.data.sustainbench.dhs.read_all_labels` gives it.
    label : str
        Column of the label.
    split : {"train", "val", "test"}
    scheme : str
        Split scheme of the DHS tasks, by country.

    Attributes
    ----------
    samples : DataFrame
        One row a picture: id, site, group (country), label.
    """

    kind: ClassVar[str] = "regression"
    bands: ClassVar[tuple[str, ...]] = ("RED", "GREEN", "BLUE")

    def __init__(
        self,
        raw: str | Path,
        sites: pd.DataFrame,
        *,
        label: str = "asset_index",
        split: str = "train",
        scheme: str = "official",
    ) -> None:
        if label not in dhs.LABELS:
            raise DataError(f"label is {label!r}; expected one of {', '.join(dhs.LABELS)}.")
        if scheme not in dhs_tasks.SCHEMES:
            raise DataError(f"no split scheme {scheme!r}; there are {', '.join(dhs_tasks.SCHEMES)}.")
        self.folder = Path(raw) / "mapillary" / "imagery"
        self.unit = dhs.LABELS[label].unit
        chosen = dhs_tasks.add_splits(sites[sites[label].notna()])
        chosen = chosen[chosen[f"split:{scheme}"] == split].rename(columns={"id": "site", label: "label"})
        pictures = list_pictures(raw).drop(columns="country")
        self.samples = pictures.merge(chosen[["site", "group", "label"]], on="site", validate="many_to_one")
        if self.samples.empty:
            raise DataError(f"{self.folder}: no picture of a site of part {split!r} of split {scheme!r}.")
        self.samples["id"] = self.samples["site"] + "/" + self.samples["picture"]
        self._open: dict[str, zipfile.ZipFile] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getstate__(self) -> dict[str, Any]:
        # Two processes must not share one open archive: each opens its own.
        return self.__dict__ | {"_open": {}}

    def __getitem__(self, i: int) -> Sample:
        """Return one sample, its arrays as tensors."""
        import torch

        return {
            key: torch.as_tensor(value) if isinstance(value, np.ndarray) else value
            for key, value in self.arrays(i).items()
        }

    def arrays(self, i: int) -> Sample:
        """Return one sample in NumPy.

        Raises
        ------
        IndexError
            When `i` is not a position in this part.
        FileFormatError
            When the picture is damaged or too large.
        """
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        row = self.samples.iloc[i]
        return {
            "image": self._picture(row["archive"], row["member"]),
            "label": np.asarray(row["label"], dtype=np.float32),
            "id": str(row["id"]),
            "site": str(row["site"]),
        }

    def _picture(self, archive: str, member: str) -> NDArray[np.float32]:
        where = f"{self.folder / archive}: member {member}"
        try:
            if archive not in self._open:
                self._open[archive] = zipfile.ZipFile(self.folder / archive)
            info = self._open[archive].getinfo(member)
            if info.file_size > _MAX_PICTURE:
                raise FileFormatError(
                    f"{where}: {info.file_size} bytes; at most {_MAX_PICTURE} are expected."
                )
            content = self._open[archive].read(info)
        except DataError:
            raise
        except DAMAGE as error:
            raise FileFormatError(f"{where}: damaged ({error}). Get the archive again.") from error
        return np.moveaxis(read_picture(content, "JPEG", None, where), -1, 0).astype(np.float32)

    def plot(self, sample: Sample, title: str | None = None) -> Figure:
        """Draw the picture."""
        image = np.moveaxis(np.asarray(sample["image"]), 0, -1) / 255
        return figures.pictures(
            [(str(sample["site"]), image)], title or figures.title_of(sample, unit=self.unit)
        )
