"""Kill processes at every point at which a crash could lose something."""
