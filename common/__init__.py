"""What the functions share: rules, tables, clients, publishers.

Flat on purpose, one noun a module. Nothing here runs at import: no environment,
no socket, no thread, because the framework imports first and forks afterwards.
"""
