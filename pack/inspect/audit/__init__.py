"""In: pairs of a dataset. Out: what tells real from fake in them beside the decoder's trace.

The command ``python -m pack.audit``.
"""
