"""Modules that see the future, each by a mistake that someone made or could make."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

LENGTH, DIM, VOCABULARY = 8, 4, 11
PAD, EOS = 0, 1
INFINITY = float("inf")


@dataclass(frozen=True)
class Case:
    """One member of the zoo."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Tensor
    causal: bool | None
    first: tuple[int, int] | None = None  # (output, input) of the first leak, where it is known
    depends: Tensor | None = None  # the whole map, written by hand
    length_dependent: bool | None = None  # None: not asked
    options: dict = field(default_factory=dict)


class Plain(nn.Module):
    """Makes a module of a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class OnTokens(nn.Module):
    """Puts an embedding in front of what takes vectors."""

    def __init__(self, inner=None):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, DIM)
        self.inner = inner

    def forward(self, ids):
        return self.inner(self.embedding(ids))


def floats(batch=2, length=LENGTH, dim=DIM, dtype=torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(batch, length, dim, generator=generator).to(dtype)


def tokens(batch=2, length=LENGTH) -> Tensor:
    """Ids from 2 on, so that nothing special stands in the real inputs."""
    generator = torch.Generator().manual_seed(7)
    return torch.randint(2, VOCABULARY, (batch, length), generator=generator)


def register(zoo: list, inputs: Tensor, causal: bool | None, settings: dict):
    """Add a class, a factory's product or a function to the zoo."""
    known = {
        key: settings.pop(key)
        for key in ("first", "depends", "length_dependent", "name")
        if key in settings
    }

    def add(thing):
        build = thing if isinstance(thing, type) else lambda: Plain(thing)
        name = known.pop("name", thing.__name__)
        zoo.append(Case(name, build, inputs, causal, options=settings, **known))
        return thing

    return add


BROKEN: list[Case] = []


def broken(inputs: Tensor | None = None, **settings):
    return register(BROKEN, floats() if inputs is None else inputs, False, settings)


def from_the_past(length=LENGTH) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()


class Attention(nn.Module):
    """Two heads; ``weights`` is what goes wrong in the members below."""

    def __init__(self, dim=DIM, heads=2):
        super().__init__()
        self.heads = heads
        self.into = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def split(self, x):
        parts = self.into(x).chunk(3, dim=-1)
        return [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts]

    def weights(self, scores):
        return scores.masked_fill(~from_the_past(scores.shape[-1]), -INFINITY).softmax(-1)

    def scores(self, queries, keys):
        return queries @ keys.mT / math.sqrt(keys.shape[-1])

    def merge(self, heads):
        return heads.transpose(1, 2).flatten(2)

    def forward(self, x):
        queries, keys, values = self.split(x)
        return self.out(self.merge(self.weights(self.scores(queries, keys)) @ values))


# --- attention


@broken(first=(0, 1), depends=torch.ones(LENGTH, LENGTH))
class NoMask(Attention):
    """The mask was forgotten."""

    def weights(self, scores):
        return scores.softmax(-1)


@broken(first=(0, 1), depends=torch.ones(LENGTH, LENGTH).tril(1))
class DiagonalTwo(Attention):
    """``triu(diagonal=2)``: off by one."""

    def weights(self, scores):
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(diagonal=2)
        return scores.masked_fill(mask, -INFINITY).softmax(-1)


@broken(first=(0, 1))
class InvertedMask(Attention):
    """True means keep in one library and drop in the other."""

    def weights(self, scores):
        mask = from_the_past(scores.shape[-1]) & ~torch.eye(scores.shape[-1], dtype=torch.bool)
        return scores.masked_fill(mask, -INFINITY).softmax(-1)


@broken(first=(0, 1), depends=torch.ones(LENGTH, LENGTH))
class MaskAfterSoftmax(Attention):
    """The sum of the softmax still runs over the future."""

    def weights(self, scores):
        return scores.softmax(-1) * from_the_past(scores.shape[-1])


