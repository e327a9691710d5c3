"""The options of `python -m pack`."""

from dataclasses import dataclass
from typing import Literal

from recon.base.errors import UserError
from recon.base.options import at_least_one, refuse_idle
from recon.models.config import ReconstructionConfig

CodecPolicy = Literal["match", "lossless-png", "lossless-webp", "both", "keep"]
FieldNames = Literal["auto", "by_codec"]
Layout = Literal["auto", "folder", "tree", "imagefolder", "webdataset", "table"]

QUALITY = 90
"""Default of `PackConfig.quality`."""

IMAGE_FIELD = "jpg;jpeg;png;webp"
"""Default of `PackConfig.image_field`."""

_MAKING = (  # options of the autoencoder, which do nothing if the reconstructions are ready
    *("autoencoder", "autoencoder_mode", "fakes_per_real", "subfolder", "revision", "posterior", "seed"),
    *("generations", "dtype", "device", "batch_size", "channels_last", "compile", "tiling_pixels"),
)


@dataclass(frozen=True, kw_only=True)
class PackConfig(ReconstructionConfig):
    """Packs real images and their reconstructions into a dataset of shards."""

    source: str
    """Where the real images are: a folder or URL prefix (s3://BUCKET/PREFIX), searched recursively; tars of a WebDataset (data/{000..099}.tar, or a glob; quote them); a table of paths (.csv, .parquet)."""  # noqa: E501
    out: str
    """Directory or fsspec URL of the dataset. If there are splits, they are train/ and val/ below it."""
    reconstructions: str | None = None
    """Folder or URL prefix of ready reconstructions; a pair has the same relative name, with any suffix. NAME.mask.png beside each, if there is one, marks the changed pixels."""  # noqa: E501
    layout: Layout = "auto"
    """What source is. auto: webdataset for tars, table for .csv and .parquet, else folder. tree: {train,val|valid}/GENERATOR/{0_real,1_fake}. imagefolder: {train,validation|val|valid,test}/CLASS/IMAGE or CLASS/IMAGE, as in Hugging Face's ImageFolder."""  # noqa: E501
    image_field: str = IMAGE_FIELD
    """Of webdataset tars: the field that holds the image; of several, separated by ";", the first found."""
    column: str | None = None
    """Of a table: the column of paths (relative to the table's folder) or URLs; by default path, url, image or file_name."""  # noqa: E501
    group_column: str | None = None
    """Of a table: the column of label groups; by default the folder of each image."""
    name: str | None = None
    """Name of the dataset, part of every pair's id; by default the name of the source folder."""
    codec: CodecPolicy = "match"
    """How the reconstruction is compressed. match: like its real JPEG (same tables, subsampling, kind), or
    lossless if the real image is no JPEG; keep: ready reconstructions keep their bytes (a detector may
    then learn their codec); both: both images are compressed again, as JPEG of --quality."""
    quality: int = QUALITY
    """JPEG quality 1..100 for codec=both, with 4:2:0 subsampling."""
    fields: FieldNames = "auto"
    """How the images are named in the tars. auto: alike in every sample, such as real.jpg and fake.jpg: the true suffix if the listing and the options leave one codec, else jpg whatever the bytes; by_codec: each by its own codec, which readers that take their columns from the first samples can't follow."""  # noqa: E501
    convert: bool = False
    """Accept CMYK, 16-bit, palette and alpha (over white) images; they are stored as 8-bit RGB in PNG."""
    tile: int | None = None
    """Cut photographs into square tiles of this side in pixels, a multiple of 8, stored as PNG."""
    tile_stride: int | None = None
    """Distance between tiles in pixels, a multiple of 8; by default the side of a tile."""
    min_side: int = 1
    """Reject images whose shorter side has fewer pixels than this."""
    max_pixels: int = 100_000_000
    """Reject images of more pixels than this."""
    require_jpeg_free: bool = False
    """Reject photographs that are or once were JPEG: their real images keep traces of that compression, which a detector may learn in place of the decoder's."""  # noqa: E501
    limit: int | None = None
    """Take at most this many images of each split, the first in sorted order."""
    autoencoder_mode: Literal["deal", "each"] = "deal"
    """If --autoencoder names several (a,b,c). deal: each image goes to one of them, chosen by a hash of its path; each: each image makes a pair with every autoencoder."""  # noqa: E501
    fakes_per_real: int | Literal["all"] = 1
    """Reconstructions in one sample: KEY.fake.EXT, KEY.fake2.EXT, ... With several autoencoders, this many of them or all, from the one that the image is dealt to on; with one and --posterior sample, samples of the seeds SEED, SEED + 1, ..."""  # noqa: E501
    val_fraction: float = 0.0
    """Share of the images that goes to the validation split, chosen by a hash of their path."""
    shard_mb: int = 256
    """Target size of a shard in MiB; fixes the pairs per shard before the first shard is written."""
    shard_pairs: int | None = None
    """Pairs per shard, instead of shard_mb."""
    buffer_mb: int = 512
    """Pixels decoded ahead of the autoencoder, in MiB; see the README for the memory of a process."""
    rank: int | None = None
    """Number (from 0) of this process among those that pack together; by default RANK, SLURM_PROCID or SLURM_ARRAY_TASK_ID, else 0."""  # noqa: E501
    world_size: int | None = None
    """How many processes pack together; by default as torchrun or Slurm says, else 1. Without rank: a task of a Slurm array is the rank that its index says, so that an array may have only the ranks that are left."""  # noqa: E501
    engine: Literal["ray"] | None = None
    """ray: pack by actors on a Ray cluster, the one of RAY_ADDRESS or one of this machine; needs pip install -e '.[ray]'."""  # noqa: E501
    engine_workers: int | None = None
    """Actors of the engine; by default one for each GPU that the cluster has. Each takes a GPU, if there are any or --device asks for them; those that find none wait until the cluster grows."""  # noqa: E501
    dry_run: bool = False
    """Print what would be done (images, bytes, shards, time), and write nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.source or not self.out:
            raise UserError("source and out must not be empty")
        at_least_one(
            self,
            "tile",
            "tile_stride",
            "min_side",
            "max_pixels",
            "limit",
            "shard_mb",
            "shard_pairs",
            "buffer_mb",
            "engine_workers",
        )
        for name in ("tile", "tile_stride"):
            if (getattr(self, name) or 0) % 8:
                raise UserError(f"{name}={getattr(self, name)}, expected a multiple of 8")
        if self.tile_stride and not self.tile:
            raise UserError("tile_stride needs tile")
        if self.shard_pairs is not None:
            refuse_idle(self, "shard_mb", because="shard_pairs fixes the shards")
        if not 0.0 <= self.val_fraction < 1.0:
            raise UserError(f"val_fraction={self.val_fraction}, expected 0 <= val_fraction < 1")
        self._check_fakes()
        self._check_layout()
        self._check_reconstructions()
        self._check_codec()
        self._check_rank()

    def _check_fakes(self) -> None:
        if self.fakes_per_real != "all" and self.fakes_per_real < 1:
            raise UserError(f"fakes_per_real={self.fakes_per_real}, expected at least 1, or all")
        if self.autoencoder_mode == "each":
            because = "autoencoder_mode=each makes a pair of its own with each autoencoder"
            refuse_idle(self, "fakes_per_real", because=because)

    def _check_layout(self) -> None:
        if self.layout == "tree" and (self.reconstructions or self.val_fraction):
            raise UserError(
                "layout=tree brings its own reconstructions and splits; "
                "drop --reconstructions and --val_fraction"
            )
        if self.image_field != IMAGE_FIELD and self.layout not in ("auto", "webdataset"):
            raise UserError(f"image_field is for layout=webdataset, but layout={self.layout}")
        for name in ("column", "group_column"):
            if getattr(self, name) is not None and self.layout not in ("auto", "table"):
                raise UserError(f"{name} is for layout=table, but layout={self.layout}")

    def _check_reconstructions(self) -> None:
        if self.tile and self.has_reconstructions:
            raise UserError(
                "tile cuts photographs before reconstruction, so ready reconstructions can't be used"
            )
        if self.has_reconstructions:
            refuse_idle(self, *_MAKING, because="the reconstructions are ready")

    def _check_codec(self) -> None:
        if self.codec == "keep" and not self.has_reconstructions:
            raise UserError(
                "codec=keep needs ready reconstructions; choose match, lossless-png or lossless-webp"
            )
        if not 1 <= self.quality <= 100:
            raise UserError(f"quality={self.quality}, expected 1 to 100")
        if self.quality != QUALITY and self.codec != "both":
            raise UserError(f"quality is for codec=both, but codec={self.codec}, which does not use it")

    def _check_rank(self) -> None:
        if self.engine is None:
            refuse_idle(self, "engine_workers", because="there is no engine")
        elif self.rank is not None or self.world_size is not None or self.dry_run:
            raise UserError(
                f"engine={self.engine} deals the shards itself; drop rank, world_size and dry_run"
            )
        if self.rank is not None and self.world_size is None:
            raise UserError(f"rank={self.rank} without world_size, expected both or neither")
        if self.world_size is not None and self.world_size < 1:
            raise UserError(f"world_size={self.world_size}, expected at least 1")
        if self.rank is not None and self.world_size is not None and not 0 <= self.rank < self.world_size:
            raise UserError(
                f"rank={self.rank} and world_size={self.world_size}, expected 0 <= rank < world_size"
            )

    @property
    def has_several(self) -> bool:
        """Whether several autoencoders are named."""
        return "," in self.autoencoder

    @property
    def has_reconstructions(self) -> bool:
        """Whether the reconstructions are ready files, so that no autoencoder runs."""
        return self.layout == "tree" or self.reconstructions is not None

    @property
    def new_codec(self) -> str:
        """Codec of images that no file's codec is kept for: tiles, converted images, lossless fakes."""
        return {"both": "jpeg", "lossless-webp": "webp"}.get(self.codec, "png")
