"""`python -m infra.orderctl`."""

import sys

from infra.orderctl import main

sys.exit(main())