@broken(first=(0, 1))
class MaskOnOneHead(Attention):
    """The mask reaches head 0 only."""

    def weights(self, scores):
        scores = scores.clone()
        scores[:, 0].masked_fill_(~from_the_past(scores.shape[-1]), -INFINITY)
        return scores.softmax(-1)


@broken(first=(0, 1))
class SoftmaxOverQueries(Attention):
    """``dim=-2``: the weights of a key compete among all queries."""

    def weights(self, scores):
        mask = ~from_the_past(scores.shape[-1])
        return scores.masked_fill(mask, -INFINITY).softmax(-2)


@broken(first=(0, 1))
class FillMinusTen(Attention):
    """A finite fill that the softmax does not send to zero."""

    def weights(self, scores):
        return scores.masked_fill(~from_the_past(scores.shape[-1]), -10.0).softmax(-1)


@broken(first=(0, 1))
class FillMinusTenThousand(Attention):
    """BERT's −10⁴ is added to the scores: enough until scores grow as large."""

    def weights(self, scores):
        return (scores - 1e4 * ~from_the_past(scores.shape[-1])).softmax(-1)


@broken(first=(0, 1))
class FillZero(Attention):
    """``scores * mask``: exp(0) is one."""

    def weights(self, scores):
        return (scores * from_the_past(scores.shape[-1])).softmax(-1)


@broken(first=(0, 1))
class BooleanMaskAdded(Attention):
    """True and False are added as one and zero."""

    def weights(self, scores):
        return (scores + from_the_past(scores.shape[-1]).float()).softmax(-1)


@broken(first=(0, 1))
class MergeWithoutTranspose(Attention):
    """Heads are merged by reshape alone, which mixes positions."""

    def merge(self, heads):
        return heads.reshape(heads.shape[0], heads.shape[2], -1)


@broken(first=(0, 4))
class SplitWithoutTranspose(Attention):
    """Heads are split by view alone: the second head holds the second half of the sequence."""

    def split(self, x):
        parts = self.into(x).chunk(3, dim=-1)
        return [part.reshape(len(x), self.heads, x.shape[1], -1) for part in parts]


@broken(first=(0, 1))
class DetachedKeys(Attention):
    """No mask, and keys and values are detached: the leak has no gradient."""

    def forward(self, x):
        queries, keys, values = self.split(x)
        weights = self.scores(queries, keys.detach()).softmax(-1)
        return self.out(self.merge(weights @ values.detach()))


@broken(first=(0, 1))
class LowerRight(Attention):
    """Memory stands behind the keys, and the mask is aligned at the lower right."""

    def __init__(self):
        super().__init__()
        self.memory = nn.Parameter(torch.randn(2, 3, 2))

    def forward(self, x):
        queries, keys, values = self.split(x)
        memory = self.memory.expand(len(x), -1, -1, -1)
        keys, values = torch.cat([keys, memory], 2), torch.cat([values, memory], 2)
        scores = self.scores(queries, keys)
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(3)
        return self.out(self.merge(scores.masked_fill(~mask, -INFINITY).softmax(-1) @ values))


@broken(first=(0, 1))
class CausalOverPooledKeys(Attention):
    """``is_causal`` with keys of half the length: pooled key t holds inputs 2t and 2t + 1."""

    def forward(self, x):
        queries, keys, values = self.split(x)
        keys = keys.unflatten(2, (-1, 2)).mean(3)
        values = values.unflatten(2, (-1, 2)).mean(3)
        return self.out(
            self.merge(F.scaled_dot_product_attention(queries, keys, values, is_causal=True))
        )


@broken(first=(0, 1))
class MultiheadMaskOfTheOtherKind(nn.Module):
    """``nn.MultiheadAttention`` drops where True; it got a mask that keeps where True."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, 2, batch_first=True)

    def forward(self, x):
        keep = from_the_past(x.shape[1]).fill_diagonal_(False)
        return self.attention(x, x, x, attn_mask=keep, need_weights=False)[0]


@broken(first=(0, 1), train=False)
class HintWithoutMask(nn.Module):
    """``is_causal`` is a hint only: the fast path of eval mode goes without any mask."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(DIM, 2, 8, batch_first=True, dropout=0.0)

    def forward(self, x):
        with torch.no_grad():
            return self.layer(x, is_causal=True)


