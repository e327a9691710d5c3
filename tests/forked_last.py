"""Imported last by the server that ranks are forked from: leaves what it holds out of the ranks' collections.

Each rank ends with a collection, which would look at all that the server has imported (.3 s), and copy it.
"""

import gc

gc.collect()
gc.freeze()
