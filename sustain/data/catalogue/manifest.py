"""Manifests: what a source of data consists of, where its bytes live, and under which terms.

One YAML file in ``data_manifests/`` describes one source. What is not known stays ``null``, never guessed: a size or
checksum that is ``null`` is not checked, a URL that is ``null`` means that the file has to be got by hand.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sustain.errors import DataError, FileFormatError
from sustain.files import sha256_of

__all__ = [
    "MANIFEST_FOLDERS",
    "TASKS_FILE",
    "Manifest",
    "ManifestFile",
    "load_manifest",
    "manifest_names",
    "verify",
]

TASKS_FILE = "tasks.yaml"  # lies among the manifests and is none: the registry of tasks
# Where a manifest's name is looked up, in this order.
MANIFEST_FOLDERS = (
    Path("data_manifests"),  # the project that one stands in
    Path(__file__).parents[3] / "data_manifests",  # a checkout, wherever one stands
    Path(__file__).parents[2] / "data_manifests",  # an installed package
)


def _relative_path(value: str) -> str:
    path = PurePosixPath(value)
    if not value or path.is_absolute() or ".." in path.parts or "\\" in value or str(path) != value:
        raise ValueError(f"{value!r} is not a plain relative path with forward slashes")
    return value


def _https(value: str) -> str:
    if not value.startswith(("https://", "http://")) or any(character.isspace() for character in value):
        raise ValueError(f"{value!r} is not an http(s) address")
    return value


RelativePath = Annotated[str, AfterValidator(_relative_path)]
DriveId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]{10,}$")]
Address = Annotated[str, AfterValidator(_https)]


class ManifestFile(BaseModel):
    """One file of a source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: RelativePath = Field(description="Place below the source's folder, here and in a mirror.")
    url: Address | None = Field(None, description="The publisher's address; null: none is known.")
    drive_id: DriveId | None = Field(None, description="Google Drive's id of the file; null: none is known.")
    size: int | None = Field(None, ge=0, description="Bytes; null: not known.")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="Checksum; null: not known.")
    mirrors: tuple[Address, ...] = Field((), description="Other public addresses of the same bytes.")
    title: str | None = Field(None, description="What it holds, in one line.")

    def problem_of(self, place: Path) -> str | None:
        """Say what is wrong with the file at `place`, or return None when it is the one described here.

        Parameters
        ----------
        place : Path
            A file on this machine.
        """
        if not place.is_file():
            return "is missing"
        size = place.stat().st_size
        if self.size is not None and size != self.size:
            return f"has {size:,} bytes instead of {self.size:,}"
        if self.sha256 is not None and (found := sha256_of(place)) != self.sha256:
            return f"has sha256 {found} instead of {self.sha256}"
        return None


class Manifest(BaseModel):
    """One source of data: files, licence, citation and what is known to be wrong with it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_\-]*$", description="Short name, the same as the file's.")
    title: str = Field(min_length=1)
    description: str | None = None
    homepage: Address | None = None
    version: str | None = Field(None, description="Release, commit or date that the files were taken from.")
    licence: str | None = Field(description="SPDX identifier where there is one; null: none stated.")
    upstream_terms: str | None = Field(None, description="Terms of those whose data went into these files.")
    redistribute_coordinates: bool | None = Field(
        None,
        description="Whether the terms let coordinates and names of the survey's clusters be passed on; null: not "
        "known, and treated as no.",
    )
    citation: str | None = None
    known_issues: tuple[str, ...] = ()
    mirror: RelativePath | None = Field(None, description="The source's folder in a mirror; null: its name.")
    by_hand: str | None = Field(None, description="How to get files that cannot be downloaded.")
    drive_folder: DriveId | None = Field(None, description="Google Drive's id of the publisher's folder.")
    files: tuple[ManifestFile, ...] = Field(
        description="Empty only where the content of `drive_folder` is unknown."
    )

    @model_validator(mode="after")
    def _paths_differ(self) -> Self:
        paths = [file.path.casefold() for file in self.files]
        twice = sorted({path for path in paths if paths.count(path) > 1})
        if twice:
            raise ValueError(f"files listed more than once: {', '.join(twice)}")
        if not self.files and self.drive_folder is None:
            raise ValueError("a manifest without files needs the drive_folder in which they lie")
        return self

    @property
    def mirror_folder(self) -> str:
        """Folder of this source inside a mirror."""
        return self.mirror or self.name

    @property
    def size(self) -> int | None:
        """Bytes of all files together, or None when one is not known."""
        sizes = [file.size for file in self.files]
        return None if None in sizes or not sizes else sum(size for size in sizes if size is not None)

    @property
    def folder_address(self) -> str | None:
        """Where a browser finds the publisher's folder on Google Drive."""
        return self.drive_folder and f"https://drive.google.com/drive/folders/{self.drive_folder}"

    def some_names(self) -> str:
        """Return the first paths, and how many more there are, for messages."""
        paths = [file.path for file in self.files]
        return ", ".join(paths[:8]) + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")

    def file(self, path: str) -> ManifestFile:
        """Return the entry of one path.

        Raises
        ------
        DataError
            When the manifest lists no such file.
        """
        for file in self.files:
            if file.path == path:
                return file
        raise DataError(f"manifest {self.name!r} lists no file {path!r}; it has {self.some_names()}.")


def load_manifest(name_or_path: str | Path) -> Manifest:
    """Read and check a manifest.

    Parameters
    ----------
    name_or_path : str or Path
        A name such as ``"yeh2020"``, looked up in `MANIFEST_FOLDERS`, or the path of a YAML file.

    Raises
    ------
    DataError
        When there is no such manifest.
    FileFormatError
        When the file is not YAML, or a field is missing, unknown or of the wrong kind.
    """
    path = _find(name_or_path)
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: not valid YAML: {error}") from error
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'manifest'}: {item['msg']}" for item in error.errors()
        )
        raise FileFormatError(f"{path}: not a manifest: {problems}") from error
    if manifest.name != path.stem:
        raise FileFormatError(
            f"{path}: name is {manifest.name!r}, but the file is {path.stem!r}; make them agree."
        )
    return manifest


def manifest_names() -> list[str]:
    """Return the names of all manifests, sorted."""
    files = [file for folder in MANIFEST_FOLDERS for file in folder.glob("*.yaml") if file.name != TASKS_FILE]
    return sorted({file.stem for file in files})


def verify(manifest: Manifest, folder: str | Path) -> dict[str, str]:
    """Compare the files below `folder` with the manifest.

    Parameters
    ----------
    manifest : Manifest
    folder : str or Path
        The source's folder on this machine.

    Returns
    -------
    dict of str to str
        For each file that is missing or wrong, its path and what is wrong. Empty: all is as published.
    """
    found = {file.path: file.problem_of(Path(folder) / file.path) for file in manifest.files}
    return {path: problem for path, problem in found.items() if problem is not None}


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        raise DataError(f"{path}: no such manifest file.")
    for folder in MANIFEST_FOLDERS:
        candidate = folder / f"{name_or_path}.yaml"
        if candidate.is_file():
            return candidate
    raise DataError(
        f"no manifest is called {str(name_or_path)!r}; there are {', '.join(manifest_names()) or 'none'}."
    )
