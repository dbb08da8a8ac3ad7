"""Getting data here: downloads, mirrors, files by hand, archives."""
