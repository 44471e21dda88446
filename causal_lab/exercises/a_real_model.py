"""The exercises of notebook 17: numbers of four bits, shared heads, a norm, a cache, a leak."""

import torch
from torch import Tensor

from causal_lab.exercises.frame import Exercise, Misconception, checker
from causal_lab.exercises.outcomes import plain


def _bytes(*pairs: tuple[int, int]) -> Tensor:
    """Pack pairs of a low and a high level."""
    return torch.tensor([low + 16 * high for low, high in pairs], dtype=torch.uint8)


def _levels(packed: Tensor) -> Tensor:
    return torch.cat([packed & 15, packed >> 4]).float()


def _by_byte(packed: Tensor) -> Tensor:
    return torch.stack([packed & 15, packed >> 4], dim=1).flatten().float()


def _row_cut(packed: Tensor) -> Tensor:
    half = len(packed) // 2
    return torch.cat([packed[:half] & 15, packed[half:] >> 4]).float()


def _high_first(packed: Tensor) -> Tensor:
    return torch.cat([packed >> 4, packed & 15]).float()


def _is_share(came: Tensor, due: Tensor) -> bool:
    """Is each step between two numbers a 15th or a 16th of what it should be?"""
    mine, right = came[1:] - came[0], due[1:] - due[0]
    return any(torch.allclose(mine * n, right, atol=1e-4) for n in (15, 16))


def _signed(levels: Tensor) -> Tensor:
    return torch.where(levels > 7, levels - 16, levels)


