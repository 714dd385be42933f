"""The whole platform on one machine. Nothing in here is deployed."""
