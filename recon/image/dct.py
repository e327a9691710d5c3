"""The matrix of libjpeg-turbo's "islow" DCT in fixed point, for the torch code and the numba code."""

# Left half of sqrt(8) times the DCT matrix, in 13-bit fixed point. Even rows are symmetric, odd rows
# antisymmetric. The entries are sums of the twelve rounded constants of libjpeg-turbo's source: this is why
# one cosine appears as 10703 and as 10704.
HALF = (
    (8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260),
    (10703, 4433, -4433, -10703),
    (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633),
    (4433, -10704, 10704, -4433),
    (2260, -6436, 9633, -11363),
)
