"""What happens when I move this slider? One explorer per idea.

An explorer has three layers: a pure function from the controls' values to arrays, a picture
of these arrays, and the widget that joins them. ``explorer.state`` holds the arrays of the
present picture, ``explorer.controls`` the controls by name.
"""

from causal_lab.explorers.chunk import ChunkExplorer
from causal_lab.explorers.collapse import CollapseExplorer
from causal_lab.explorers.composer import ComposerExplorer
from causal_lab.explorers.dependency import DependencyExplorer
from causal_lab.explorers.explorer import Explorer
from causal_lab.explorers.fill import FillExplorer
from causal_lab.explorers.leak import LeakExplorer
from causal_lab.explorers.mask import MaskExplorer
from causal_lab.explorers.memory_size import CacheExplorer
from causal_lab.explorers.receptive import ReceptiveExplorer
from causal_lab.explorers.schemes import PositionExplorer
from causal_lab.explorers.sentence import AttentionExplorer
from causal_lab.explorers.soft_mask import SoftMaskExplorer
from causal_lab.explorers.span import SpanExplorer
from causal_lab.explorers.temperature import SoftmaxExplorer
from causal_lab.explorers.writing import GenerationExplorer

__all__ = [
    "AttentionExplorer",
    "CacheExplorer",
    "ChunkExplorer",
    "CollapseExplorer",
    "ComposerExplorer",
    "DependencyExplorer",
    "Explorer",
    "FillExplorer",
    "GenerationExplorer",
    "LeakExplorer",
    "MaskExplorer",
    "PositionExplorer",
    "ReceptiveExplorer",
    "SoftMaskExplorer",
    "SoftmaxExplorer",
    "SpanExplorer",
]
