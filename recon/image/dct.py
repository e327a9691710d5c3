"""The matrix of libjpeg-turbo's "islow" DCT in fixed point: shared by tensors and compiled loops."""

# sqrt(8) times the DCT matrix in 13-bit fixed point, left half; even rows are symmetric, odd rows
# antisymmetric. Sums of the source's twelve rounded constants: hence 10703 and 10704 for one cosine.
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
