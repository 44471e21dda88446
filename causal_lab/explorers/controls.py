"""What a learner can move: traits that say how they are shown and what they take."""

import operator

from traitlets import TraitType


class Control(TraitType):
    """A trait that the page shows as a control.

    Args:
        label: what stands beside it.

    >>> Menu("mask", ["causal", "none"]).label
    'mask'
    """

    kind = "text"

    def __init__(self, label: str, default, **shown):
        super().__init__(default)
        self.label, self.shown = label, shown
        self.tag(sync=True)

    def validate(self, obj, value):
        """Refuse what cannot be chosen, in the words of the house."""
        if isinstance(value, str):
            return value
        raise ValueError(f"{self.name} must be a text, got {value!r}")

    def describe(self) -> dict:
        """Say what the page needs to show it."""
        return {"name": self.name, "kind": self.kind, "label": self.label, **self.shown}


class Text(Control):
    """A line that a learner types.

    >>> Text("your sentence", "raise an exception").kind
    'text'
    """


class Menu(Control):
    """A choice from a few words; the first one if no default is given.

    >>> Menu("mask", ["causal", "none"]).default_value
    'causal'
    """

    kind = "menu"

    def __init__(self, label: str, options, default: str | None = None):
        options = list(options)
        super().__init__(label, options[0] if default is None else default, options=options)

    def validate(self, obj, value):  # noqa: D102
        options = self.shown["options"]
        if value in options:
            return value
        raise ValueError(f"{self.name} must be one of {', '.join(options)}, got {value!r}")


class Slider(Control):
    """Whole numbers from low to high; with a play button, it walks by itself.

    >>> Slider("T, number of tokens", 1, 64, 8).default_value
    8
    """

    kind = "slider"

    def __init__(self, label: str, low: int, high: int, default: int, *, play: bool = False):
        super().__init__(label, default, low=low, high=high, play=play)

    def validate(self, obj, value):  # noqa: D102
        low, high = self.shown["low"], self.shown["high"]
        try:
            whole = operator.index(value)
        except TypeError:
            whole = None
        if whole is None or isinstance(value, bool) or not low <= whole <= high:
            raise ValueError(f"{self.name} must lie between {low} and {high}, got {value!r}")
        return whole


class Steps(Control):
    """A slider over given values.

    Args:
        words: how each value is shown; as it is written if not given.

    >>> Steps("fill", [0.0, -1.0], 0.0, words=["0", "−1"]).describe()["words"]
    ['0', '−1']
    """

    kind = "steps"

    def __init__(self, label: str, values, default, *, words=None, play: bool = False):
        values = list(values)
        words = [str(value) for value in values] if words is None else list(words)
        super().__init__(label, default, values=values, words=words, play=play)

    def validate(self, obj, value):  # noqa: D102
        values = self.shown["values"]
        if value in values:
            return values[values.index(value)]
        raise ValueError(f"{self.name} must be one of {values}, got {value!r}")
