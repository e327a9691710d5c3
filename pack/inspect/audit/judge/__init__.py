"""In: what was measured of pairs. Out: which of it tells real from fake, and how surely."""
