"""In: a checkpoint. Out: its threshold, its score of single photographs, and its weights for other programs.

Runs the commands ``train.calibrate``, ``train.score`` and ``train.export``.
"""
