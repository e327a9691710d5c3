"""File formats below Pillow's view: why a file can't be read, what other packages read, JPEG's segments."""
