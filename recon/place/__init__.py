"""Where a process runs: what a launcher or a scheduler says of it in its environment variables.

The commands and launch/torchrun.py read them here, once; all other code gets the numbers as arguments.
"""
