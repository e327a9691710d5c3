"""What launch/torchrun.py does on a node, and what it and the processes that it starts owe each other."""
