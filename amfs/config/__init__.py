"""Settings from arguments, variables and `amfs.yaml`, and the adapters they name."""

from amfs.config.places import open_store, shown_place
from amfs.config.settings import Config, checked_path, load

__all__ = ["Config", "checked_path", "load", "open_store", "shown_place"]
