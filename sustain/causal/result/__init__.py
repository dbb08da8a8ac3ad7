"""What an effect says: the estimate, its caveats, and what would overturn it."""
