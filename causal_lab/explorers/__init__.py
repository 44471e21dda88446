"""What happens when I move this slider? One explorer per idea, one line each.

An explorer's controls are traits, and a pure function makes a picture of their values:
``explorer.T = 12``, then ``explorer.picture``.
"""

from causal_lab.explorers.chunk import ChunkExplorer
from causal_lab.explorers.collapse import CollapseExplorer
from causal_lab.explorers.composer import ComposerExplorer
from causal_lab.explorers.dependency import DependencyExplorer
from causal_lab.explorers.explorer import Explorer
from causal_lab.explorers.fill import FillExplorer
from causal_lab.explorers.heads import HeadExplorer
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
