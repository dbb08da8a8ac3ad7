"""A corrected map as a folder for others."""
