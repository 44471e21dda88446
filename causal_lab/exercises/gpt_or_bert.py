"""The exercises of notebook 06: shift the labels, ask for the hidden, find the leak."""

import torch
from torch import Tensor
from torch.nn import functional as F

from causal_lab.exercises.frame import Exercise, Misconception, checker


def _ids(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(2, 10, shape, generator=generator)


NEXT_TOKEN_PAIRS = Exercise(
    name="next_token_pairs",
    level="easy",
    minutes=4,
    solutions=[
        """
        def next_token_pairs(ids):
            return ids[:, :-1], ids[:, 1:]
        """,
    ],
    cases=[(_ids(1, 3),), (_ids(2, 5),), (_ids(3, 4),)],
    misconceptions=[
        Misconception(
            "not shifted",
            "Inputs and targets are the same tokens: the model has to copy what it sees, and its "
            "loss falls to 0, since it learns to copy and nothing else. Shift the targets by one.",
            lambda ids: (ids, ids),
        ),
        Misconception(
            "not shifted, cut",
            "Inputs and targets start at the same token. The target of a position is the token "
            "*after* it: targets start one later.",
            lambda ids: (ids[:, :-1], ids[:, :-1]),
        ),
        Misconception(
            "the wrong way",
            "Your target is the token *before* each input: from the second place on it stands in "
            "the input. Swap inputs and targets.",
            lambda ids: (ids[:, 1:], ids[:, :-1]),
        ),
        Misconception(
            "rolled",
            "roll puts the first token at the end as if it came after the last. The last token "
            "has no next one: leave it out of the inputs.",
            lambda ids: (ids, ids.roll(-1, dims=1)),
        ),
        Misconception(
            "shifted twice",
            "Your targets are two ahead: the token in between is never asked for. This happens "
            "when both you and the model's loss shift.",
            lambda ids: (ids[:, :-2], ids[:, 2:]),
        ),
        Misconception(
            "batch axis",
            "You cut along the batch: the first axis counts sequences. Time is the second one.",
            lambda ids: (ids[:-1], ids[1:]),
        ),
        Misconception(
            "the next id",
            "You add 1 to the ids. The token that follows is the next one in the *text*, whatever "
            "its id: cut ids differently.",
            lambda ids: (ids[:, :-1], ids[:, :-1] + 1),
        ),
        Misconception(
            "inputs not cut",
            "Your inputs still hold the last token, and nothing follows it. Cut it off.",
            lambda ids: (ids, ids[:, 1:]),
        ),
    ],
)


def _hidden_case(batch: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch + length)
    logits = torch.randn(batch, length, 3, generator=generator).round(decimals=1)
    ids = torch.randint(3, (batch, length), generator=generator)
    hidden = torch.rand(batch, length, generator=generator) < 0.4
    hidden[0, 1], hidden[-1, 0] = True, False
    return logits, ids, hidden


def _entropy_of(logits: Tensor, ids: Tensor, chosen: Tensor) -> Tensor:
    return F.cross_entropy(logits[chosen], ids[chosen])


def _by_text(logits: Tensor, ids: Tensor, hidden: Tensor) -> Tensor:
    rows = zip(logits, ids, hidden, strict=True)
    return torch.stack([_entropy_of(*row) for row in rows if row[2].any()]).mean()


def _reshaped(logits: Tensor, ids: Tensor, hidden: Tensor) -> Tensor:
    batch, length, vocabulary = logits.shape
    moved = logits.reshape(batch, vocabulary, length)
    return F.cross_entropy(moved, ids, reduction="none")[hidden].mean()


HIDDEN_LOSS = Exercise(
    name="hidden_loss",
    level="medium",
    minutes=6,
    solutions=[
        """
        def hidden_loss(logits, ids, hidden):
            return cross_entropy(logits[hidden], ids[hidden])
        """,
        """
        def hidden_loss(logits, ids, hidden):
            chosen = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
            return -(chosen * hidden).sum() / hidden.sum()
        """,
    ],
    cases=[_hidden_case(2, 2), _hidden_case(3, 5), _hidden_case(2, 6)],
    misconceptions=[
        Misconception(
            "everywhere",
            "You ask for every token. Those that were not hidden stand in the input: the model "
            "only has to copy them. Keep the hidden ones.",
            lambda logits, ids, hidden: F.cross_entropy(logits.flatten(0, 1), ids.flatten()),
        ),
        Misconception(
            "the visible ones",
            "You ask for the tokens that were *not* hidden. hidden is True where the model must "
            "guess.",
            lambda logits, ids, hidden: _entropy_of(logits, ids, ~hidden),
        ),
        Misconception(
            "divided by all",
            "You divide by the number of all tokens. Average over the hidden ones only, or the "
            "loss shrinks when you hide less.",
            lambda logits, ids, hidden: (
                F.cross_entropy(logits[hidden], ids[hidden], reduction="sum") / ids.numel()
            ),
        ),
        Misconception(
            "sum",
            "You add the losses up. Average them, so that batches of any size compare.",
            lambda logits, ids, hidden: F.cross_entropy(
                logits[hidden], ids[hidden], reduction="sum"
            ),
        ),
        Misconception(
            "shifted",
            "You shift by one, as for a GPT. A BERT is asked for the token at the hidden place "
            "itself.",
            lambda logits, ids, hidden: _entropy_of(logits[:, :-1], ids[:, 1:], hidden[:, 1:]),
        ),
        Misconception(
            "targets are masked",
            "Your targets are the mask token where something was hidden. The target is what stood "
            "there until it was hidden: use ids as they came.",
            lambda logits, ids, hidden: _entropy_of(logits, ids.masked_fill(hidden, 0), hidden),
        ),
        Misconception(
            "mean of means",
            "You average each text by itself, then the texts. A text with one hidden token then "
            "weighs as much as one with ten: average over all hidden tokens at once.",
            _by_text,
        ),
        Misconception(
            "reshape for transpose",
            "You bring the vocabulary to axis 1 with reshape. That cuts the numbers into other "
            "rows; only transpose moves an axis.",
            _reshaped,
        ),
    ],
)


def _from_the_past(x: Tensor) -> Tensor:
    return x.cumsum(dim=0)


def _one_ahead(x: Tensor) -> Tensor:
    return x + F.pad(x, (0, 0, 0, 1))[1:]


def _second_to_first(x: Tensor) -> Tensor:
    return torch.cat([x[:1] + x[1:2], x[1:]])


def _last_to_second_last(x: Tensor) -> Tensor:
    return torch.cat([x[:-2], x[-2:-1] + x[-1:], x[-1:]])


def _last_ahead(x: Tensor) -> Tensor:
    return torch.cat([x[:1] + x[-1:], x[1:]])


def _far_ahead(x: Tensor) -> Tensor:
    return x + F.pad(x, (0, 0, 0, 3))[3:]


def _by_length(x: Tensor) -> Tensor:
    return x / len(x)


def _reversed(x: Tensor) -> Tensor:
    return x.flip(0)


def _negative_ahead(x: Tensor) -> Tensor:
    return x - 1e-3 * F.pad(x, (0, 0, 0, 1))[1:]


def _series(length: int) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    # In eighths, so that adding 1 rounds nothing: what a mean takes off is gone to the last bit.
    return (8 * torch.randn(length, 4, generator=generator)).round() / 8


def _small_ahead(x: Tensor) -> Tensor:
    return x + 1e-3 * F.pad(x, (0, 0, 0, 1))[1:]


def _centred_ahead(x: Tensor) -> Tensor:
    ahead = F.pad(x, (0, 0, 0, 1))[1:]
    return x + ahead - ahead.mean(dim=-1, keepdim=True)


def _direction_ahead(x: Tensor) -> Tensor:
    ahead = F.pad(x, (0, 0, 0, 1))[1:]
    return x + ahead / ahead.norm(dim=-1, keepdim=True).clamp(min=1e-3)


def _second_feature_ahead(x: Tensor) -> Tensor:
    return x + F.pad(x, (0, 0, 0, 1))[1:, 1:2]


def _one_behind(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 1, 0))[:-1]


