"""``python -m hwgen`` is the program ``hwgen``."""
import sys

from .cli import main

sys.exit(main())
