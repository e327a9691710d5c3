"""What a process and launch/torchrun.py, which may have started it, owe each other; it knows nothing else."""
