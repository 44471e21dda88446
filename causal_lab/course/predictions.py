"""A guess that is made before its answer is seen, and remembered."""

import hashlib
from dataclasses import dataclass, field
from html import escape


def veil(answer: str) -> str:
    """Write an answer so that nobody reads it: so it stands in the cells of a workbook.

    >>> veil("30")
    '#624b60'
    """
    return "#" + hashlib.sha256(answer.encode()).hexdigest()[:6]


@dataclass
class Prediction:
    """A question with a few possible answers; a notebook shows it as buttons to click.

    >>> Prediction("What is e⁰?", ["0", "1"])
    Predict: What is e⁰?
      ○ 0
      ○ 1
    """

    question: str
    options: list[str]
    guess: str | None = None  # what was clicked
    truth: str | None = None  # what came out

    def __repr__(self) -> str:
        return "\n  ○ ".join([f"Predict: {self.question}", *self.options])

    def _ipython_display_(self) -> None:
        from IPython.display import display
        from ipywidgets import HTML, Layout, RadioButtons, VBox

        # No label of its own: a long option would be cut off beside it.
        wide = Layout(width="auto")
        choice = RadioButtons(options=self.options, value=self.guess, layout=wide)
        choice.observe(lambda change: setattr(self, "guess", change["new"]), "value")
        box = VBox([HTML(f"<b>Predict:</b> {escape(self.question)}"), choice])
        # The saved page has no kernel: it shows the text.
        view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
        view_type = "application/vnd.jupyter.widget-view+json"
        display({"text/plain": repr(self), view_type: view}, raw=True)


@dataclass
class Predictions:
    """The predictions of a notebook: asked, compared with what came out, and counted.

    Nothing is said of a question that was not answered.

    >>> predict = Predictions()
    >>> question = predict("What is e⁰?", ["0", "1"])
    >>> predict.compare("1")
    >>> question.guess = "0"  # as a click does
    >>> predict.compare("1")
    You guessed: 0. It is: 1.
    >>> predict.score()
    You guessed right: 0 of 1.
    """

    asked: dict[str, Prediction] = field(default_factory=dict)

    def __call__(self, question: str, options: list[str]) -> Prediction:
        """Ask; a cell that ends with this shows the buttons."""
        if len({*options}) < max(2, len(options)):
            raise ValueError(f"a prediction needs two options or more, no two alike, got {options}")
        self.asked.pop(question, None)  # a cell that is run again asks anew, as the newest
        self.asked[question] = Prediction(question, list(options))
        return self.asked[question]

    def compare(self, truth: str) -> None:
        """Set the guess beside what came out: that of the newest question with such an option.

        Args:
            truth: the option as it was written, or its veil.
        """
        pairs = [(one, option) for one in self.asked.values() for option in one.options]
        fitting = [(one, option) for one, option in pairs if truth in (option, veil(option))]
        for one, option in fitting[-1:]:  # none, if the cell that asks was not run
            one.truth = option
            if one.guess is not None:
                told = "Just so." if one.guess == option else f"It is: {option}."
                print(f"You guessed: {one.guess}. {told}")

    def score(self) -> None:
        """Say how often a guess was right."""
        made = [one for one in self.asked.values() if None not in (one.guess, one.truth)]
        if made:
            right = sum(one.guess == one.truth for one in made)
            print(f"You guessed right: {right} of {len(made)}.")
