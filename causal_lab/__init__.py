"""Causal Lab: see why a language model cannot look ahead.

The map, from the ground up; a module imports only from floors below its own.

======  ==================  =====================================================
floor   module              what it answers
======  ==================  =====================================================
4       ``widgets``         What happens when I move this slider?
4       ``exercises``       Is my answer right, and if not, what did I mix up?
3       ``causality``       Does output t depend on an input after t?
3       ``training``        How does a model learn from a text, step by step?
3       ``generation``      How does a model write, one token after the other?
3       ``encoder_decoder`` How does a model read one text and write another?
3       ``measuring``       How well does a model write, guess and fill in?
3       ``speed``           How fast can a few rows pass through a model's large matrices?
2       ``models``          How do GPT and BERT differ by one boolean?
2       ``plots``           What does this mask, score or weight matrix look like?
2       ``canvas``          How does a heatmap repaint in a few milliseconds?
1       ``patterns``        Who may look at whom in sparse masks and on a grid?
1       ``learned_masks``   Where should a head look, and can a loss find it?
1       ``attention``       How do scores, mask, softmax and values fit together?
1       ``cache``           What need not be computed twice?
1       ``phrases``         What is a translation whose right answer is known?
1       ``huggingface``     Where does each weight of somebody else's model belong?
1       ``spectral``        What are eigenvalues, norms and powers of causal attention?
0       ``masks``           Who may look at whom?
0       ``positions``       Where does each token stand?
0       ``reach``           How much does a mask let through, and how far in k layers?
0       ``softmax``         How do scores become weights that sum to 1?
0       ``soft_masks``      Can a mask be learned, and does it still block exactly?
0       ``style``           Which colour means what?
0       ``text``            Which words does the model read?
0       ``runtime``         On what was this run, and would it run so again?
0       ``progress``        How far has a long computation come?
-1      ``checks``          Is what came in what was needed, and if not, how to mend it?
======  ==================  =====================================================

A boolean mask is True where attention is *blocked*; such tensors are called
``blocked``. Axes are named batch, head, query, key, dim, in this order.

Nothing heavy is imported here. Write, for example,
``from causal_lab.masks import generate_causal_mask``.
"""

__version__ = "0.1.0"
