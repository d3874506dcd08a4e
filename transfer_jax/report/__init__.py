"""Reports: from a workdir's files to effects, verdicts and one page."""

from transfer_jax.report.claims import MARGIN, Claim, converged, judge
from transfer_jax.report.effects import (
    MINUS,
    Effect,
    Verdict,
    all_of,
    image_noise,
    level,
    over_units,
    paired,
    spread,
)
from transfer_jax.report.frame import Results, load, networks, read_published, write_results_csv
from transfer_jax.report.page import Section, networks_section, write_report
