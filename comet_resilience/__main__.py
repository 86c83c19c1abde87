"""``python -m comet_resilience``."""

import sys

from .cli import main

sys.exit(main())
