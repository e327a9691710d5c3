"""In: the bytes of a baseline JPEG and entry points. Out: the pixels of a part of it, without the rest."""
