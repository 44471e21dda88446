"""Does output t depend on an input after t? An answer for any module.

``check_causality`` changes the future and compares the past; ``check_cache`` compares a
cached decoder with one full pass; ``check_padding`` pads on either side.
"""

from causal_lab.causality.cache import CacheReport, check_cache
from causal_lab.causality.check import check_causality
from causal_lab.causality.padding import PaddingReport, check_padding
from causal_lab.causality.report import CausalityReport, Evidence, Leak

__all__ = [
    "CacheReport",
    "CausalityReport",
    "Evidence",
    "Leak",
    "PaddingReport",
    "check_cache",
    "check_causality",
    "check_padding",
]
