"""Raw maps corrected with a card, and somebody else's maps taken in."""
