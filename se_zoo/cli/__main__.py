"""Run ``se-zoo`` as ``python -m se_zoo.cli``."""

from . import main

main()
