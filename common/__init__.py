"""What the functions share: rules, tables, clients, publishers.

Importing reads no environment and opens no socket or thread, because the framework
imports first and forks afterwards. Garbage collection is rare while a function is
loaded.
"""

import gc

# Loading a function makes 80 000 objects that stay. Looking through them over and over
# took a fifth of its time (benchmarks/NOTES.md); `startup.use` ends this.
GC_THRESHOLD = gc.get_threshold()
gc.set_threshold(100_000)