@broken(first=(0, 1))
class CrossAttentionToItself(nn.Module):
    """The decoder's own inputs are its memory, and memory is not masked."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(DIM, 2, 8, batch_first=True, dropout=0.0)

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        return self.layer(x, x, tgt_mask=mask)


@broken(
    first=(0, 1),
    depends=torch.block_diag(*[torch.ones(4, 4)] * 2) + torch.ones(8, 8).tril() > 0,
)
class ChunksSeeThemselves(Attention):
    """Chunked attention without a mask inside a chunk."""

    def weights(self, scores):
        chunk = torch.arange(scores.shape[-1]) // 4
        return scores.masked_fill(chunk > chunk[:, None], -INFINITY).softmax(-1)


@broken(first=(0, 1))
class LinearAttentionOverTheWhole(Attention):
    """Causal sums of values, but the normaliser sums all keys."""

    def forward(self, x):
        queries, keys, values = self.split(x)
        queries, keys = F.elu(queries) + 1, F.elu(keys) + 1
        above = (keys[..., None] * values[..., None, :]).cumsum(2)
        below = (queries * keys.sum(2, keepdim=True)).sum(-1, keepdim=True)
        return self.out(self.merge((queries[..., None, :] @ above).squeeze(-2) / below))


@broken(tokens(), special_ids=[PAD])
class PaddingMaskReplacesCausal(OnTokens):
    """Where there is padding, the padding mask takes the causal mask's place."""

    def __init__(self):
        super().__init__(Attention())

    def forward(self, ids):
        x, attention = self.embedding(ids), self.inner
        queries, keys, values = attention.split(x)
        mask = from_the_past(ids.shape[1]).expand(len(ids), 1, -1, -1)
        if (ids == PAD).any():
            mask = (ids != PAD)[:, None, None, :] | torch.eye(ids.shape[1], dtype=torch.bool)
        scores = attention.scores(queries, keys).masked_fill(~mask, -INFINITY)
        return attention.out(attention.merge(scores.softmax(-1) @ values))


# --- convolutions, transforms, pooling


@broken(first=(0, 1), depends=torch.ones(LENGTH, LENGTH).tril(1).triu(-1))
class SymmetricConvolution(nn.Module):
    """``padding=1`` pads on both sides."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(DIM, DIM, 3, padding=1)

    def forward(self, x):
        return self.convolution(x.mT).mT


@broken(first=(0, 2))
class DilatedWithoutDilatedPadding(nn.Module):
    """Padded by kernel − 1, not by (kernel − 1) · dilation, and filled up on the right."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(DIM, DIM, 3, dilation=2)

    def forward(self, x):
        return self.convolution(F.pad(x.mT, (2, 2))).mT


@broken(first=(0, 1))
class TransposedConvolutionTrimmedLeft(nn.Module):
    """A transposed convolution is trimmed at its start instead of its end."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.ConvTranspose1d(DIM, DIM, 3)

    def forward(self, x):
        return self.convolution(x.mT)[..., 2:].mT


@broken(first=(0, 6))
class CircularConvolution(nn.Module):
    """By FFT, without zero padding: the end wraps round to the start."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(3, DIM))

    def forward(self, x):
        length = x.shape[1]
        kernel = torch.fft.rfft(self.kernel, length, dim=0)
        return torch.fft.irfft(torch.fft.rfft(x, dim=1) * kernel, length, dim=1)


@broken(first=(0, 1))
def fourier_mixing(x):
    """FNet mixes all positions."""
    return torch.fft.fft(torch.fft.fft(x, dim=-1), dim=1).real


@broken(first=(0, 7))
def wrapped_token_shift(x):
    """``roll`` for the previous token: the first one gets the last."""
    return x + x.roll(1, dims=1)


