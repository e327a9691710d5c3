"""In: pixels of an image or a pair. Out: numbers that decoders leave alone and mistakes do not."""
