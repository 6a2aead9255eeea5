"""From results to what people read: an HTML page and a table. A report needs no run, only its files."""

from privoxel.report.page import render_report, write_report
from privoxel.report.slices import mid_slices
from privoxel.report.tables import results_tsv

__all__ = ["mid_slices", "render_report", "results_tsv", "write_report"]
