"""In: a finished dataset. Out: what a person wants to know about it before training on it.

The commands are ``pack.verify`` (checks every byte), ``pack.info`` (totals), ``pack.preview`` (a picture)
and ``pack.audit`` (leaks). Next: `train.stream` reads the dataset.
"""
