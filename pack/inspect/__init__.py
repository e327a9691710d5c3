"""In: a finished dataset. Out: what a person wants to know of it before training on it.

The commands ``pack.verify`` (every byte), ``pack.info`` (totals), ``pack.preview`` (a picture) and
``pack.audit``.
"""
