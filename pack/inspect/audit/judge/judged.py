"""Which statistics must not tell the classes apart, and what to do if one does.

*Judged* are statistics that correct packing keeps equal in both classes, with any autoencoder:

* facts of the files (size, channels, codec, JPEG coding, orientation, ICC profile): the share of pairs
  whose images differ. Half of this share is what a detector gains over chance by knowing the fact. Size
  and channels must be equal in all pairs, because the loader cuts both images in the same way.
* channel means, in pairs and in single images. A mistake in arithmetic shifts all pairs by the same
  amount, while an autoencoder's own bias (taesd: +1.9 levels of red, tiny: +.5) varies with the picture.
  So a shift counts only if it exceeds .1 level *and* three times the spread among photographs. If pixels
  pass nearly unchanged, no autoencoder was there, and .1 level alone decides. The audit therefore
  misses a shift of half a level in addition to a larger bias of the autoencoder.
* empty ends: clipped pixels pile up at levels 0 and 255, whatever made them. If the pile is next to an
  empty end, the image was shifted; this finds a shift by one with an autoencoder of any bias.
* gaps: levels without pixels between levels with many. They come from rounding twice, or from contrast
  stretched in one class only. Photographs have up to .02 of them.
* lost level: one level that is a gap in reconstructions but not in their photographs (level 63 after
  truncation on the way from [-1, 1], which moves levels 1..63 by one). Gaps that photographs have and
  reconstructions fill come from the source and are no mistake.
* JPEG traces: coefficients of the 8x8 blocks lie on multiples of a step. One class was JPEG and the
  other was not, or its JPEG was coarser, in whatever format both are stored now, and wherever its grid lies
  (all 64 phases). The steps of middle frequencies tell qualities apart.
* photographs that were JPEG: the real image has a grid and its reconstruction has none. A detector then
  learns the photographs' old compression, and calls photographs fake that never were JPEG.
* halved chroma: the chroma of one class is that of an image half as large (JPEG 4:2:0), at any of the 4
  places of its grid. Chroma that is smooth at all of them says nothing.
* repeated border: the last lines of one class repeat others.
* colour: channels in another order, or all colours weaker or stronger. Saturation counts, as channel means
  do, beyond .01 *and* three times the spread among photographs.
* geometry: content moved by more than .2 pixels (nearly all images of decoders stay below, not each), or
  scaled by a few pixels and back: then the fake's sharpness rises and falls along the image, equally often in
  all pairs. How often is looked for in other photographs than those that are judged by it.
* sharpness: details that both images share are stronger in the fake. Decoders make them weaker, so the audit
  sees sharpening only of accurate reconstructions.

*Only shown* are statistics that the trace of a good autoencoder changes too, so no bound could separate a
mistake from what the detector should learn: high frequencies, contrast, clipped shares, gradients across
the 8-grid (decoders that upsample eightfold have their own grid: tiny's is 20 times that of a JPEG at quality
90), bytes per pixel (which follow from the high frequencies), the share of values that one more JPEG
compression changes (smaller in a fake under ``--codec match``, which was compressed once more, if the
reconstruction is accurate: tests/bench_match.py). The probe does not see them.

*How small a leak can be seen*: a leak counts if the whole 95 % interval lies above the bound. A leak that is
in a share s of the pairs is decided right in .5 + s / 2 of them; the line `power` says which s the sample
would show. Statistics that find nothing in a pair count it as half right. Each is one more chance of a false
alarm, though, and there is no correction for their number: tests/bench_audit.py counts the alarms in pairs
whose halves are exchanged by chance.

*Not seen*: what a decoder causes as well. That is smoothing, weaker details, colours or shifts within its own
spread, and sharpening of a reconstruction that is soft itself: sharpening by .2 behind `tiny` is decided
right in .00 (.00 to .04) of 106 pairs (``python tests/bench_audit.py --photos coco``).
"""

MATCH = "pack with --codec match (or lossless, if the real images are no JPEG)"
GEOMETRY = "look for resizing or for grids that start half a pixel later, pack again"
ROUNDING = "look for astype(uint8) without rounding, a colour conversion, or an offset in the reconstruction"

