"""Is my answer right, and if not, what did I mix up? One module per notebook.

Each module has a ``check``: it takes the learner's function, finds the exercise by the
function's name and returns a :class:`~causal_lab.exercises.frame.Verdict`: a small example that
goes wrong, and, when the same answer is checked again, where and why.
"""
