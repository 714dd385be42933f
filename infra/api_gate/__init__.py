"""Whether today's API still serves those who were written for the last release.

Lives here: the comparison of two API documents, and the command that makes it. Not
here: the document (`common/openapi.py`). Surprise: the last release's document is a
file of the project, and only the command with `--release` writes it.
"""
