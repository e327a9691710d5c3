"""In: pairs of a dataset. Out: everything, apart from the decoder's trace, that tells real from fake.

The command is ``python -m pack.audit``. Next: `train.stream` reads the dataset if it has no leaks.
"""