def _changed(x: Tensor, cut: int) -> Tensor:
    return torch.cat([x[:cut], 1 - 2 * x[cut:]])


def _plus_one(x: Tensor, cut: int) -> Tensor:
    return torch.cat([x[:cut], x[cut:] + 1])


def _is_causal(model, x: Tensor) -> bool:
    cuts = range(1, len(x))
    return all(torch.equal(model(_changed(x, cut))[:cut], model(x)[:cut]) for cut in cuts)


def _at_cuts(model, x: Tensor, cuts) -> bool:
    return all(torch.equal(model(_changed(x, cut))[:cut], model(x)[:cut]) for cut in cuts)


def _by(model, x: Tensor, change) -> bool:
    return all(torch.equal(model(change(n))[:n], model(x)[:n]) for n in range(1, len(x)))


def _with_the_cut(model, x: Tensor) -> bool:
    cuts = range(1, len(x))
    return all(torch.equal(model(_changed(x, n))[: n + 1], model(x)[: n + 1]) for n in cuts)


def _first_feature(model, x: Tensor) -> bool:
    def change(cut: int) -> Tensor:
        other = x.clone()
        other[cut:, 0] += 1
        return other

    return _by(model, x, change)


def _by_prefix(model, x: Tensor) -> bool:
    cuts = range(1, len(x))
    return all(torch.allclose(model(x[:cut]), model(x)[:cut]) for cut in cuts)


def _past_changed(model, x: Tensor) -> bool:
    cuts = range(1, len(x))
    return all(
        torch.equal(model(torch.cat([x[:cut] + 1, x[cut:]]))[cut:], model(x)[cut:]) for cut in cuts
    )


def _all_compared(model, x: Tensor) -> bool:
    return all(torch.equal(model(_changed(x, cut)), model(x)) for cut in range(1, len(x)))


def _only_rise(model, x: Tensor) -> bool:
    cuts = range(1, len(x))
    return not any((model(_plus_one(x, cut)) - model(x))[:cut].max() > 0 for cut in cuts)


