"""``python -m proxy`` is ``redspan``."""

from proxy.cli import main

main(prog_name="redspan")