LEVEL = 0.1  # levels; identity reconstructions stored as JPEG stay within .08
SPREADS = 3.0  # times the spread among photographs
UNCHANGED = 1.5  # levels: if fake - real scatters no more than this, no autoencoder was there
CHANNELS = ("red", "green", "blue")
STEPS = {
    **dict.fromkeys(CHANNELS, LEVEL),
    "low_end": 0.2,
    "high_end": 0.2,
    "gaps": 0.02,
    "jpeg_traces": 0.1,
    "jpeg_steps": 0.3,
    "chroma_halved": 0.5,
    "repeated_border": 0.5,
    "shift_down": 0.2,
    "shift_across": 0.2,
    "saturation": 0.01,
    "exchanged": 0.5,
    "sharpness": 0.02,
}
"""The judged numbers, and for each the largest difference that is ignored."""
PROBED = (*CHANNELS, "low_end", "high_end", "gaps", "jpeg_traces", "chroma_halved", "repeated_border")
"""The judged numbers that the probe sees: those of single images."""
OWN_BIAS = (*CHANNELS, "saturation")
"""Numbers that decoders change a little, by much the same amount in all photographs."""
OFTEN_UNKNOWN = (
    "jpeg_before",
    "jpeg_traces",
    "jpeg_steps",
    "chroma_halved",
    "repeated_border",
    "saturation",
    "exchanged",
    "shift_down",
    "shift_across",
    "sharpness",
)
"""Numbers that grey, flat or small images and JPEG files don't have. A pair without one is half right."""
RISING = ("sharpness",)
"""Numbers of which only a larger value in the fake is a leak: decoders make them smaller."""
OF_PAIRS = ("jpeg_photographs", "resampled")
"""Findings that are no numbers of one image, and that small images don't have either."""
COLOUR = ("saturation", "exchanged")
ENDS = ("low_end", "high_end")
SHOWN = (
    *("blocking", "blocking_off", "high_frequency", "contrast", "dark", "bright", "bytes_per_pixel"),
    "recompressed",
)
"""Numbers that are shown and not judged."""

EXACT = ("size", "channels")
ADVICE = {
    "size": "the loader needs equal sizes; crop the reconstruction to the size of its real image, pack again",
    "channels": "both images must be grey or both colour; pack again with this version",
    "codec": f"the compression itself gives the fake away; {MATCH}",
    "jpeg_quality": f"qualities differ; {MATCH}",
    "jpeg_tables": f"quantisation differs; {MATCH}",
    "jpeg_subsampling": f"chroma subsampling differs; {MATCH}",
    "jpeg_kind": f"the kinds of JPEG differ; {MATCH}",
    "orientation": "readers that apply EXIF rotate only one image of a pair; copy the tag, or remove both",
    "icc": "only one image of a pair has this colour profile; copy it, or remove both",
    **dict.fromkeys(CHANNELS, ROUNDING),
    "low_end": f"level 0 is empty, its neighbours are not; {ROUNDING}",
    "high_end": f"level 255 is empty, its neighbours are not; {ROUNDING}",
    "gaps": "one class has empty grey levels; look for truncation to uint8, or stretched contrast",
    "jpeg_traces": "one class has traces of JPEG that the other lacks; use real images that are no JPEG, "
    "scale them down before reconstruction, or pack with --codec both (without tiles: match)",
    "jpeg_steps": "both classes were JPEG once, at different qualities; use one quality for both, or none",
    "chroma_halved": "only one class has chroma at half resolution; use JPEG 4:2:0 for both or for none",
    "repeated_border": "the last lines repeat others; look for padding that was not cropped, pack again",
    "shift_down": f"the content moved up or down; {GEOMETRY}",
    "shift_across": f"the content moved sideways; {GEOMETRY}",
    "saturation": "the colours of one class are weaker or stronger; look for a conversion of colours",
    "exchanged": "the colour channels are in another order; look for BGR read as RGB",
    "sharpness": "the reconstruction was sharpened; leave that out",
}
PHOTOGRAPHS = (
    "your photographs were JPEG once, your fakes were not: a detector learns this old compression; use "
    "photographs that never were JPEG, scale them down (by half, say) before packing, or use --codec both"
)
RESAMPLED = f"one class was scaled by a few pixels and back; {GEOMETRY}"
