"""`python -m infra.orderctl`.

Lives here: nothing but the call. Not here: the commands. No surprise.
"""

import sys

from infra.orderctl import main

sys.exit(main())
