"""In: where images lie. Out: their names, labels and groups, and a way to read their bytes in blocks.

`find.open_source` tells what the place is: folders, tables, Parquet files with the images in them, tars, a
packed dataset. What can't be told is refused, with the choices. Next: `train.evaluation.images` decodes.
"""
