"""Tells what a place is, and opens it."""

from pack.base.items import File, store_of
from pack.sources.place import TABLES, first_wild, is_url, located, walked
from pack.sources.tar_names import find_tar_files
from recon.base.errors import UserError
from recon.base.paths import is_dir, is_file, split_path
from recon.base.walk import LeftOut
from recon.image.codec import SUFFIXES
from recon.listing import HALVES, images_among, tell, without_masks
from train.evaluation.inputs.folders import open_folder, open_image
from train.evaluation.inputs.labels import Words
from train.evaluation.inputs.packed import open_packed
from train.evaluation.inputs.parquet import holds_images, open_parquet
from train.evaluation.inputs.source import ImageSource
from train.evaluation.inputs.tables import Columns, open_table
from train.evaluation.inputs.tars import open_tars

FORMS = (
    "a packed dataset (a directory or URL that holds dataset.json), a folder of images (in it 0_real and "
    "1_fake, nature and ai, real and fake, real beside generators, or no labels), one image, a table (.csv, "
    ".parquet) of paths, Parquet files with images, or tars of a WebDataset"
)
_CONTAINERS = (".parquet", ".tar")
_TABLE_OF_FOLDER = ("metadata.csv", "metadata.parquet")  # beside the images, as Hugging Face's ImageFolder


def open_source(
    data: str,
    group_by: str = "group",
    words: Words = Words(),  # noqa: B008  # frozen
    columns: Columns = Columns(),  # noqa: B008  # frozen
) -> ImageSource:
    """Opens the images at a place, whatever it is.

    Args:
        data: a path or URL.
        group_by: the index column that gives the label groups of a packed dataset.
        words: what means real and fake.
        columns: the columns of a table.

    Raises:
        UserError: there is nothing, or what there is can't be told or read; the message lists the choices.
    """
    place = located(data)
    is_folder = is_dir(place) if not is_url(place) else not _names_file(place)
    if is_folder and store_of(place).exists("dataset.json"):
        _refuse(
            words != Words() or columns != Columns(), "labels and columns", "packed datasets have their own"
        )
        source = open_packed(place, group_by)
    else:
        _refuse(
            group_by != "group",
            f"group_by={group_by}",
            "it is for packed datasets (--group_column is for tables)",
        )
        source = _folder(place, words, columns) if is_folder else _file(place, words, columns)
    if not source.total:
        raise UserError(f"data={data} holds no image; expected {FORMS}")
    return source


def _refuse(is_idle: bool, what: str, why: str) -> None:
    if is_idle:
        raise UserError(f"{what} would be ignored: {why}; leave it out")


def _names_file(place: str) -> bool:
    name = place.lower()
    return first_wild(place) >= 0 or name.endswith((*TABLES, ".tar", *SUFFIXES))


def _folder(place: str, words: Words, columns: Columns) -> ImageSource:
    """A folder or prefix, by what lies in it: a table beside the images, images, Parquet files, or tars."""
    left_out = LeftOut()
    files = list(walked(place, (*HALVES, *words.real, *words.fake), left_out.add))
    names, root = [name for name, _ in files], place.rstrip("/")
    if table := next((name for name in _TABLE_OF_FOLDER if name in names), None):
        return open_table(f"{root}/{table}", words, columns)
    if packed := sorted(name.rpartition("/")[0] for name in names if name.endswith("/dataset.json")):
        raise UserError(f"{place} holds packed datasets in {', '.join(packed)}; name one of them")
    if not any(name.lower().endswith(SUFFIXES) for name in names):
        has_parquet, has_tars = (any(name.endswith(suffix) for name in names) for suffix in _CONTAINERS)
        if has_parquet and has_tars:
            raise UserError(f"{place} holds both Parquet files and tars; name them, e.g. '{root}/*.tar'")
        if has_parquet:
            tell(place, left_out)
            parquet = sorted(one for one in files if one[0].endswith(".parquet"))
            return open_parquet(place, [File(place, *one) for one in parquet], words, columns)
        if has_tars:
            return open_tars(place, words, columns)
    _refuse(columns != Columns(), "columns", f"{place} is a folder of images")
    found = without_masks(images_among(iter(files), left_out.add), left_out.add)
    images = [File(place, name, size) for name, size in found]
    tell(place, left_out)
    return open_folder(place, images, words)


def _file(place: str, words: Words, columns: Columns) -> ImageSource:
    name = place.lower()
    if not is_url(place) and first_wild(place) < 0 and not is_file(place):
        raise UserError(f"data={place}: found nothing, expected {FORMS}")
    if name.endswith(".parquet"):
        is_pattern = first_wild(place) >= 0 and (is_url(place) or not is_file(place))
        # `find_tar_files` finds all that a pattern matches; a URL without one it takes for a prefix.
        files = find_tar_files(place) if is_pattern else [File(*split_path(place))]
        if is_pattern or holds_images(files[0]):
            return open_parquet(place, files, words, columns)
    if name.endswith(TABLES):
        return open_table(place, words, columns)
    if name.endswith(SUFFIXES):
        root, image = split_path(place)
        return open_image(root, File(root, image), words)
    if name.endswith(".tar") or first_wild(place) >= 0:
        return open_tars(place, words, columns)
    raise UserError(f"data={place}: found a file of another kind, expected {FORMS}")
