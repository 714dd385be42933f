"""What the functions share: rules, tables, clients, publishers.

Importing reads no environment and opens no socket or thread, because the framework
imports first and forks afterwards. Garbage is collected rarely while a function loads.
"""

import gc

# Loading a function makes 80 000 objects that stay. Scanning them repeatedly took a
# fifth of its time (benchmarks/NOTES.md). `startup.use` restores the threshold.
GC_THRESHOLD = gc.get_threshold()
gc.set_threshold(100_000)
