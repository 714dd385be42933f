"""What comes with the project, and what must not: dependencies, licences, secrets.

Lives here: three commands of `make check`, and `accepted.toml`, what they let pass.
Not here: which releases are used (`requirements/`). Surprise: none of them changes
anything; whatever they find is for a person to decide.
"""
