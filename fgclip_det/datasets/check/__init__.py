"""What annotated data cannot be, found before a training: pictures, sizes, boxes and names."""

from fgclip_det.datasets.check.config_sources import sources_of
from fgclip_det.datasets.check.data_check import DataSource, check_source
from fgclip_det.datasets.check.training_data import check_training_data

__all__ = ["DataSource", "check_source", "check_training_data", "sources_of"]
