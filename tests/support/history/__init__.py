"""Record what clients asked and heard, and check that some sequence explains it."""
