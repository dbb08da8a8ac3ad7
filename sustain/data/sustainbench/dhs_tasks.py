"""The six DHS tasks: one set of tiles, six labels, whole countries kept together."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sustain.data.sustainbench import dhs
from sustain.data.sustainbench.landsat import pack_archives
from sustain.data.sustainbench.source import Scheme

__all__ = ["SCHEMES", "ingest"]

_FOLDS = "".join(dhs.COUNTRY_FOLDS)
SCHEMES = {
    "official": Scheme(
        True,
        "Whole countries: test on fold A, validate on B, train on the rest. Leak-free by country; a country may be "
        "surveyed in several years, all on one side.",
    )
} | {
    f"fold_{fold.lower()}": Scheme(
        True, f"Test on the countries of fold {fold}, validate on the next, train on the rest."
    )
    for fold in _FOLDS[1:]
}


def ingest(raw: str | Path, out: str | Path) -> None:
    """Pack the tiles of every site that has any of the six labels.

    Parameters
    ----------
    raw : str or Path
        Folder of ``dhs_final_labels.csv`` and ``dhs_*.tar.gz``.
    out : str or Path
        Folder to write. A run that was killed goes on after its last finished shard.

    Raises
    ------
    FileNotFoundError, FileFormatError, DataError
        As `sustain.data.sustainbench.landsat.pack_archives` and `sustain.data.sustainbench.dhs.read_all_labels`.
    """
    raw = Path(raw)
    sites = dhs.read_all_labels(raw / dhs.LABELS_FILE)
    sites = sites[sites[list(dhs.LABELS)].notna().any(axis=1)]
    pack_archives(dhs.archives(raw), add_splits(sites), out, SCHEMES, dhs.MEMBER)


def add_splits(sites: pd.DataFrame) -> pd.DataFrame:
    """Add ``group`` (the country) and the ``split:`` columns; a country outside the folds is in no part."""
    fold_of = {country: fold for fold, countries in dhs.COUNTRY_FOLDS.items() for country in countries}
    fold = sites["country"].map(fold_of)
    added = {"group": sites["country"]}
    for name in SCHEMES:
        test = "A" if name == "official" else name[-1].upper()
        validate = _FOLDS[(_FOLDS.index(test) + 1) % len(_FOLDS)]
        part = pd.Series("train", index=sites.index, dtype=object)
        added[f"split:{name}"] = (
            part.mask(fold == test, "test").mask(fold == validate, "val").mask(fold.isna(), None)
        )
    return sites.assign(**added)