def _by_constant(model, x: Tensor) -> bool:
    cuts = range(1, len(x))
    return all(
        torch.allclose(model(_plus_one(x, cut))[:cut], model(x)[:cut], atol=1e-6) for cut in cuts
    )


def _loosely(model, x: Tensor) -> bool:
    cuts = range(1, len(x))
    return all(
        torch.allclose(model(_changed(x, cut))[:cut], model(x)[:cut], atol=0.1) for cut in cuts
    )


IS_CAUSAL = Exercise(
    name="is_causal",
    level="hard",
    minutes=10,
    solutions=[
        """
        def is_causal(model, x):
            for cut in range(1, len(x)):
                changed = torch.cat([x[:cut], 1 - 2 * x[cut:]])
                if not torch.equal(model(changed)[:cut], model(x)[:cut]):
                    return False
            return True
        """,
        """
        def is_causal(model, x):
            return all(
                torch.equal(model(torch.cat([x[:cut], 1 - 2 * x[cut:]]))[:cut], model(x)[:cut])
                for cut in range(1, len(x))
            )
        """,
        """
        def is_causal(model, x):
            before = model(x)
            for cut in range(1, len(x)):
                changed = x.clone()
                changed[cut:] = 1 - 2 * changed[cut:]
                if (model(changed)[:cut] != before[:cut]).any():
                    return False
            return True
        """,
    ],
    cases=[
        (_from_the_past, _series(4)),
        (_one_ahead, _series(4)),
        (_last_to_second_last, _series(5)),
        (_second_to_first, _series(4)),
        (_last_ahead, _series(5)),
        (_far_ahead, _series(6)),
        (_by_length, _series(4)),
        (_reversed, _series(3)),
        (_negative_ahead, _series(4)),
        (_small_ahead, _series(4)),
        (_centred_ahead, _series(4)),
        (_direction_ahead, _series(5)),
        (_second_feature_ahead, _series(5)),
        (_one_behind, _series(5)),
    ],
    misconceptions=[
        Misconception(
            "only the last input",
            "You change the last input only. A leak from the second token to the first one stays "
            "unseen: change the future at every cut.",
            lambda model, x: torch.equal(
                model(torch.cat([x[:-1], x[-1:] + 1]))[:-1], model(x)[:-1]
            ),
        ),
        Misconception(
            "one cut",
            "You try one cut in the middle. A leak that skips it stays unseen: try every cut.",
            lambda model, x: _at_cuts(model, x, [len(x) // 2]),
        ),
        Misconception(
            "shortened",
            "You run shorter sequences instead of changing the future. A model that only depends "
            "on the *length* then looks like a leak, and a leak that needs the full length stays "
            "unseen. Keep the length, change the values.",
            _by_prefix,
        ),
        Misconception(
            "the past changed",
            "You change the past and compare the future. That must move in any model that "
            "remembers. Change what comes after the cut, compare what stands before it.",
            _past_changed,
        ),
        Misconception(
            "everything compared",
            "You compare all outputs. Those after the cut may move, their own inputs changed. "
            "Compare the outputs before the cut only.",
            _all_compared,
        ),
        Misconception(
            "plus a constant",
            "You add the same number to every feature. A model that normalises its input takes it "
            "off again, and a leak behind that stays unseen. Put other values there.",
            _by_constant,
        ),
        Misconception(
            "a loose tolerance",
            "You let small movements pass. A small leak is a leak: in a causal model the outputs "
            "before the cut do not move at all.",
            _loosely,
        ),
        Misconception(
            "only rises",
            "You look for outputs that rise. A leak can push down as well: compare for equality.",
            _only_rise,
        ),
        Misconception(
            "the wrong way round",
            "You say True where the future leaks. True should mean: causal.",
            lambda model, x: not _is_causal(model, x),
        ),
        Misconception(
            "always causal",
            "You find every model causal: nothing that you compare ever moves. Did you change x "
            "itself (x.clone()), compare something with itself, or return in the first round of "
            "the loop, at cut 0, when there is nothing before it?",
            lambda model, x: True,
        ),
        Misconception(
            "returns in the first round",
            "You return in the first round of the loop: only the first cut is tried. Return False "
            "there, and True after the loop.",
            lambda model, x: _at_cuts(model, x, [1]),
        ),
        Misconception(
            "the cut itself",
            "You compare the output at the cut, too. Its own input changed, so it may move: "
            "compare [:cut].",
            _with_the_cut,
        ),
        Misconception(
            "doubled",
            "You double the future. What depends only on its direction, or is 0, does not move: "
            "put other values there, not multiples.",
            lambda model, x: _by(model, x, lambda cut: torch.cat([x[:cut], 2 * x[cut:]])),
        ),
        Misconception(
            "one feature",
            "You change one feature of the later tokens. A leak through another one stays unseen: "
            "change all of them.",
            _first_feature,
        ),
    ],
)

check = checker(NEXT_TOKEN_PAIRS, HIDDEN_LOSS, IS_CAUSAL)
