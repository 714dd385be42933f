"""Everything around the functions: running, packaging and deploying them."""