DEQUANTIZE = Exercise(
    name="dequantize",
    level="medium",
    minutes=6,
    solutions=[
        """
        def dequantize(packed, step, minimum):
            levels = torch.cat([packed & 15, packed >> 4])  # low halves, then high halves
            return levels * step + minimum
        """,
        """
        def dequantize(packed, step, minimum):
            return torch.cat([packed % 16, packed // 16]).float() * step + minimum
        """,
        """
        def dequantize(packed, step, minimum):
            low = [byte % 16 for byte in packed.tolist()]
            high = [byte // 16 for byte in packed.tolist()]
            return torch.tensor([minimum + step * level for level in low + high])
        """,
    ],
    cases=[
        (_bytes((1, 2), (3, 4)), 1.0, 0.0),
        (_bytes((0, 15), (9, 0), (6, 11)), 0.5, -2.0),
        (_bytes((12, 3), (8, 14), (5, 7), (15, 10), (2, 1)), 0.25, 1.5),
        (_bytes((13, 13), (4, 6)), 2.0, -9.0),
        (_bytes(*((n % 16, n // 2) for n in range(18))), 1.0, 0.0),  # more than a block
    ],
    misconceptions=[
        Misconception(
            "byte by byte",
            "You keep the two levels of a byte together: low, high, low, high. In this format the "
            "low halves of *all* bytes come first, then all the high ones: cat, not stack.",
            lambda packed, step, minimum: _by_byte(packed) * step + minimum,
        ),
        Misconception(
            "high first",
            "You put the high halves first, as one writes a byte. In this format the low halves "
            "come first: packed & 15, then packed >> 4.",
            lambda packed, step, minimum: _high_first(packed) * step + minimum,
        ),
        Misconception(
            "high halves not moved",
            "Your high levels are 16 times too large: & 240 cuts off the low bits and leaves the "
            "high ones where they are. A level lies between 0 and 15: move them down with >> 4.",
            lambda packed, step, minimum: (
                torch.cat([packed & 15, packed & 240]).float() * step + minimum
            ),
        ),
        Misconception(
            "& 4",
            "& 4 does not keep four bits. It keeps one, the one that is worth 4. Four bits are "
            "1 + 2 + 4 + 8: & 15.",
            lambda packed, step, minimum: torch.cat([packed & 4, packed >> 4]) * step + minimum,
        ),
        Misconception(
            "15 for 16",
            "You divide by 15. Half a byte has 16 levels, 0 to 15: % 16 and // 16. (With & it is "
            "15, the number whose four bits are all 1.)",
            lambda packed, step, minimum: torch.cat([packed % 15, packed // 15]) * step + minimum,
        ),
        Misconception(
            "4 for 16",
            "You divide by 4. Four bits make 2 · 2 · 2 · 2 = 16 levels: % 16 and // 16.",
            lambda packed, step, minimum: torch.cat([packed % 4, packed // 4]) * step + minimum,
        ),
        Misconception(
            "divided with /",
            "You divide by 16 with /, so the low half stays behind the point: 2.06 for 2. // drops "
            "it, and so does >> 4.",
            lambda packed, step, minimum: torch.cat([packed % 16, packed / 16]) * step + minimum,
        ),
        Misconception(
            "block by block",
            "You go through packed in pieces of 16, each with its low, then its high halves. All "
            "the low halves come first, however many bytes there are.",
            lambda packed, step, minimum: (
                torch.cat([_levels(piece) for piece in packed.split(16)]) * step + minimum
            ),
        ),
        Misconception(
            "in bytes",
            "You store the answer as packed is stored, in bytes: whole numbers from 0 to 255. Make "
            "floats first: .float().",
            lambda packed, step, minimum: (
                (_levels(packed) * step + minimum).to(torch.uint8).float()
            ),
        ),
        Misconception(
            "shifted by 8",
            "You shift by 8, and nothing is left: a byte has 8 bits in all. Its high half: >> 4.",
            lambda packed, step, minimum: (
                torch.cat([packed & 15, torch.zeros_like(packed)]) * step + minimum
            ),
        ),
        Misconception(
            "bytes of a pair",
            "You cut at 8 bits. Each number in packed is one byte, which is 8 bits in all: its "
            "halves have 4 each, & 15 and >> 4.",
            lambda packed, step, minimum: (
                torch.cat([packed, torch.zeros_like(packed)]) * step + minimum
            ),
        ),
        Misconception(
            "whole bytes",
            "You take each byte for one number. It holds two levels of four bits: n bytes give 2n "
            "numbers.",
            lambda packed, step, minimum: packed * step + minimum,
        ),
        Misconception(
            "the low halves alone",
            "You return n numbers, the low halves or something made of both halves. Each half is a "
            "number of its own: n bytes give 2n.",
            lambda packed, step, minimum: (packed & 15) * step + minimum,
            lambda came, due: 2 * len(came) == len(due),
        ),
        Misconception(
            "the row cut in two",
            "You cut the *row* of bytes in two. It is each byte that has two halves: take the low "
            "half of every byte, then the high half of every byte.",
            lambda packed, step, minimum: _row_cut(packed) * step + minimum,
        ),
        Misconception(
            "two rows",
            "You have the levels in two rows or columns. The answer has one axis, of 2n numbers: "
            "cat joins the low ones and the high ones.",
            lambda packed, step, minimum: torch.stack([packed & 15, packed >> 4]) * step + minimum,
            lambda came, due: came.dim() == 2,
        ),
        Misconception(
            "from 1",
            "You count the levels from 1. They begin at 0: level 0 is the minimum itself.",
            lambda packed, step, minimum: (_levels(packed) + 1) * step + minimum,
        ),
        Misconception(
            "centred",
            "You take 8 off each level, so that they lie around 0. Other formats do that. This one "
            "stores a minimum: level 0 is the minimum itself.",
            lambda packed, step, minimum: (_levels(packed) - 8) * step + minimum,
        ),
        Misconception(
            "signed",
            "You read levels above 7 as negative. The levels here have no sign, they run from 0 to "
            "15; what is below 0 comes from the minimum.",
            lambda packed, step, minimum: _signed(_levels(packed)) * step + minimum,
        ),
        Misconception(
            "signed bytes",
            "You turn the bytes into int8. From 128 on they are negative then, and >> keeps the "
            "sign: all high levels from 8 on are 16 too small. Stay with uint8.",
            lambda packed, step, minimum: (
                torch.cat([packed & 15, packed.to(torch.int8) >> 4]) * step + minimum
            ),
        ),
        Misconception(
            "minimum before the step",
            "You add the minimum before you multiply, so the step stretches it, too. The minimum "
            "is a number as it comes out: level · step first.",
            lambda packed, step, minimum: (_levels(packed) + minimum) * step,
        ),
        Misconception(
            "minimum taken off the level",
            "You take the minimum off the level, as one does with a zero point. Here it is added, "
            "and to the number, not to the level: level · step + minimum.",
            lambda packed, step, minimum: (_levels(packed) - minimum) * step,
        ),
        Misconception(
            "shares of a range",
            "You divide the levels by 15 or 16, as if step were the width of the whole range. It "
            "is the distance from one level to the next: level 1 is minimum + step.",
            lambda packed, step, minimum: _levels(packed) / 15 * step + minimum,
            _is_share,
        ),
    ],
)


def _times(k: Tensor, num_heads: int) -> int:
    return num_heads // k.shape[1]


def _repeated(k: Tensor, times: float) -> Tensor:
    return k.repeat_interleave(times, dim=1)


def _has_other_heads(came: Tensor, due: Tensor) -> bool:
    a, b = [*came.shape], [*due.shape]
    return a[1] != b[1] and a[:1] + a[2:] == b[:1] + b[2:]


def _keys_cut_anew(k: Tensor, num_heads: int) -> Tensor:
    batch, _, length, dim = k.shape
    more = k.repeat_interleave(_times(k, num_heads), dim=2)
    return more.reshape(batch, num_heads, length, dim)


def _kept_apart(k: Tensor, num_heads: int) -> Tensor:
    return k[:, :, None].repeat(1, 1, _times(k, num_heads), 1, 1)


def _zeros_behind(k: Tensor, num_heads: int) -> Tensor:
    more = k.new_zeros(k.shape[0], num_heads, *k.shape[2:])
    more[:, : k.shape[1]] = k
    return more


def _keys(batch: int, kv_head: int, length: int, dim: int) -> Tensor:
    """Number everything: the tens tell the head."""
    rest = torch.arange(1.0, 1 + batch * length * dim).reshape(batch, 1, length, dim)
    return rest + 10 * torch.arange(kv_head)[:, None, None]


REPEAT_KV = Exercise(
    name="repeat_kv",
    level="easy",
    minutes=4,
    solutions=[
        """
        def repeat_kv(k, num_heads):
            return k.repeat_interleave(num_heads // k.shape[1], dim=1)
        """,
        """
        def repeat_kv(k, num_heads):
            shared = num_heads // k.shape[1]  # how many query heads share one head
            return k[:, torch.arange(num_heads) // shared]
        """,
        """
        def repeat_kv(k, num_heads):
            shared = num_heads // k.shape[1]
            return k[:, :, None].expand(-1, -1, shared, -1, -1).flatten(1, 2)
        """,
    ],
    cases=[
        (_keys(1, 2, 1, 2), 4),
        (_keys(1, 2, 3, 1), 6),
        (_keys(2, 3, 1, 2), 6),
        (_keys(2, 1, 3, 2), 7),
        (_keys(2, 3, 1, 4), 3),
    ],
    misconceptions=[
        Misconception(
            "tiled",
            "Your heads come as 0, 1, 0, 1: the whole row again and again, as repeat does. "
            "Neighbours share a head: 0, 0, 1, 1, as repeat_interleave does.",
            lambda k, num_heads: k.repeat(1, _times(k, num_heads), 1, 1),
        ),
        Misconception(
            "num_heads times",
            "You repeat each head num_heads times. There should be num_heads in all: each head "
            "comes num_heads // k.shape[1] times.",
            lambda k, num_heads: k.repeat_interleave(num_heads, dim=1),
        ),
        Misconception(
            "num_heads times, tiled",
            "You repeat all heads num_heads times. There should be num_heads in all, and "
            "neighbours share one: repeat_interleave, num_heads // k.shape[1] times.",
            lambda k, num_heads: k.repeat(1, num_heads, 1, 1),
        ),
        Misconception(
            "heads in front",
            "Your heads stand on axis 0, the batch behind them. Stack them along axis 1.",
            lambda k, num_heads: _repeated(k, _times(k, num_heads)).transpose(0, 1),
        ),
        Misconception(
            "heads behind the keys",
            "Your axes are (batch, key, head, dim). Nothing has to be moved to repeat the heads, "
            "and what was moved has to go back: (batch, head, key, dim).",
            lambda k, num_heads: _repeated(k, _times(k, num_heads)).transpose(1, 2),
        ),
        Misconception(
            "no axis of heads",
            "The axis of the heads is gone: with cat they run into the keys. stack puts them along "
            "an axis of their own, here axis 1.",
            lambda k, num_heads: _repeated(k, _times(k, num_heads)).flatten(1, 2),
            lambda came, due: came.dim() == 3,
        ),
        Misconception(
            "batch axis",
            "You repeat the texts: axis 0 is the batch. The heads of keys stand on axis 1.",
            lambda k, num_heads: k.repeat_interleave(_times(k, num_heads), dim=0),
            lambda came, due: came.shape[0] > due.shape[0],
        ),
        Misconception(
            "key axis",
            "You repeat the keys: axis 2 is the text, which gets longer. The heads stand on axis "
            "1.",
            lambda k, num_heads: k.repeat_interleave(_times(k, num_heads), dim=2),
            lambda came, due: came.shape[2] > due.shape[2],
        ),
        Misconception(
            "a float",
            "Do you divide with /? That gives 2.0, and how often something is repeated must be a "
            "whole number: //. (A TypeError mostly means that here.)",
            lambda k, num_heads: _repeated(k, num_heads / k.shape[1]),
        ),
        Misconception(
            "no axis",
            "repeat_interleave without an axis flattens everything and repeats each number. Say "
            "which axis: dim=1, the heads.",
            lambda k, num_heads: k.repeat_interleave(_times(k, num_heads)),
        ),
        Misconception(
            "keys cut anew",
            "The shape is right, the numbers are not: you repeat each *key* and cut the result "
            "into heads. One head then holds the same key several times. Repeat along axis 1.",
            _keys_cut_anew,
        ),
        Misconception(
            "kept apart",
            "You have an axis too many: heads, and within each its copies. Join the two: "
            "flatten(1, 2).",
            _kept_apart,
        ),
        Misconception(
            "the first for all",
            "All your query heads get the same keys. There are k.shape[1] heads of keys, and each "
            "serves its own neighbours.",
            lambda k, num_heads: k[:, :1].repeat(1, num_heads, 1, 1),
            lambda came, due: came.shape == due.shape and bool((came == came[:, :1]).all()),
        ),
        Misconception(
            "divided by the heads of keys",
            "You divide the number of the query head by k.shape[1], the number of heads of keys. "
            "Divide by how many share one head: num_heads // k.shape[1].",
            lambda k, num_heads: k[:, torch.arange(num_heads) // k.shape[1]],
        ),
        Misconception(
            "stretched",
            "expand can only stretch an axis of length 1, here a single head of keys. Where there "
            "are more, each has to be repeated: repeat_interleave.",
            lambda k, num_heads: k.expand(-1, num_heads, -1, -1),
        ),
        Misconception(
            "zeros behind",
            "You fill up with zeros: the query heads there have no keys at all. Repeat the heads "
            "that there are.",
            _zeros_behind,
        ),
        Misconception(
            "not repeated",
            "Yours has not num_heads heads: none is repeated, or not as often as it should be. "
            "Each of them comes num_heads // k.shape[1] times.",
            lambda k, num_heads: k,
            _has_other_heads,
        ),
    ],
    axes=("batch", "head", "key", "dim"),
)


def _rms(x: Tensor, epsilon: float) -> Tensor:
    return (x.square().mean(dim=-1, keepdim=True) + epsilon).sqrt()


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True)


def _deviation(x: Tensor) -> Tensor:
    return x.std(dim=-1, keepdim=True)


def _numbers(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).round(decimals=1) + 1


RMS_NORM = Exercise(
    name="rms_norm",
    level="medium",
    minutes=5,
    solutions=[
        """
        def rms_norm(x, weight, epsilon):
            mean_square = (x**2).mean(dim=-1, keepdim=True)
            return x / (mean_square + epsilon) ** 0.5 * weight
        """,
        """
        def rms_norm(x, weight, epsilon):
            return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon)
        """,
        """
        def rms_norm(x, weight, epsilon):
            total = (x * x).sum(dim=-1, keepdim=True)
            return x / (total / x.shape[-1] + epsilon) ** 0.5 * weight
        """,
    ],
    cases=[
        (torch.tensor([[1.0, 7.0]]), torch.tensor([1.0, 2.0]), 0.0),
        (torch.tensor([[1.0, 2.0, 2.0], [-4.0, 0.0, 5.0]]), torch.tensor([1.0, 2.0, -1.0]), 1.0),
        (_numbers(3, 3), torch.tensor([0.5, 1.0, 2.0]), 0.5),
        (torch.tensor([[0.0, 0.0], [2.0, 1.0], [3.0, -1.0]]), torch.tensor([1.0, 3.0]), 1.5),
        (_numbers(2, 3, 5), torch.arange(1.0, 6.0), 0.2),
        (torch.tensor([6.0, -2.0, 0.0, 3.0]), torch.tensor([1.0, 2.0, 3.0, 0.5]), 0.5),
    ],
    misconceptions=[
        Misconception(
            "LayerNorm",
            "You take the mean away first: that is LayerNorm. This norm leaves the mean in and "
            "only divides by the size: x² in the root, x itself above it.",
            lambda x, weight, epsilon: _centred(x) / _rms(_centred(x), epsilon) * weight,
        ),
        Misconception(
            "by the deviation",
            "You divide by the standard deviation: var takes the mean away inside. The squares "
            "here are those of x itself: (x**2).mean(…).",
            lambda x, weight, epsilon: x / _rms(_centred(x), epsilon) * weight,
        ),
        Misconception(
            "by std",
            "You divide by the standard deviation: std takes the mean away inside. The size here "
            "is the root of the mean of x², epsilon under the root.",
            lambda x, weight, epsilon: x / (_deviation(x) + epsilon) * weight,
        ),
        Misconception(
            "mean taken off above",
            "You take the mean away from x, but not in the root. This norm takes no mean away at "
            "all: divide x as it is.",
            lambda x, weight, epsilon: _centred(x) / _rms(x, epsilon) * weight,
        ),
        Misconception(
            "epsilon outside",
            "You add epsilon behind the root. It belongs under it, beside the mean of the squares.",
            lambda x, weight, epsilon: x / (_rms(x, 0) + epsilon) * weight,
        ),
        Misconception(
            "no epsilon",
            "You leave epsilon out. A token whose numbers are all 0 then gives 0/0, NaN. Add it "
            "under the root.",
            lambda x, weight, epsilon: x / _rms(x, 0) * weight,
        ),
        Misconception(
            "no root",
            "You divide by the mean of the squares, without a root. Twice as large an x would then "
            "come out half as large; a norm should make both the same.",
            lambda x, weight, epsilon: x / _rms(x, epsilon) ** 2 * weight,
        ),
        Misconception(
            "length",
            "You divide by the length of the vector, the root of the *sum* of the squares. Take "
            "their mean: the numbers are then about 1 each, however many there are.",
            lambda x, weight, epsilon: (
                x / (x.square().sum(dim=-1, keepdim=True) + epsilon).sqrt() * weight
            ),
        ),
        Misconception(
            "length, no epsilon",
            "You divide by the length of the vector, the root of the *sum* of the squares. Take "
            "their mean, and add epsilon to it under the root.",
            lambda x, weight, epsilon: x / x.norm(dim=-1, keepdim=True) * weight,
        ),
        Misconception(
            "length, epsilon outside",
            "You divide by the length of the vector, the root of the *sum* of the squares. Take "
            "their mean, and add epsilon under the root, not behind it.",
            lambda x, weight, epsilon: x / (x.norm(dim=-1, keepdim=True) + epsilon) * weight,
        ),
        Misconception(
            "square of the mean",
            "You square the mean. Square first, then take the mean: or positive and negative "
            "numbers cancel.",
            lambda x, weight, epsilon: (
                x / (x.mean(dim=-1, keepdim=True) ** 2 + epsilon).sqrt() * weight
            ),
        ),
        Misconception(
            "mean of the sizes",
            "You divide by the mean of |x|. The size here is the root of the mean of x²: large "
            "numbers count more.",
            lambda x, weight, epsilon: x / (x.abs().mean(dim=-1, keepdim=True) + epsilon) * weight,
        ),
        Misconception(
            "whole tensor",
            "You take one mean over the whole tensor, so one token's norm hangs on all the others, "
            "later ones too. Take it along the last axis: each token by itself.",
            lambda x, weight, epsilon: x / (x.square().mean() + epsilon).sqrt() * weight,
        ),
        Misconception(
            "along the tokens",
            "You take the mean along axis 0, over tokens. Each token is its own: take it along "
            "the last axis.",
            lambda x, weight, epsilon: (
                x / (x.square().mean(dim=0, keepdim=True) + epsilon).sqrt() * weight
            ),
        ),
        Misconception(
            "weight first",
            "You multiply by the weight before the norm, so that it counts in the root as well. "
            "Divide first, then multiply.",
            lambda x, weight, epsilon: x * weight / _rms(x * weight, epsilon),
        ),
        Misconception(
            "1 + weight",
            "You multiply by 1 + weight. Some models store it so; here the weight is the factor "
            "itself.",
            lambda x, weight, epsilon: x / _rms(x, epsilon) * (1 + weight),
        ),
    ],
)


def _newest(length: int, window: int) -> list[int]:
    return [*range(max(0, length - window), length)]


def _kept(length: int, window: int, sinks: int) -> list[int]:
    return [n for n in range(length) if n < sinks or n >= length - window]


def _is_twice(came: list[int]) -> bool:
    return isinstance(came, list) and len(came) > len({*came})


def _is_beyond(came: list[int], due: list[int]) -> bool:
    """Is all of it there, and the rest no place of the text? Its last place is always due."""
    rest = {*came} - {*due}
    has_more = isinstance(came, list) and (rest or _is_twice(came))
    return bool(has_more) and {*came} >= {*due} and all(n < 0 or n > due[-1] for n in rest)


WHAT_TO_KEEP = Exercise(
    name="what_to_keep",
    level="easy",
    minutes=4,
    solutions=[
        """
        def what_to_keep(length, window, sinks):
            return [place for place in range(length) if place < sinks or place >= length - window]
        """,
        """
        def what_to_keep(length, window, sinks):
            newest = range(max(length - window, 0), length)
            return sorted({*range(min(sinks, length)), *newest})
        """,
        """
        def what_to_keep(length, window, sinks):
            places = list(range(length))
            if length <= sinks + window:
                return places
            return places[:sinks] + places[length - window :]
        """,
    ],
    cases=[(6, 2, 1), (9, 3, 2), (4, 3, 2), (3, 5, 2), (7, 4, 0), (2, 1, 4), (12, 4, 3)],
    misconceptions=[
        Misconception(
            "twice",
            "Where the first and the newest meet, you name places twice. Each is kept once: join "
            "them as sets, or ask of each place whether it stays.",
            lambda length, window, sinks: [*range(min(sinks, length)), *_newest(length, window)],
            lambda came, due: _is_twice(came) and sorted({*came}) == due,
        ),
        Misconception(
            "outside",
            "In a short text you name places that it does not have: below 0, or from length on. "
            "Places run from 0 to length − 1.",
            lambda length, window, sinks: sorted({*range(sinks), *range(length - window, length)}),
            lambda came, due: not _is_twice(came) and _is_beyond(came, due),
        ),
        Misconception(
            "twice, or outside",
            "In a short text you name places twice, or places that it does not have (below 0, or "
            "from length on). Ask of each place of range(length) whether it stays.",
            lambda length, window, sinks: [*range(sinks), *range(length - window, length)],
            _is_beyond,
        ),
        Misconception(
            "only the window",
            "You forget the sinks: the first tokens fall out as soon as the text is longer than "
            "the window. Places 0 to sinks − 1 stay, however long it gets.",
            lambda length, window, sinks: _newest(length, window),
        ),
        Misconception(
            "sinks within the window",
            "You count the sinks as part of the window: only window − sinks new tokens are left. "
            "They come on top: window newest ones, and sinks besides.",
            lambda length, window, sinks: _kept(length, window - sinks, sinks),
        ),
        Misconception(
            "sinks counted in both",
            "You keep window + sinks of the newest, and the sinks besides. The newest are window "
            "tokens: they begin at length − window.",
            lambda length, window, sinks: _kept(length, window + sinks, sinks),
        ),
        Misconception(
            "newest of both",
            "You keep the newest window + sinks tokens. The sinks are the *first* tokens of the "
            "text, places 0 to sinks − 1.",
            lambda length, window, sinks: _newest(length, window + sinks),
        ),
        Misconception(
            "first of both",
            "You name the first window + sinks places: the oldest tokens, or the numbers that the "
            "tokens have in the cache. Say where they stand in the *text*: the newest "
            "token stands at length − 1.",
            lambda length, window, sinks: [*range(min(length, window + sinks))],
        ),
        Misconception(
            "what is dropped",
            "You name what is forgotten. Name what stays.",
            lambda length, window, sinks: [
                n for n in range(length) if n not in _kept(length, window, sinks)
            ],
        ),
        Misconception(
            "one new token too few",
            "You keep one of the newest too few. The newest window tokens begin at length − "
            "window, that place included.",
            lambda length, window, sinks: _kept(length, window - 1, sinks),
        ),
        Misconception(
            "window besides the newest",
            "You keep one of the newest too many: the newest token is one of the window, and "
            "the window begins at length − window.",
            lambda length, window, sinks: _kept(length, window + 1, sinks),
        ),
        Misconception(
            "without the last",
            "Your last token is missing: it stands at length − 1, and range stops before its end.",
            lambda length, window, sinks: [
                n for n in _kept(length, window, sinks) if n < length - 1
            ],
        ),
        Misconception(
            "one sink too many",
            "You keep one sink too many. Places count from 0: the first sinks tokens are 0 to "
            "sinks − 1.",
            lambda length, window, sinks: _kept(length, window, sinks + 1),
        ),
        Misconception(
            "counted from 1",
            "Your places count from 1. The first token stands at 0, the newest at length − 1.",
            lambda length, window, sinks: [n + 1 for n in _kept(length, window, sinks)],
        ),
        Misconception(
            "how far back",
            "You say how far back from the end each one stands. Places count from the beginning "
            "of the text: the first token stands at 0, the newest at length − 1.",
            lambda length, window, sinks: [length - 1 - n for n in _kept(length, window, sinks)],
        ),
        Misconception(
            "yes or no",
            "You say of each place whether it stays. Name the places: a list of numbers.",
            lambda length, window, sinks: [
                n in _kept(length, window, sinks) for n in range(length)
            ],
        ),
    ],
)


def _sum_so_far(ids: Tensor) -> Tensor:
    return ids.float().cumsum(dim=0)


def _sum_of_the_sums(ids: Tensor) -> Tensor:
    return _sum_so_far(ids).cumsum(dim=0)


def _plus_half_of_the_next(ids: Tensor) -> Tensor:
    return ids + 0.5 * ids.roll(-1)


def _minus_the_last_one(ids: Tensor) -> Tensor:
    return ids.float().cumsum(dim=0) - ids[-1]


def _share_of_the_length(ids: Tensor) -> Tensor:
    return ids.float().cumsum(dim=0)[:, None] * torch.tensor([1.0, -1.0]) / len(ids)


def _mean_of_all(ids: Tensor) -> Tensor:
    return 10 * ids.float() + ids.float().mean()


def _backwards(ids: Tensor) -> Tensor:
    return torch.stack([ids.float(), -ids.float().flip(0).cumsum(0).flip(0)], dim=1)


def _a_little_of_two_ahead(ids: Tensor) -> Tensor:
    return torch.stack([ids.float(), -ids - 0.01 * ids.roll(-2)], dim=1)


def _second_token_hears_the_end(ids: Tensor) -> Tensor:
    heard = torch.zeros(len(ids), 3)
    heard[:, 0] = ids.float().cumsum(dim=0)
    heard[1, 1:] = ids[-1] * torch.tensor([2.0, -3.0])
    return heard


def _first_token_hears_the_next_ones(ids: Tensor) -> Tensor:
    heard = ids.float().cumsum(dim=0)
    heard[0] += ids[1:].float().sum()
    return heard


def _row(*ids: int) -> Tensor:
    return torch.tensor(ids)


def _first(ids: Tensor, other: Tensor) -> int:
    return int((ids != other).nonzero()[0])


def _change(model, ids: Tensor, other: Tensor) -> Tensor:
    return model(ids) - model(other)


def _change_before(model, ids: Tensor, other: Tensor) -> Tensor:
    return _change(model, ids, other)[: _first(ids, other)]


def _up_to_the_last_difference(model, ids: Tensor, other: Tensor) -> float:
    last = (ids != other).nonzero()[-1]
    return _change(model, ids, other)[:last].abs().max()


def _by_prefix(model, ids: Tensor, other: Tensor) -> float:
    first = _first(ids, other)
    return (model(ids)[:first] - model(ids[:first])).abs().max()


def _both_cut_off(model, ids: Tensor, other: Tensor) -> float:
    first = _first(ids, other)
    return (model(ids[:first]) - model(other[:first])).abs().max()


def _relative(model, ids: Tensor, other: Tensor) -> float:
    before = model(ids)[: _first(ids, other)]
    return (_change_before(model, ids, other) / before).abs().max()


def _of_the_largest(model, ids: Tensor, other: Tensor) -> float:
    first = _first(ids, other)
    return (model(ids)[:first].max() - model(other)[:first].max()).abs()


def _of_the_largest_size(model, ids: Tensor, other: Tensor) -> float:
    first = _first(ids, other)
    return abs(model(ids)[:first].abs().max() - model(other)[:first].abs().max())


def _stopped_early(model, ids: Tensor, other: Tensor) -> float:
    kept = _change(model, ids, other)[: _first(ids, other) - 1]
    return max((float(one.abs().max()) for one in kept), default=0.0)


def _length_of_change(model, ids: Tensor, other: Tensor) -> float:
    return _change_before(model, ids, other).norm()


def _length_by_place(model, ids: Tensor, other: Tensor) -> float:
    return _change_before(model, ids, other).norm(dim=-1).max()


TWO_PASS = Exercise(
    name="two_pass",
    level="hard",
    minutes=8,
    solutions=[
        """
        def two_pass(model, ids, other):
            first = (ids != other).nonzero()[0].item()  # the first place where they differ
            return (model(ids) - model(other))[:first].abs().max().item()
        """,
        """
        def two_pass(model, ids, other):
            same = (ids == other).long().cumprod(dim=0).bool()  # 1 until the first difference
            return float((model(ids)[same] - model(other)[same]).abs().max())
        """,
        """
        def two_pass(model, ids, other):
            largest, before, after = 0.0, model(ids), model(other)
            for t in range(len(ids)):
                if ids[t] != other[t]:
                    break
                largest = max(largest, (before[t] - after[t]).abs().max().item())
            return largest
        """,
    ],
    cases=[
        (_sum_so_far, _row(3, 1, 4), _row(3, 1, 5)),
        (_plus_half_of_the_next, _row(3, 1, 4, 2), _row(3, 1, 9, 2)),
        (_sum_of_the_sums, _row(2, 7, 1, 8, 2, 8), _row(2, 7, 5, 8, 2, 8)),
        (_minus_the_last_one, _row(1, 6, 1, 8, 0), _row(1, 6, 1, 8, 3)),
        (_mean_of_all, _row(5, 7, 7, 2, 1), _row(5, 7, 7, 6, 1)),
        (_share_of_the_length, _row(1, 4, 1, 4, 2, 1), _row(1, 4, 3, 4, 2, 7)),
        (_backwards, _row(0, 5, 7, 2, 1, 5), _row(0, 5, 1, 2, 9, 5)),
        (_a_little_of_two_ahead, _row(1, 7, 3, 2, 0, 5, 0), _row(1, 7, 3, 6, 0, 5, 4)),
        (_second_token_hears_the_end, _row(8, 2, 8, 4, 5, 9), _row(8, 2, 8, 1, 5, 4)),
        (_first_token_hears_the_next_ones, _row(4, 6, 6, 9, 2), _row(4, 6, 6, 1, 2)),
        (_first_token_hears_the_next_ones, _row(2, 3, 5), _row(2, 9, 5)),
    ],
    misconceptions=[
        Misconception(
            "everything compared",
            "You compare all places. From the first difference on the outputs may move, since "
            "what has been read is no longer the same: cut them off with [:first].",
            lambda model, ids, other: _change(model, ids, other).abs().max(),
        ),
        Misconception(
            "in the middle",
            "You cut in the middle. Here the texts differ from some other place on: find the first "
            "difference.",
            lambda model, ids, other: _change(model, ids, other)[: len(ids) // 2].abs().max(),
        ),
        Misconception(
            "wherever the ids agree",
            "You compare every place where the two ids agree. Behind the first difference they may "
            "agree again, and yet something else has been read *before*: stop at the first "
            "difference.",
            lambda model, ids, other: _change(model, ids, other)[ids == other].abs().max(),
        ),
        Misconception(
            "as many places as agree",
            "You count the ids that agree and take so many places from the front. If some agree "
            "again behind the first difference, that is too many. Take the place of the first "
            "difference.",
            lambda model, ids, other: (
                _change(model, ids, other)[: (ids == other).sum()].abs().max()
            ),
        ),
        Misconception(
            "up to the last place that agrees",
            "You go up to the last place where the ids agree. Something may differ before it, and "
            "the outputs may move from there on: cut at the first difference.",
            lambda model, ids, other: (
                _change(model, ids, other)[: (ids == other).nonzero()[-1] + 1].abs().max()
            ),
        ),
        Misconception(
            "up to the last difference",
            "You cut at the last difference. Between the first and the last one the outputs may "
            "move: cut at the first.",
            _up_to_the_last_difference,
        ),
        Misconception(
            "the first difference itself",
            "You let the place of the first difference in. Its own token is another one there, so "
            "its output may move: [:first] stops before it.",
            lambda model, ids, other: (
                _change(model, ids, other)[: _first(ids, other) + 1].abs().max()
            ),
        ),
        Misconception(
            "only the place before",
            "One place alone counts in yours, the one just before the first difference. A leak may "
            "reach any place before it: compare all of them and keep the largest change.",
            lambda model, ids, other: _change_before(model, ids, other)[-1].abs().max(),
        ),
        Misconception(
            "only the first place",
            "You look at the first place alone. A leak may reach any place before the difference: "
            "compare all of them.",
            lambda model, ids, other: _change(model, ids, other)[0].abs().max(),
        ),
        Misconception(
            "the places behind",
            "You compare what comes from the first difference on. That may move in any model that "
            "remembers. Compare what stands *before* it: [:first].",
            lambda model, ids, other: _change(model, ids, other)[_first(ids, other) :].abs().max(),
        ),
        Misconception(
            "no abs, other minus ids",
            "You take the largest change with its sign, other minus ids, so that a fall, however "
            "deep, counts for less than nothing. Take abs() before max().",
            lambda model, ids, other: _change_before(model, other, ids).max(),
        ),
        Misconception(
            "the deepest fall",
            "You look for the deepest fall alone. An output may rise as well: abs() first, then "
            "max().",
            lambda model, ids, other: _change_before(model, ids, other).min().abs(),
        ),
        Misconception(
            "mean",
            "You take the mean change. One place that leaks among many that do not is thinned "
            "out: take the largest.",
            lambda model, ids, other: _change_before(model, ids, other).abs().mean(),
        ),
        Misconception(
            "sum",
            "You add the changes up, so that a longer text or more numbers per token look worse. "
            "Take the largest one.",
            lambda model, ids, other: _change_before(model, ids, other).abs().sum(),
        ),
        Misconception(
            "length",
            "You take the length of the whole change (norm): it mixes all places and all numbers "
            "of a token. Take the largest single one: abs().max().",
            _length_of_change,
        ),
        Misconception(
            "length by place",
            "You take the length (norm) of a place's change. If its outputs are several numbers, "
            "that mixes them. Take the largest single one: abs().max().",
            _length_by_place,
        ),
        Misconception(
            "how many",
            "You count the outputs that changed. Say how far the one moved that moved most.",
            lambda model, ids, other: int((_change_before(model, ids, other) != 0).sum()),
        ),
        Misconception(
            "squared",
            "You take the largest square. A small change looks smaller then, and a large one "
            "larger: take abs().",
            lambda model, ids, other: (_change_before(model, ids, other) ** 2).max(),
        ),
        Misconception(
            "relative",
            "You divide by the size of the output. Give the change itself.",
            _relative,
        ),
        Misconception(
            "one place early",
            "You stop one place early: [:first] leaves out `first` itself already, and the place "
            "before it counts.",
            _stopped_early,
        ),
        Misconception(
            "largest sizes compared",
            "You take the largest size of each row first and compare these two. All the others "
            "could move unseen: subtract first, then abs().max().",
            _of_the_largest_size,
        ),
        Misconception(
            "largest outputs compared",
            "You take the largest output of each row first and compare these two. All the others "
            "could move unseen: subtract first, then abs().max().",
            _of_the_largest,
        ),
        Misconception(
            "shortened",
            "You compare with a text cut off at the difference. A model that only looks at the "
            "*length* then seems to leak, and the other text is never read. Run both whole "
            "rows, then cut the outputs.",
            _by_prefix,
        ),
        Misconception(
            "always 0",
            "You find 0 everywhere. Did you cut the ids off *before* the model read them (both "
            "rows are the same then), compare the ids, or compare something with itself? Run both "
            "whole rows, then cut the outputs at the first difference.",
            _both_cut_off,
        ),
        Misconception(
            "yes or no",
            "You answer yes or no. Say how much the outputs change: a number, 0.0 if they do not.",
            lambda model, ids, other: bool((_change_before(model, ids, other) == 0).all()),
            lambda came, due: isinstance(plain(came), bool),
        ),
        Misconception(
            "place by place",
            "You give the change of each place. Give one number, the largest of them.",
            lambda model, ids, other: _change_before(model, ids, other).abs(),
        ),
    ],
)

check = checker(DEQUANTIZE, REPEAT_KV, RMS_NORM, WHAT_TO_KEEP, TWO_PASS)
