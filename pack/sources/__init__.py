"""In: the options. Out: the sorted items of each split, found before anything is written.

A source is a folder or URL prefix of images, a published tree, an image folder of classes, tars of a
WebDataset, or a table of paths. All become the same `Item`s. Next: `pack.plan` deals them to shards.
"""

from pack.sources.find import Splits, find_items
from pack.sources.place import source_name
from pack.sources.tiles import read_size

__all__ = ["Splits", "find_items", "read_size", "source_name"]
