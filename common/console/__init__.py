"""The operations console, except for its routes and templates."""
