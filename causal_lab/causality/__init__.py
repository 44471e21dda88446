"""Does output t depend on an input after t? An answer for any module.

``check_causality`` changes the future and compares the past; ``check_cache`` compares a
cached decoder with one full pass, ``check_generation`` a whole loop; ``check_padding`` pads
on either side; ``check_batch`` and ``check_documents`` take rows and documents alone.
"""

from causal_lab.causality.batch import BatchReport, check_batch
from causal_lab.causality.cache import CacheReport, check_cache
from causal_lab.causality.check import check_causality
from causal_lab.causality.documents import DocumentsReport, check_documents
from causal_lab.causality.generation import GenerationReport, check_generation
from causal_lab.causality.padding import PaddingReport, check_padding
from causal_lab.causality.report import CausalityReport, Caution, Evidence, Leak

__all__ = [
    "BatchReport",
    "CacheReport",
    "CausalityReport",
    "Caution",
    "DocumentsReport",
    "Evidence",
    "GenerationReport",
    "Leak",
    "PaddingReport",
    "check_batch",
    "check_cache",
    "check_causality",
    "check_documents",
    "check_generation",
    "check_padding",
]