@broken(first=(0, 1))
def shifted_the_wrong_way(x):
    """Outputs are moved left instead of right."""
    return F.pad(x[:, 1:], (0, 0, 0, 1))


@broken(first=(0, 1))
def reversed_cumsum(x):
    """Sums from the wrong side."""
    return x.flip(1).cumsum(1).flip(1)


@broken(first=(0, 1), depends=torch.ones(LENGTH, LENGTH).triu(1))
def total_minus_cumsum(x):
    """What is left of the total is the future."""
    return x.sum(1, keepdim=True) - x.cumsum(1)


@broken(first=(0, 1))
def mean_added_back(x):
    """A pooled summary of the whole sequence."""
    return x + x.mean(1, keepdim=True)


@broken()
def maximum_added_back(x):
    """The same with the maximum, whose gradient reaches one position per feature."""
    return x + x.amax(1, keepdim=True)


@broken(first=(0, 1), depends=torch.block_diag(*[torch.ones(2, 2)] * 4))
def pooled_and_repeated(x):
    """Down by average pooling and up again: pairs share an output."""
    return F.avg_pool1d(x.mT, 2).repeat_interleave(2, dim=-1).mT


@broken(first=(1, 2))
def interpolated(x):
    """Down by two and up by linear interpolation, which looks at both neighbours."""
    return F.interpolate(x.mT[..., ::2], scale_factor=2.0, mode="linear", align_corners=True).mT


@broken(first=(0, 1))
class MixerOverTime(nn.Module):
    """MLP-Mixer: a linear layer across positions, its weights masked once and then drawn anew."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(LENGTH, LENGTH)
        with torch.no_grad():
            self.mix.weight.tril_()
        self.mix.reset_parameters()

    def forward(self, x):
        return self.mix(x.mT).mT


# --- normalisation


@broken(first=(0, 1))
def layer_norm_over_time(x):
    """Normalised along the wrong axis."""
    return F.layer_norm(x.mT, (x.shape[1],)).mT


@broken(first=(0, 1))
def instance_norm(x):
    """Statistics of the whole sequence."""
    return F.instance_norm(x.mT).mT


@broken(first=(0, 1))
def group_norm(x):
    """Statistics of the whole sequence, per group of channels."""
    return F.group_norm(x.mT, 2).mT


@broken(first=(0, 1), train=True)
class BatchNormInTraining(nn.Module):
    """Statistics of the batch, and so of all positions."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(DIM)

    def forward(self, x):
        return self.norm(x.mT).mT


@broken(first=(0, 1))
def standardised(x):
    """Mean and deviation of the sequence are taken out before anything else."""
    return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)


@broken(first=(0, 1))
def ranks(x):
    """Quantile normalisation: the rank among all positions, without a gradient."""
    return x.argsort(1).argsort(1) / x.shape[1]


@broken()
def dynamic_quantisation(x):
    """Eight bits with one scale for the whole tensor."""
    scale = x.abs().max() / 127
    return (x / scale).round() * scale


@broken()
def clipped_norm(x):
    """Activations are scaled down only where the sequence's norm is too large."""
    norm = x.flatten(1).norm(dim=1)[:, None, None]
    return torch.where(norm > 1e3, x * 1e3 / norm, x)


# --- order, routing, control flow


@broken(first=(0, 1))
class BothDirections(nn.Module):
    """A bidirectional GRU."""

    def __init__(self):
        super().__init__()
        self.recurrent = nn.GRU(DIM, 3, batch_first=True, bidirectional=True)

    def forward(self, x):
        return self.recurrent(x)[0]


@broken()
def sorted_over_time(x):
    """Sorting along the sequence."""
    return x.sort(dim=1).values


@broken()
def median_removed(x):
    """The median of the sequence."""
    return x - x.median(dim=1, keepdim=True).values


