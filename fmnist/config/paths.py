"""Where the parts of the project lie: in a checkout, or in an installed package. Imported without other packages."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent
CHECKOUT = (ROOT / "train.py").is_file() and (ROOT / "conf").is_dir()
HOME = ROOT if CHECKOUT else PACKAGE  # the wheel holds train.py and conf/ in the package
TRAIN = HOME / "train.py"
CONF = HOME / "conf"
TRAIN_COMMAND = "python train.py" if CHECKOUT else "fmnist train"


def data_cache() -> Path:
    """Directory for data sets: FMNIST_DATA, or data/ in a checkout, or the user's cache directory."""
    if directory := os.environ.get("FMNIST_DATA"):
        return Path(directory).expanduser()
    if CHECKOUT:
        return ROOT / "data"
    from platformdirs import user_cache_path

    return user_cache_path("fmnist")
