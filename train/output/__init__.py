"""What a run leaves behind beside its checkpoints, in a directory or a bucket."""