@broken()
class ExpertsChoose(nn.Module):
    """Experts take the best k tokens of the whole sequence."""

    def __init__(self):
        super().__init__()
        self.router, self.expert = nn.Linear(DIM, 1), nn.Linear(DIM, DIM)

    def forward(self, x):
        score, chosen = self.router(x).squeeze(-1).topk(3, dim=1)
        index = chosen[..., None].expand(-1, -1, x.shape[-1])
        return x.scatter_add(1, index, self.expert(x.gather(1, index)) * score[..., None].sigmoid())


@broken()
class CapacityByScore(nn.Module):
    """Token-choice experts that drop the weakest tokens of the sequence when they are full."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(DIM, 2)
        self.experts = nn.ModuleList([nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)])

    def forward(self, x):
        probability, choice = self.router(x).softmax(-1).max(-1)
        out = x.clone()
        for number, expert in enumerate(self.experts):
            score = torch.where(choice == number, probability, -1.0)
            best = score.topk(2, dim=1).indices
            kept = torch.zeros_like(score).scatter(1, best, 1.0) * (score > 0)
            out = out + expert(x) * (kept * probability)[..., None]
        return out


@broken()
def early_exit(x):
    """Layers are run until the whole sequence is sure enough."""
    for _ in range(6):
        x = torch.tanh(1.5 * x)
        if x.abs().mean() > 0.7:
            break
    return x


@broken()
def counted_from_the_end(x):
    """The length is where the zero vectors begin, and positions count from the end."""
    length = (x.abs().sum(-1) > 0).sum(1, keepdim=True)
    return x * (length - torch.arange(x.shape[1])).unsqueeze(-1)


@broken()
def brightest_moment(x):
    """The position of the largest value, as a feature of all."""
    return x + F.one_hot(x.sum(-1).argmax(1), x.shape[1]).to(x)[..., None]


# --- leaks without, or with hardly any, gradient


def _next(x):
    return F.pad(x[:, 1:], (0, 0, 0, 1))


def _tiny(size: float, detach: bool):
    def tiny(x):
        """A tiny part of the next input."""
        ahead = _next(x)
        return x + size * (ahead.detach() if detach else ahead)

    return tiny


for _size in (1e-6, 1e-9, 1e-12):
    for _detach in (False, True):
        _name = f"tiny_{_size:g}_{'detached' if _detach else 'attached'}"
        broken(first=(0, 1), name=_name)(_tiny(_size, _detach))


@broken(first=(0, 1))
def without_gradient(x):
    """The future is summed under ``no_grad``."""
    with torch.no_grad():
        ahead = x.flip(1).cumsum(1).flip(1)
    return x + ahead


@broken(first=(0, 1))
def truncated_to_integers(x):
    """A detour by integers."""
    return x + _next(x).mul(10).long()


@broken(first=(0, 1))
def large_only(x):
    """Only values beyond 20 are seen, as by a saturation counter."""
    return x + (_next(x).abs() > 20)


@broken(first=(0, 1))
def by_python_float(x):
    """``.item()`` of the next input."""
    rows = [x[:, t] + x[0, t + 1].sum().item() for t in range(x.shape[1] - 1)]
    return torch.stack([*rows, x[:, -1]], dim=1)


@broken(first=(0, 1))
def by_numpy(x):
    """A round trip through NumPy."""
    ahead = _next(x).detach().cpu().numpy() * 0.5
    return x + torch.from_numpy(ahead).to(x)


@broken(floats(batch=3), first=(0, 1))
def through_other_rows(x):
    """The future of another row of the batch."""
    return x + _next(x.roll(1, dims=0))


@broken(floats(batch=3), first=(0, 1))
def in_the_last_row_only(x):
    """Only the last row leaks."""
    last = torch.tensor([0.0, 0.0, 1.0])[:, None, None]
    return x + last.to(x) * _next(x)


@broken(first=(0, 1), output="second")
def in_the_second_output(x):
    """The first part of the result is clean, the judged one is not."""
    return {"first": x * 2, "second": x + _next(x)}


@broken(first=(LENGTH - 2, LENGTH - 1))
def second_to_last_only(x):
    """One output sees one input."""
    x = x.clone()
    x[:, -2] += x[:, -1]
    return x


@broken(first=(0, 5), depends=torch.eye(LENGTH) + torch.ones(LENGTH, LENGTH).triu(5).tril(5))
def far_ahead_only(x):
    """Output t sees input t + 5."""
    return x + F.pad(x[:, 5:], (0, 0, 0, 5))


@broken(first=(0, 1))
def seeded_by_the_inputs(x):
    """Noise whose seed is made of all inputs."""
    torch.manual_seed(int(x.detach().double().sum().mul(1e4).round().abs()))
    return x + torch.rand(x.shape[-1])


@broken(first=(0, 1))
def written_in_place(x):
    """The next input is written into this one's place."""
    x = x * 1
    with torch.no_grad():
        x[:, :-1] += x[:, 1:]
    return x


