"""Getting data here: from publishers and mirrors, by hand, out of archives."""

from sustain.data.fetch.archive import Limits, iter_members, unpack
from sustain.data.fetch.inventory import holding, manifest_of, raw_folder
from sustain.data.fetch.manual import add
from sustain.data.fetch.published import Attempts, fetch

__all__ = [
    "Attempts",
    "Limits",
    "add",
    "fetch",
    "holding",
    "iter_members",
    "manifest_of",
    "raw_folder",
    "unpack",
]
