"""Causal Lab: see why a language model cannot look ahead.

The map, from the roof down: a folder is a floor, and a module imports only from floors below its
own, or from its own folder; ``tests/test_house.py`` reads these rows and holds that. (A report of
``causality`` draws itself, and imports ``plots`` only then.)

=====  ==============  ======================================================
floor  folder          what it answers
=====  ==============  ======================================================
6      ``explorers``   What happens when I move this slider?
6      ``exercises``   Is my answer right, and if not, what did I mix up?
5      ``plots``       What does this mask, score or weight matrix look like?
4      ``course``      Which text, which training, which measure does a lesson need?
3      ``models``      How do GPT and BERT differ by one boolean, and how do they write?
2      ``attention``   How do scores become weights, and where does a token stand?
1      ``masks``       Who may look at whom?
1      ``causality``   Does output t depend on an input after t, in any model?
1      ``fixtures``    How does my test suite ask that?
0      ``validation``  Is what came in what was needed, and if not, how to mend it?
=====  ==============  ======================================================

Read ``models/transformer.py`` first; a new mask goes into ``masks``.

A boolean mask is True where attention is *blocked*; such tensors are called
``blocked``. Axes are named batch, head, query, key, dim, in this order.

Nothing heavy is imported here. Write, for example,
``from causal_lab.masks import generate_causal_mask``.
"""

__version__ = "0.1.0"