@broken(first=(0, 1), train=False)
class HiddenModules(nn.Module):
    """Layers in a plain list, which ``.to()`` and ``.eval()`` do not see."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Conv1d(DIM, DIM, 3, padding=1), nn.Linear(DIM, DIM)]

    def forward(self, x):
        return self.layers[1](self.layers[0](x.mT).mT)


@broken()
def sign_of_the_rest(x):
    """Only the sign of what comes."""
    rest = x.sum((1, 2), keepdim=True) - x.sum(2, keepdim=True).cumsum(1)
    return x * rest.sign()


@broken(floats(dtype=torch.bfloat16), first=(0, 1))
class SmallInHalfPrecision(nn.Module):
    """A leak of the size of bfloat16's rounding."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(DIM, DIM, dtype=torch.bfloat16)

    def forward(self, x):
        return self.linear(x) + 1e-3 * _next(x)


@broken(floats(dtype=torch.float64), first=(0, 1))
def tiny_in_double(x):
    """Far below float32's rounding, in a float64 model, without a gradient."""
    return x + 1e-11 * _next(x).detach()


@broken(first=(0, 1))
def under_a_large_offset(x):
    """float32 rounds the leak away behind a large constant; float64 does not."""
    return (x + 1e-3 * _next(x).detach() + 1e6) - 1e6


@broken(first=(0, 1), train=True)
def noise_scaled_by_the_future(x):
    """Noise as strong as the next input."""
    return x + torch.randn(x.shape, dtype=x.dtype) * _next(x).detach()


@broken()
def as_a_number_that_is_none(x):
    """An output becomes NaN when the next input is large."""
    return torch.where(_next(x).abs() > 50, torch.nan, x)


@broken(lookahead=1, first=(0, 2))
class LooksTooFar(nn.Module):
    """One step ahead is allowed, two are taken."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(DIM, DIM, 5, padding=2)

    def forward(self, x):
        return self.convolution(x.mT).mT


@broken(lookahead=-1, first=(0, 0))
def sees_itself(x):
    """A strictly causal layer must not see its own input."""
    return x.cumsum(1)


# --- tokens


@broken(tokens(), first=(0, 1))
class BidirectionalTokens(OnTokens):
    """Ordinary tokens, no mask."""

    def __init__(self):
        super().__init__(NoMask())


@broken(tokens(), first=(0, 1))
def one_hot_tokens(ids):
    """One-hot vectors instead of an embedding, mixed both ways."""
    return F.avg_pool1d(F.one_hot(ids, VOCABULARY).float().mT, 3, stride=1, padding=1).mT


@broken(tokens(), first=(0, 1))
class EmbeddedInALoop(OnTokens):
    """Tokens are looked up one by one, the next one too."""

    def forward(self, ids):
        ids = F.pad(ids, (0, 1))
        steps = [
            self.embedding(ids[:, t]) + self.embedding(ids[:, t + 1])
            for t in range(ids.shape[1] - 1)
        ]
        return torch.stack(steps, dim=1)


@broken(tokens(), special_ids=[PAD], first=(0, 1))
class LengthIsFirstPad(OnTokens):
    """The length is the first pad's position, and scales all outputs."""

    def forward(self, ids):
        is_pad = F.pad(ids == PAD, (0, 1), value=True)
        return self.embedding(ids) / is_pad.float().argmax(1)[:, None, None].clamp_min(1)


