"""Where data come from: manifests, downloads, readers, packed tiles, splits, and the embedded world."""
