"""The exercises of notebook 11: ALiBi's slopes, and what one layer without positions sees."""

from itertools import pairwise

from causal_lab.exercises.frame import Exercise, Misconception, checker


def _powers(exponents: list[float]) -> list[float]:
    return [2.0**exponent for exponent in exponents]


SLOPES = Exercise(
    name="slopes",
    level="easy",
    minutes=4,
    solutions=[
        """
        def slopes(num_heads):
            return [2 ** (-8 * (head + 1) / num_heads) for head in range(num_heads)]
        """,
        """
        def slopes(num_heads):
            ratio = 2 ** (-8 / num_heads)
            return [ratio ** (head + 1) for head in range(num_heads)]
        """,
        """
        def slopes(num_heads):
            return [2 ** (-8 * head / num_heads) for head in range(1, num_heads + 1)]
        """,
    ],
    cases=[(1,), (2,), (4,), (8,), (16,)],
    misconceptions=[
        Misconception(
            "begins at 1",
            "Your first slope is 1: you count the heads from 0. The first exponent is −8/n.",
            lambda n: _powers([-8 * h / n for h in range(n)]),
        ),
        Misconception(
            "one row for all",
            "You take 2⁻¹, 2⁻², … whatever n is. With n heads the exponents lie evenly between "
            "0 and −8: steps of 8/n.",
            lambda n: _powers([-(h + 1) for h in range(n)]),
        ),
        Misconception(
            "the other way round",
            "You divide by n once too little: 2^(−8·h) is far too small. The last slope is 2⁻⁸, "
            "whatever n is.",
            lambda n: _powers([-8 * (h + 1) for h in range(n)]),
        ),
        Misconception(
            "grows",
            "Your slopes are above 1 and grow: a minus is missing in the exponent.",
            lambda n: _powers([8 * (h + 1) / n for h in range(n)]),
        ),
        Misconception(
            "negative",
            "Your slopes are negative. The minus is in the exponent; the one that makes a penalty "
            "of the distance comes later, in −slope · distance.",
            lambda n: [-slope for slope in _powers([-8 * (h + 1) / n for h in range(n)])],
        ),
        Misconception(
            "a straight line",
            "Your slopes go in equal steps. They form a geometric series: each is the one "
            "before, times the same factor 2^(−8/n).",
            lambda n: [1 - h / n for h in range(n)],
            lambda got, due: (
                len(steps := {round(a - b, 5) for a, b in pairwise(got)}) == 1 and any(steps)
            ),
        ),
        Misconception(
            "from behind",
            "Right numbers, wrong order: the first head has the steepest slope.",
            lambda n: _powers([-8 * (n - h) / n for h in range(n)]),
        ),
    ],
)


def _of_one_bag(a: list[str], b: list[str]) -> list[bool]:
    return [sorted(a[: t + 1]) == sorted(b[: t + 1]) for t in range(len(a))]


def _places(said: list[bool]) -> list[int]:
    return [t for t, one in enumerate(said) if one]


def _unmoved(a: list[str], b: list[str]) -> list[int]:
    return [t for t in _places(_of_one_bag(a, b)) if a[t] == b[t]]


UNMOVED = Exercise(
    name="unmoved",
    level="medium",
    minutes=6,
    solutions=[
        """
        def unmoved(a, b):
            places = []
            for t in range(len(a)):
                if a[t] == b[t] and sorted(a[: t + 1]) == sorted(b[: t + 1]):
                    places.append(t)
            return places
        """,
        """
        def unmoved(a, b):
            return [t for t in range(len(a)) if a[t] == b[t] and sorted(a[:t]) == sorted(b[:t])]
        """,
    ],
    cases=[
        ("dog bites".split(), "bites dog".split()),
        ("look dog man !".split(), "look man dog !".split()),
        ("a a b c".split(), "a b b c".split()),
        ("it is what it is !".split(), "is it what is it !".split()),
        ("to be or not to be".split(), "to not or be to be".split()),
        ("I saw her .".split(), "I saw him .".split()),
        ("yes no no yes no".split(), "no yes yes no no".split()),
    ],
    misconceptions=[
        Misconception(
            "the order",
            "You want the same words in the same order. One layer sees a bag: behind both "
            "exchanged words, nothing tells that they were exchanged.",
            lambda a, b: _places([a[: t + 1] == b[: t + 1] for t in range(len(a))]),
        ),
        Misconception(
            "another word asks",
            "You compare what is seen, and not who looks. At some place the bags are the same, but "
            "another word stands there: it has another query.",
            lambda a, b: _places(_of_one_bag(a, b)),
        ),
        Misconception(
            "not itself",
            "You compare what came before, without the word itself. Another word at the same place "
            "has another query, and looks at itself, too.",
            lambda a, b: _places([sorted(a[:t]) == sorted(b[:t]) for t in range(len(a))]),
        ),
        Misconception(
            "the word alone",
            "You look at the word alone: the same word at the same place. What it sees before it "
            "may be another bag.",
            lambda a, b: _places([one == other for one, other in zip(a, b, strict=True)]),
        ),
        Misconception(
            "a set",
            "You compare sets, which forget how often a word came. In a bag it counts: a word that "
            "came twice gets two weights.",
            lambda a, b: _places(
                [a[t] == b[t] and {*a[: t + 1]} == {*b[: t + 1]} for t in range(len(a))]
            ),
        ),
        Misconception(
            "no mask",
            "You compare the whole texts, as if there were no mask. A place sees itself and what "
            "came before: a slice up to t + 1.",
            lambda a, b: _places(
                [one == other and sorted(a) == sorted(b) for one, other in zip(a, b, strict=True)]
            ),
        ),
        Misconception(
            "where it moves",
            "You list the places where the output moves. Wanted are the others.",
            lambda a, b: [t for t in range(len(a)) if t not in _unmoved(a, b)],
        ),
        Misconception(
            "True and False",
            "You say of each place whether it stays the same. Wanted is the list of those that do.",
            lambda a, b: [t in _unmoved(a, b) for t in range(len(a))],
        ),
        Misconception(
            "the words",
            "You return the words. Wanted are their places: numbers from 0.",
            lambda a, b: [a[t] for t in _unmoved(a, b)],
        ),
        Misconception(
            "the bag behind",
            "You compare what comes *behind* a place. Behind the causal mask a place sees itself "
            "and what came before.",
            lambda a, b: _places(
                [a[t] == b[t] and sorted(a[t:]) == sorted(b[t:]) for t in range(len(a))]
            ),
        ),
    ],
)

check = checker(SLOPES, UNMOVED)