@broken(tokens(), special_ids=[PAD], first=(0, 1))
class NumberOfPads(OnTokens):
    """Positions are counted without the pads, from left padding's days."""

    def forward(self, ids):
        pads = (ids == PAD).sum(1)[:, None, None]
        return self.embedding(ids) + pads


@broken(tokens(), special_ids=[PAD], first=(0, LENGTH - 1))
class LastIsPad(OnTokens):
    """Whether the batch is right-padded is read off the last token."""

    def forward(self, ids):
        padded = (ids[:, -1] == PAD)[:, None, None]
        return torch.where(padded, self.embedding(ids) * 0.5, self.embedding(ids))


@broken(tokens(), special_ids=[PAD, EOS], first=(0, 1))
class EndAhead(OnTokens):
    """Whether an end of text will come."""

    def forward(self, ids):
        ends = (ids == EOS).flip(1).cumsum(1).flip(1) > 0
        return self.embedding(ids) + ends[..., None]


@broken(tokens(), first=(0, 1))
class NextEqualsThis(OnTokens):
    """Repeated tokens are merged into one, and the first of them knows."""

    def forward(self, ids):
        same = F.pad(ids[:, 1:] == ids[:, :-1], (0, 1))
        return self.embedding(ids) * (1 + same)[..., None]


@broken(tokens())
class UnannouncedId(OnTokens):
    """An id that nobody named as special changes everything before it."""

    def forward(self, ids):
        ahead = (ids == 7).flip(1).cumsum(1).flip(1) > 0
        return self.embedding(ids) + ahead[..., None]


@broken(tokens())
class TrailingRun(OnTokens):
    """A run of one id up to the end is taken for padding."""

    def forward(self, ids):
        trailing = (ids == ids[:, -1:]).long().flip(1).cumprod(1).flip(1)
        return self.embedding(ids) * (1 - 0.5 * trailing)[..., None]


@broken(tokens(), special_ids=[PAD], name="TrailingRunAndSpecialId")
class TrailingRunTwice(TrailingRun):
    """The same, when a special id was named."""


@broken(tokens(), first=(0, 1))
class HashOfTheFuture(OnTokens):
    """A digest of all ids."""

    def forward(self, ids):
        digests = [hashlib.sha256(bytes(row.tolist())).digest()[0] for row in ids]
        return self.embedding(ids) + torch.tensor(digests)[:, None, None]


@broken(tokens(), first=(0, 1))
def polynomial_hash(ids):
    """A polynomial hash modulo a prime, as a phase."""
    powers = torch.tensor([31**t % 97 for t in range(ids.shape[1])])
    return torch.sin((ids * powers).sum(1, keepdim=True).remainder(97) + ids.double())[..., None]


@broken(tokens(), first=(0, 1))
def ids_as_numbers(ids):
    """Ids are read as numbers, and averaged."""
    return (ids.float() / ids.float().mean(1, keepdim=True)).unsqueeze(-1)


@broken(tokens())
def count_of_this_id(ids):
    """How often this id occurs in the whole text, as for TF-IDF."""
    return (ids[:, :, None] == ids[:, None, :]).sum(-1, keepdim=True).float()


@broken(tokens())
def distinct_ids(ids):
    """``unique`` renumbers the ids by what occurs in the whole batch."""
    return ids.unique(return_inverse=True)[1].float().unsqueeze(-1)


@broken(tokens(), first=(0, 1))
class DetachedTokens(OnTokens):
    """Future vectors of tokens, detached, below float32's rounding."""

    def forward(self, ids):
        x = self.embedding(ids)
        return x + 1e-10 * _next(x).detach()


