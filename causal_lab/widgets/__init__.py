"""What happens when I move this slider? One explorer per idea.

An explorer has three layers: a pure function from the controls' values to arrays, a picture
of these arrays, and the widget that joins them. ``explorer.state`` holds the arrays of the
present picture, ``explorer.controls`` the controls by name.
"""

from causal_lab.widgets.attention import AttentionExplorer
from causal_lab.widgets.cache import CacheExplorer
from causal_lab.widgets.chunk import ChunkExplorer
from causal_lab.widgets.collapse import CollapseExplorer
from causal_lab.widgets.composer import ComposerExplorer
from causal_lab.widgets.dependency import DependencyExplorer
from causal_lab.widgets.explorer import Explorer
from causal_lab.widgets.fill import FillExplorer
from causal_lab.widgets.generation import GenerationExplorer
from causal_lab.widgets.leak import LeakExplorer
from causal_lab.widgets.mask import MaskExplorer
from causal_lab.widgets.position import PositionExplorer
from causal_lab.widgets.receptive import ReceptiveExplorer
from causal_lab.widgets.soft_mask import SoftMaskExplorer
from causal_lab.widgets.softmax import SoftmaxExplorer
from causal_lab.widgets.span import SpanExplorer

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