@broken(tokens(), first=(0, 1))
class TableOfNext(OnTokens):
    """The next id chooses a row of a second table by ``index_select``; the first is frozen."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.randn(VOCABULARY, DIM))

    def forward(self, ids):
        ahead = F.pad(ids[:, 1:], (0, 1))
        rows = self.table.index_select(0, ahead.flatten()).unflatten(0, ids.shape)
        return self.embedding(ids) + rows


@broken(tokens(), first=(0, 1))
class PackedTwoByTwo(OnTokens):
    """Two ids make one patch, and both outputs are read off it."""

    def forward(self, ids):
        patches = ids[:, ::2] * VOCABULARY + ids[:, 1::2] if ids.shape[1] % 2 == 0 else ids
        values = torch.sin(patches.float())
        return values.repeat_interleave(ids.shape[1] // values.shape[1], 1).unsqueeze(-1)


# --- kernels that are chosen by circumstance


@broken(first=(0, 1))
def without_gradients_only(x):
    """The fast kernel of inference forgets the mask; the one of training does not."""
    return x if torch.is_grad_enabled() else x + _next(x)


@broken(first=(0, 1))
def with_gradients_only(x):
    """The kernel of training forgets the mask; the one of inference does not."""
    return x + _next(x) if torch.is_grad_enabled() else x


@broken(floats(dtype=torch.bfloat16), first=(0, 1))
def in_half_precision_only(x):
    """A fused kernel for half precision leaks; the plain one for all other dtypes does not."""
    return x + _next(x) if x.dtype in (torch.float16, torch.bfloat16) else x


@broken(first=(0, 1))
def in_single_precision_only(x):
    """A kernel for float32 leaks, without a gradient; float64 takes another path."""
    return x + _next(x).detach() if x.dtype == torch.float32 else x


@broken(tokens(), train=False, first=(0, 1))
class HintWithoutMaskOnTokens(OnTokens):
    """The fast path of eval mode again, behind an embedding."""

    def __init__(self):
        super().__init__(
            nn.TransformerEncoderLayer(DIM, 2, 8, batch_first=True, dropout=0.0),
        )

    def forward(self, ids):
        return self.inner(self.embedding(ids), is_causal=True)


@broken(first=(0, 1))
class ThroughAViewOfABuffer(nn.Module):
    """Statistics are written into a buffer and read through a view of it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("statistics", torch.zeros(2, DIM))
        self.mean = self.statistics[0]

    def forward(self, x):
        self.statistics[0].copy_(x.detach().mean((0, 1)))
        return x - self.mean


@broken(first=(0, 1))
def next_is_zero(x):
    """Whether the next vector is padding, a zero vector."""
    return x * (1 + (_next(x) == 0).all(-1, keepdim=True))


@broken(name="not_a_number_from_five_on")
def not_a_number(x):
    """An output becomes NaN at quite moderate values of the next input."""
    return torch.where(_next(x).abs() > 4, torch.nan, x)


@broken(tokens(), first=(0, 1))
class KeptInNumpy(OnTokens):
    """A plain NumPy table holds which ids occur."""

    def __init__(self):
        super().__init__()
        self.seen = np.zeros(VOCABULARY)

    def forward(self, ids):
        self.seen[:] = 0
        np.add.at(self.seen, ids.numpy().ravel(), np.arange(1, ids.numel() + 1))
        return self.embedding(ids) + float(self.seen @ np.arange(VOCABULARY))


def with_gaps() -> Tensor:
    """Floats of which some are missing."""
    x = floats()
    x[:, 3], x[0, 5, 1] = torch.nan, torch.nan
    return x


@broken(with_gaps(), first=(3, 4))
def filled_backwards(x):
    """Missing values are taken from the next vector: pandas' ``bfill``."""
    return torch.where(x.isnan(), _next(x), x)


@broken(with_gaps(), first=(0, 1))
def mean_of_what_is_there(x):
    """The mean of a series with gaps is taken out."""
    return x - x.nanmean(1, keepdim=True)


@broken(first=(0, 1))
def next_repeats_this(x):
    """Frozen frames: whether the next vector is the same as this one."""
    return x * (1 + (_next(x) == x).all(-1, keepdim=True))
