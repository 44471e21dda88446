"""Modules that look suspicious and are causal, and a few about which nothing can be said."""

import math
import os
import random
import time
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from tests.causality.zoo.broken import (
    DIM,
    INFINITY,
    LENGTH,
    VOCABULARY,
    Attention,
    Case,
    OnTokens,
    floats,
    from_the_past,
    register,
    tokens,
    with_gaps,
)

HONEST: list[Case] = []
UNDECIDED: list[Case] = []

ALL_OF_THE_PAST = torch.ones(LENGTH, LENGTH).tril()
ONLY_ITSELF = torch.eye(LENGTH)
THE_ONE_BEFORE = torch.ones(LENGTH, LENGTH).tril(-1).triu(-1)


def honest(inputs: Tensor | None = None, **settings):
    return register(HONEST, floats() if inputs is None else inputs, True, settings)


def undecided(inputs: Tensor | None = None, **settings):
    return register(UNDECIDED, floats() if inputs is None else inputs, None, settings)


def previous(x):
    return F.pad(x[:, :-1], (0, 0, 1, 0))


def following(x):
    return F.pad(x[:, 1:], (0, 0, 0, 1))


# --- attention


@honest(depends=ALL_OF_THE_PAST, length_dependent=False)
class Plainly(Attention):
    """As it should be."""


@honest(depends=ALL_OF_THE_PAST)
class FusedKernel(Attention):
    """The fused kernel's own mask."""

    def forward(self, x):
        heads = F.scaled_dot_product_attention(*self.split(x), is_causal=True)
        return self.out(self.merge(heads))


@honest()
class ReplacedByMinusTenThousand(Attention):
    """A finite fill, but in place of the score: exp(−10⁴) is zero in every precision."""

    def weights(self, scores):
        return scores.masked_fill(~from_the_past(scores.shape[-1]), -1e4).softmax(-1)


@honest()
class LowestNumberAdded(Attention):
    """Transformers' additive mask: the lowest number of the dtype."""

    def weights(self, scores):
        mask = torch.zeros(scores.shape[-2:], dtype=scores.dtype)
        mask.masked_fill_(~from_the_past(scores.shape[-1]), torch.finfo(scores.dtype).min)
        return (scores + mask).softmax(-1)


@honest()
class MaskedAfterSoftmaxAndRenormalised(Attention):
    """Softmax over all, masked, divided by what is left: the future cancels up to rounding."""

    def weights(self, scores):
        kept = scores.softmax(-1) * from_the_past(scores.shape[-1])
        return kept / kept.sum(-1, keepdim=True)


@honest()
class StabilisedByTheGlobalMaximum(Attention):
    """The maximum over all scores, future ones too, is subtracted: only rounding remains."""

    def weights(self, scores):
        exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
        kept = exponentials * from_the_past(scores.shape[-1])
        return kept / kept.sum(-1, keepdim=True)


@honest(depends=ALL_OF_THE_PAST.triu(-2) + F.pad(torch.ones(LENGTH, 1), (0, 7)) > 0)
class WindowAndSink(Attention):
    """A sliding window of three and one sink."""

    def weights(self, scores):
        keep = from_the_past(scores.shape[-1]).triu(-2)
        keep[:, 0] = True
        return scores.masked_fill(~keep, -INFINITY).softmax(-1)


@honest(lookahead=-1)
class RowsThatSeeNothing(Attention):
    """Strictly causal: the first row sees no key and gives zeros instead of NaN."""

    def weights(self, scores):
        mask = ~from_the_past(scores.shape[-1]).tril(-1)
        weights = scores.masked_fill(mask, -INFINITY).softmax(-1)
        return torch.where(mask.all(-1, keepdim=True), 0.0, weights)

    def forward(self, x):
        _, keys, values = self.split(x)
        queries = self.scores(torch.ones_like(keys), keys)
        return self.out(self.merge(self.weights(queries) @ values))


@honest()
class FirstOutputIsNone(Attention):
    """The first row sees no key and its output is NaN; the others are numbers."""

    def weights(self, scores):
        mask = ~from_the_past(scores.shape[-1]).tril(-1)
        return scores.masked_fill(mask, -INFINITY).softmax(-1)


@honest()
class Alibi(Attention):
    """A bias by distance."""

    def weights(self, scores):
        position = torch.arange(scores.shape[-1])
        distance = (position[:, None] - position).to(scores.dtype)
        slopes = torch.tensor([0.5, 0.25], dtype=scores.dtype)[:, None, None]
        return super().weights(scores - slopes * distance)


@honest()
class Rotary(Attention):
    """Queries and keys are turned by their position, as complex numbers in float32."""

    def turn(self, x):
        angle = torch.arange(x.shape[2]).float()[:, None]
        turned = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
        turned = turned * torch.polar(torch.ones_like(angle), angle)
        return torch.view_as_real(turned).flatten(-2).type_as(x)

    def scores(self, queries, keys):
        return super().scores(self.turn(queries), self.turn(keys))


@honest()
class BlockSparse(Attention):
    """Local blocks and the first column of every block, all in the past."""

    def weights(self, scores):
        position = torch.arange(scores.shape[-1])
        keep = (position // 4 == position[:, None] // 4) | (position % 4 == 0)
        keep &= from_the_past(scores.shape[-1])
        return scores.masked_fill(~keep, -INFINITY).softmax(-1)


@honest()
class OnlineSoftmax(Attention):
    """FlashAttention's running maximum and sum, over blocks of keys."""

    def forward(self, x):
        queries, keys, values = self.split(x)
        length = x.shape[1]
        top = queries.new_full((*queries.shape[:3], 1), -1e30)
        below, above = torch.zeros_like(top), torch.zeros_like(queries)
        for start in range(0, length, 3):
            block = slice(start, start + 3)
            scores = self.scores(queries, keys[:, :, block])
            scores = scores.masked_fill(~from_the_past(length)[:, block], -INFINITY)
            new = torch.maximum(top, scores.amax(-1, keepdim=True))
            weights, old = (scores - new).exp(), (top - new).exp()
            below = below * old + weights.sum(-1, keepdim=True)
            above, top = above * old + weights @ values[:, :, block], new
        return self.out(self.merge(above / below))


@honest()
class ChunkedQueries(Attention):
    """Queries by chunks, each against all keys up to its end."""

    def forward(self, x):
        queries, keys, values = self.split(x)
        parts = []
        for start in range(0, x.shape[1], 3):
            end = min(start + 3, x.shape[1])
            scores = self.scores(queries[:, :, start:end], keys[:, :, :end])
            keep = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(start)
            parts.append(scores.masked_fill(~keep, -INFINITY).softmax(-1) @ values[:, :, :end])
        return self.out(self.merge(torch.cat(parts, 2)))


@honest()
class ChunkedLinearAttention(Attention):
    """A state between chunks of four and masked products inside; the end is padded."""

    def forward(self, x):
        queries, keys, values = (F.pad(p, (0, 0, 0, -x.shape[1] % 4)) for p in self.split(x))
        queries, keys, values = (p.unflatten(2, (-1, 4)) for p in (queries, keys, values))
        inside = (queries @ keys.mT).tril() @ values
        states = (keys.mT @ values).cumsum(2)
        before = torch.cat([torch.zeros_like(states[:, :, :1]), states[:, :, :-1]], 2)
        out = (inside + queries @ before).flatten(2, 3)[:, :, : x.shape[1]]
        return self.out(self.merge(out))


@honest()
class LinearAttentionByDifference(Attention):
    """Total minus the future's sum, taken as a difference: equal up to rounding."""

    def forward(self, x):
        queries, keys, values = self.split(x)
        products = keys[..., None] * values[..., None, :]
        later = products.flip(2).cumsum(2).flip(2) - products
        sums = products.sum(2, keepdim=True) - later
        return self.out(self.merge((queries[..., None, :] @ sums).squeeze(-2)))


class Caching(Attention):
    """Keys and values are kept in a cache that every call clears."""

    def __init__(self):
        super().__init__()
        self.cache = {"keys": [], "values": []}

    def forward(self, x):
        for part in self.cache.values():
            part.clear()
        outputs = []
        for t in range(x.shape[1]):
            queries, keys, values = self.split(x[:, t : t + 1])
            self.cache["keys"].append(keys)
            self.cache["values"].append(values)
            keys, values = (torch.cat(part, 2) for part in self.cache.values())
            outputs.append(self.scores(queries, keys).softmax(-1) @ values)
        return self.out(self.merge(torch.cat(outputs, 2)))


honest(depends=ALL_OF_THE_PAST)(Caching)


@honest(train=False)
class EncoderLayerWithItsMask(nn.Module):
    """The fast path of eval mode, with hint and mask."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(DIM, 2, 8, batch_first=True)

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        return self.layer(x, src_mask=mask, is_causal=True)


@honest(forward_kwargs={"mask": from_the_past()})
class MaskFromOutside(Attention):
    """The mask is an argument, and is cut with the sequence."""

    def forward(self, x, mask):
        queries, keys, values = self.split(x)
        scores = self.scores(queries, keys).masked_fill(~mask, -INFINITY)
        return self.out(self.merge(scores.softmax(-1) @ values))


# --- convolutions, scans, sums


@honest(depends=ALL_OF_THE_PAST.triu(-2))
class FourierConvolution(nn.Module):
    """Long convolution by FFT with zero padding, in float32: rounding reaches the past."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(3, DIM))

    def forward(self, x):
        size = x.shape[1] + len(self.kernel)
        kernel = torch.fft.rfft(self.kernel.float(), size, dim=0)
        product = torch.fft.rfft(x.float(), size, dim=1) * kernel
        return torch.fft.irfft(product, size, dim=1)[:, : x.shape[1]].type_as(x)


@honest(floats(dtype=torch.float64))
class FourierConvolutionInDouble(FourierConvolution):
    """A float64 model whose FFT casts down to float32 inside."""


@honest(floats(batch=2, length=16))
class FourierConvolutionInDoubleInside(FourierConvolution):
    """An FFT in float64 inside: both precisions carry the same noise, behind a tanh."""

    def forward(self, x):
        y, size = x.double(), 2 * x.shape[1]
        kernel = torch.fft.rfft(self.kernel.double(), size, dim=0)
        convolved = torch.fft.irfft(torch.fft.rfft(y, size, dim=1) * kernel, size, dim=1)
        return torch.tanh(convolved[:, : x.shape[1]].to(x.dtype))


@honest(floats(dtype=torch.bfloat16))
class FourierConvolutionInHalf(FourierConvolution):
    """A bfloat16 model whose FFT casts up to float32 inside."""


@honest(depends=ALL_OF_THE_PAST.triu(-2))
class PaddedLeft(nn.Module):
    """A convolution, padded on the left."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(DIM, DIM, 3)

    def forward(self, x):
        return self.convolution(F.pad(x.mT, (2, 0))).mT


@honest(depends=ONLY_ITSELF + sum(torch.ones(8, 8).tril(-d).triu(-d) for d in (2, 4)))
class DilatedAndChomped(nn.Module):
    """A temporal convolution: padded on both sides, the end cut off."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(DIM, DIM, 3, dilation=2, padding=4)

    def forward(self, x):
        return self.convolution(x.mT)[..., :-4].mT


@honest(lookahead=2)
class TwoAhead(nn.Module):
    """A convolution that may see two steps ahead, and does."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(DIM, DIM, 5, padding=2)

    def forward(self, x):
        return self.convolution(x.mT).mT


@honest(lookahead=-1, depends=THE_ONE_BEFORE)
def the_one_before(x):
    """Strictly causal: the token shift alone."""
    return previous(x)


@honest(depends=ONLY_ITSELF + THE_ONE_BEFORE)
def token_shift(x):
    """RWKV's mix with the previous token."""
    return 0.7 * x + 0.3 * previous(x)


@honest()
def moving_average(x):
    """A window as a difference of cumulative sums."""
    total = x.cumsum(1)
    return (total - F.pad(total, (0, 0, 4, 0))[:, : x.shape[1]]) / 4


@honest()
def total_minus_the_rest(x):
    """A cumulative sum as the total less what follows: the future cancels up to rounding."""
    return x.sum(1, keepdim=True) - (x.flip(1).cumsum(1).flip(1) - x)


@honest(floats(dtype=torch.float16))
def prefix_sums_in_single(x):
    """Half precision inputs, summed in float32."""
    return x.float().cumsum(1).to(x.dtype)


@honest()
def log_cumulative_sum_of_exponentials(x):
    """Numerically safe, with a maximum inside."""
    return x.logcumsumexp(1)


@honest()
def running_maximum(x):
    """Causal max pooling."""
    return x.cummax(1).values


@honest()
def chunked_scan(x):
    """A decaying state, by chunks: products with powers, then a carry."""
    parts, state = [], torch.zeros_like(x[:, 0])
    for chunk in x.split(3, dim=1):
        powers = 0.9 ** torch.arange(chunk.shape[1], dtype=x.dtype)
        out = (powers[:, None] / powers).tril() @ chunk + 0.9 * powers[:, None] * state[:, None]
        parts.append(out)
        state = out[:, -1]
    return torch.cat(parts, 1)


@honest()
def doubling_scan(x):
    """Hillis and Steele: log(length) rounds of shifted sums."""
    length, step = x.shape[1], 1
    while step < length:
        x = x + F.pad(x, (0, 0, step, 0))[:, :length]
        step *= 2
    return x


@honest()
def product_with_a_mask(x):
    """Cumulative mean as one matrix product, with zeros times the future."""
    keep = torch.ones(x.shape[1], x.shape[1], dtype=x.dtype).tril()
    return (keep / keep.sum(1, keepdim=True)) @ x


@honest()
def zero_times_the_future(x):
    """The next input, times zero."""
    return x + 0.0 * following(x)


@honest()
def there_and_back(x):
    """The next input is added and taken off again."""
    return (x + following(x)) - following(x)


@honest()
def large_there_and_back(x):
    """A thousand times the rest is added and taken off again: rounding is then not small."""
    rest = 1e3 * x.flip(1).cumsum(1).flip(1)
    return (x + rest) - rest


class Recurrent(nn.Module):
    """A recurrent layer."""

    def __init__(self, kind):
        super().__init__()
        self.recurrent = kind(DIM, 3, num_layers=2, batch_first=True)

    def forward(self, x):
        return self.recurrent(x)[0]


for _kind in (nn.LSTM, nn.GRU, nn.RNN):
    HONEST.append(
        Case(f"Recurrent{_kind.__name__}", lambda kind=_kind: Recurrent(kind), floats(), True)
    )


@honest()
class OneStepAtATime(nn.Module):
    """A cell in a Python loop."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(DIM, 3)

    def forward(self, x):
        state, outputs = None, []
        for step in x.unbind(1):
            state = self.cell(step, state)
            outputs.append(state)
        return torch.stack(outputs, 1)


# --- normalisation and training tricks


@honest(train=False, depends=ONLY_ITSELF)
class BatchNormInUse(nn.Module):
    """Running statistics; the module comes in train mode and is judged in eval mode."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(DIM)

    def forward(self, x):
        return self.norm(x.mT).mT


@honest(train=True)
class DropoutInTraining(Attention):
    """Random numbers that do not depend on the inputs."""

    def weights(self, scores):
        return F.dropout(super().weights(scores), 0.5, training=self.training)


@honest(train=True)
class SpectralNorm(nn.Module):
    """Every call in train mode takes a step of the power iteration, in buffers."""

    def __init__(self):
        super().__init__()
        self.linear = parametrizations.spectral_norm(nn.Linear(DIM, DIM))

    def forward(self, x):
        return self.linear(previous(x))


@honest()
class WeightNorm(nn.Module):
    """A reparametrised convolution."""

    def __init__(self):
        super().__init__()
        self.convolution = parametrizations.weight_norm(nn.Conv1d(DIM, DIM, 2))

    def forward(self, x):
        return self.convolution(F.pad(x.mT, (1, 0))).mT


@honest()
class StatisticsWritten(nn.Module):
    """Buffers take in the mean of what came; outputs use them as they were before."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(DIM))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        out = x - self.mean.clone()
        self.mean.lerp_(x.detach().mean((0, 1)), 0.1)
        self.calls += 1
        return out


@honest()
def gradient_straight_through(x):
    """The value is x; the gradient is the future's, and nothing of it ever comes."""
    soft = following(x).softmax(-1)
    return x + soft - soft.detach()


@honest(tokens())
class TokensStraightThrough(OnTokens):
    """The same behind an embedding."""

    def forward(self, ids):
        x = self.embedding(ids)
        return x + following(x) - following(x).detach()


@honest()
def rounded_straight_through(x):
    """Quantisation of single values, with the gradient passed on."""
    return x + (x.round() - x).detach()


@honest()
def gradient_inside(x):
    """An energy model: the output is a gradient, taken in the forward pass."""
    with torch.enable_grad():
        leaf = x if x.requires_grad else x.detach().requires_grad_()
        energy = (leaf.cumsum(1).detach() * leaf).square().sum()
        return torch.autograd.grad(energy, leaf, create_graph=True)[0]


class Around(nn.Module):
    """An attention inside something."""

    def __init__(self):
        super().__init__()
        self.inner = Attention()


@honest()
class Checkpointed(Around):
    """Activations are computed again in the backward pass."""

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False)


@honest()
class UnderAutocast(Around):
    """Matrix products in bfloat16."""

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.inner(x)


@honest()
class WithoutGradient(Around):
    """The whole forward pass is under ``no_grad``."""

    @torch.no_grad()
    def forward(self, x):
        return self.inner(x)


@honest()
class InInferenceMode(Around):
    """The whole forward pass is in inference mode."""

    @torch.inference_mode()
    def forward(self, x):
        return self.inner(x)


# --- dependence on the length


@honest(length_dependent=True)
def divided_by_the_length(x):
    """The future's size, not what is in it."""
    return x / x.shape[1]


@honest(length_dependent=True)
def counted_back(x):
    """Positions from the end, of a length that is no content."""
    return x * torch.arange(x.shape[1], 0, -1, dtype=x.dtype)[:, None]


@honest()
class TableOfFixedLength(nn.Module):
    """Learned positions: no other length can be run."""

    def __init__(self):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(LENGTH, DIM))

    def forward(self, x):
        return (x + self.positions).cumsum(1)


# --- what goes in and comes out


@honest()
def writes_into_its_inputs(x):
    """The inputs are scaled in place."""
    with torch.no_grad():
        x.mul_(2)
    return previous(x)


@honest()
def as_dict(x):
    """A dictionary, of which ``logits`` is judged."""
    return {"hidden": x.flip(1), "logits": x.cumsum(1), "loss": x.mean()}


@honest()
def as_tuple(x):
    """A tuple, whose first part with a time axis is judged."""
    return x.mean(), x.cumsum(1), None


@dataclass
class Result:
    loss: Tensor
    last_hidden_state: Tensor


@honest()
def as_dataclass(x):
    """An object with attributes."""
    return Result(x.sum(), x.cumsum(1))


@honest()
def as_ordered_dict(x):
    """An ordered dictionary without any known name."""
    return OrderedDict(loss=x.sum(), states=x.cumsum(1))


@honest(output=lambda result: result[1].transpose(0, 1))
def time_first(x):
    """Time comes first in the result and is put in its place by a function."""
    return None, x.cumsum(1).transpose(0, 1)


@honest()
def whole_numbers(x):
    """Integer outputs: the argmax over features of the sums."""
    return x.cumsum(1).argmax(-1)


@honest()
def complex_numbers(x):
    """Complex outputs."""
    return torch.polar(torch.ones_like(x), x).cumprod(1)


@honest()
def signs(x):
    """Booleans."""
    return x.cumsum(1) > 0


@honest(floats(dtype=torch.float64))
class InDouble(Attention):
    """A float64 model."""

    def __init__(self):
        super().__init__()
        self.double()


@honest(floats(dtype=torch.float16))
class InHalf(Attention):
    """A float16 model with the usual fill."""

    def __init__(self):
        super().__init__()
        self.half()


@honest(floats(dtype=torch.bfloat16))
class InBrainFloat(Attention):
    """A bfloat16 model."""

    def __init__(self):
        super().__init__()
        self.bfloat16()


@honest(floats(dtype=torch.bfloat16))
def brain_float_by_difference(x):
    """Prefix sums in bfloat16 as total less rest: rounding of a percent reaches the past."""
    return x.sum(1, keepdim=True) - (x.flip(1).cumsum(1).flip(1) - x)


@honest()
def some_are_none(x):
    """Square roots of negative sums: some outputs for the real inputs are NaN."""
    return x.cumsum(1).sqrt()


# --- routing, order


@honest()
class TokensChoose(nn.Module):
    """A mixture of experts: each gathers its tokens, and the size of a product rounds it."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(DIM, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(DIM, 32), nn.GELU(), nn.Linear(32, DIM)) for _ in range(3)
        )

    def forward(self, x):
        flat = x.flatten(0, 1)
        weights, chosen = self.router(flat).softmax(-1).topk(2, dim=-1)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            token, slot = (chosen == number).nonzero(as_tuple=True)
            out.index_add_(0, token, expert(flat[token]) * weights[token, slot, None])
        return out.view_as(x)


@honest()
class CapacityInOrder(nn.Module):
    """Experts drop tokens when they are full: first come, first served, in each row."""

    def __init__(self):
        super().__init__()
        self.router, self.expert = nn.Linear(DIM, 2), nn.Linear(DIM, DIM)

    def forward(self, x):
        chosen = F.one_hot(self.router(x).argmax(-1), 2)
        place = (chosen.cumsum(1) * chosen).sum(-1, keepdim=True)
        return x + self.expert(x) * (place <= 2)


@honest()
def sorted_over_features(x):
    """Sorting along the other axis."""
    return x.sort(dim=-1).values


@honest()
def largest_so_far(x):
    """The two largest of all that came."""
    reaches = [F.pad(x[:, : t + 1], (0, 0, 1, 0)) for t in range(x.shape[1])]
    return torch.stack([reach.topk(2, dim=1).values.sum(1) for reach in reaches], dim=1)


@honest()
def sorted_within_reach(x):
    """Sorting over time, of copies in which the future is masked."""
    keep = from_the_past(x.shape[1])[None, :, :, None]
    return torch.where(keep, x[:, None], INFINITY).sort(dim=2).values[:, :, 0]


@honest()
class OwnNoise(nn.Module):
    """Gumbel noise from the module's own generator."""

    def __init__(self):
        super().__init__()
        self.noise = torch.Generator().manual_seed(5)

    def forward(self, x):
        uniform = torch.rand(x.shape, generator=self.noise, dtype=torch.float32)
        return (x - (-uniform.clamp_min(1e-6).log()).log()).softmax(-1)


@honest()
def scattered(x):
    """Prefix sums by ``index_add``, one pair at a time."""
    source, target = from_the_past(x.shape[1]).mT.nonzero(as_tuple=True)
    return torch.zeros_like(x).index_add(1, target, x[:, source])


# --- tokens


@honest(tokens(), special_ids=[0, 1], depends=ALL_OF_THE_PAST)
class TokensPlainly(OnTokens):
    """An ordinary little language model."""

    def __init__(self):
        super().__init__(Attention())


@honest(tokens(), special_ids=[0])
class PaddingAndCausalMask(OnTokens):
    """Both masks together; a row of nothing but pads still sees itself."""

    def __init__(self):
        super().__init__(Attention())

    def keep(self, ids):
        return (ids != 0)[:, None, None, :]

    def forward(self, ids):
        queries, keys, values = self.inner.split(self.embedding(ids))
        keep = from_the_past(ids.shape[1]) & self.keep(ids)
        keep = keep | torch.eye(ids.shape[1], dtype=torch.bool)
        scores = self.inner.scores(queries, keys).masked_fill(~keep, -INFINITY)
        return self.inner.out(self.inner.merge(scores.softmax(-1) @ values))


@honest(tokens(), special_ids=[1])
class DocumentsPacked(PaddingAndCausalMask):
    """Documents in one row, parted after each end of text."""

    def keep(self, ids):
        ended = (ids == 1).cumsum(1) - (ids == 1).long()
        return ended[:, None, :, None] == ended[:, None, None, :]


@honest(tokens())
class EmbeddingTransposed(OnTokens):
    """Time comes first inside."""

    def forward(self, ids):
        return self.embedding(ids.T).cumsum(0).transpose(0, 1)


@honest(tokens())
class HashedPairs(OnTokens):
    """An embedding of hashed pairs of tokens."""

    def forward(self, ids):
        return self.embedding((F.pad(ids, (1, 0))[:, :-1] * 31 + ids) % VOCABULARY)


@honest(tokens())
def one_hot_counts(ids):
    """How often each id came so far."""
    return F.one_hot(ids, VOCABULARY).cumsum(1).float()


@honest(tokens())
class Looped(OnTokens):
    """Tokens are looked up one by one."""

    def forward(self, ids):
        total, outputs = torch.zeros(len(ids), DIM), []
        for t in range(ids.shape[1]):
            total = total + self.embedding(ids[:, t])
            outputs.append(total)
        return torch.stack(outputs, 1)


@honest(tokens())
class NormsClipped(nn.Module):
    """``padding_idx`` and ``max_norm``: a lookup rewrites the table."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, DIM, padding_idx=0, max_norm=0.5)

    def forward(self, ids):
        return self.embedding(ids).cumsum(1)


@honest(tokens())
class OutputsTiedToTheTable(OnTokens):
    """Logits by the transposed embedding, after prefix sums."""

    def forward(self, ids):
        return self.embedding(ids).cumsum(1) @ self.embedding.weight.T


@honest(tokens())
def ids_as_floats(ids):
    """Ids are fed as numbers."""
    return ids.float().cumsum(1).unsqueeze(-1)


@honest(tokens())
def seen_before(ids):
    """Whether this id came before: equality with the past only."""
    return (ids[:, :, None] == ids[:, None, :]).tril(-1).any(-1)


@honest(tokens(), special_ids=[1])
def after_the_end(ids):
    """Outputs after the end of text are zero."""
    return torch.where((ids == 1).cumsum(1) > 0, 0, ids).float().unsqueeze(-1)


@honest(tokens(), special_ids=[0])
class PackedSequence(OnTokens):
    """Rows are cut where only pads follow and packed: the past stays as it is."""

    def __init__(self):
        super().__init__(nn.GRU(DIM, DIM, batch_first=True))

    def forward(self, ids):
        position = torch.arange(1, ids.shape[1] + 1)
        lengths = ((ids != 0) * position).amax(1).clamp_min(1)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(ids), lengths, batch_first=True, enforce_sorted=False
        )
        padded = nn.utils.rnn.pad_packed_sequence(
            self.inner(packed)[0], batch_first=True, total_length=ids.shape[1]
        )
        # Inner pads are kept as they are, so what is cut off holds nothing but pads.
        return torch.where((ids != 0)[..., None], padded[0], 0.0)


# --- state of many kinds


@honest()
class OwnPythonRandom(nn.Module):
    """Noise from the module's own ``random.Random``."""

    def __init__(self):
        super().__init__()
        self.noise = random.Random(5)

    def forward(self, x):
        return x + self.noise.random()


@honest()
class OwnNumpyGenerator(nn.Module):
    """Noise from the module's own NumPy generator."""

    def __init__(self):
        super().__init__()
        self.noise = np.random.default_rng(5)

    def forward(self, x):
        return x + self.noise.standard_normal()


@honest()
class GeneratorsInAList(nn.Module):
    """One torch generator per head, in a list."""

    def __init__(self):
        super().__init__()
        self.noises = [torch.Generator().manual_seed(number) for number in range(2)]

    def forward(self, x):
        return x + sum(torch.rand(1, generator=noise) for noise in self.noises)


@honest()
class ScratchInNumpy(nn.Module):
    """A NumPy array is written at every call, and only what was written is read."""

    def __init__(self):
        super().__init__()
        self.scratch = np.zeros((2, LENGTH, DIM))

    def forward(self, x):
        length = x.shape[1]
        np.cumsum(x.detach().double().numpy(), axis=1, out=self.scratch[:, :length])
        return torch.from_numpy(self.scratch[:, :length].copy()).to(x)


@honest()
class LazyLinear(nn.Module):
    """Its shape is found at the first call."""

    def __init__(self):
        super().__init__()
        self.linear = nn.LazyLinear(3)

    def forward(self, x):
        return self.linear(x).cumsum(1)


@honest()
class ExpandedBuffer(nn.Module):
    """A buffer whose rows share memory."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.full((1, DIM), 0.5).expand(2, DIM))

    def forward(self, x):
        return x.cumsum(1) * self.scale[0]


@honest()
class HookThatRemembers(nn.Module):
    """A forward hook collects activations in a dictionary of lists."""

    def __init__(self):
        super().__init__()
        self.activations = defaultdict(list)
        self.linear = nn.Linear(DIM, DIM)
        self.linear.register_forward_hook(self.keep)

    def keep(self, module, inputs, output):
        self.activations[type(module).__name__].append(output.detach())

    def forward(self, x):
        return self.linear(previous(x))


@honest()
class CountsInCounters(nn.Module):
    """A counter and a deque that outputs do not use."""

    def __init__(self):
        super().__init__()
        self.counts, self.recent = Counter(calls=2), deque([1.0], maxlen=3)

    def forward(self, x):
        self.counts["calls"] += 1
        self.recent.append(float(x.detach().sum()))
        return x.cumsum(1)


@honest()
class ModeSwitchedInside(nn.Module):
    """Puts itself into eval mode, and freezes its weights, as some wrappers do."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(DIM, DIM)

    def forward(self, x):
        self.eval()
        self.linear.weight.requires_grad_(False)
        return self.linear(x)


@honest(tokens().int())
class ShortIntegers(OnTokens):
    """Ids of 32 bits."""

    def forward(self, ids):
        return self.embedding(ids).cumsum(1)


@honest(tokens().to(torch.uint8))
class Bytes(OnTokens):
    """Ids of one byte each."""

    def forward(self, ids):
        return self.embedding(ids.long()).cumsum(1)


@honest(floats(dim=12).unflatten(2, (3, 4)))
def pictures(x):
    """A sequence of pictures."""
    return x.cumsum(1).flip(-1)


# --- cancellation


@honest()
class LargeThereAndBackWithWeights(nn.Module):
    """As ``large_there_and_back``, behind a layer with float32 weights."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(DIM, DIM)

    def forward(self, x):
        return large_there_and_back(self.linear(x))


honest(floats(dtype=torch.float64), name="large_there_and_back_in_double")(large_there_and_back)


@honest()
class FourierConvolutionWithGain(nn.Module):
    """A long convolution between a gain of 10⁴ and its inverse."""

    def __init__(self):
        super().__init__()
        self.inner = FourierConvolution()

    def forward(self, x):
        return self.inner(x * 1e4) * 1e-4 + previous(x)


@honest()
def running_variance(x):
    """Mean of squares minus square of mean."""
    count = torch.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None]
    return (x.square().cumsum(1) / count - (x.cumsum(1) / count).square()).clamp_min(0).sqrt()


@honest(with_gaps())
def filled_forwards(x):
    """Missing values are taken from the vector before: pandas' ``ffill``."""
    return torch.where(x.isnan(), previous(x), x)


# --- nothing can be said


@undecided()
def nothing_but_nan(x):
    """No output is a number."""
    return x * torch.nan


@undecided()
def always_raises(x):
    """The model cannot be run."""
    raise RuntimeError("a kernel is missing")


@undecided()
class CountsCalls(nn.Module):
    """A plain attribute counts calls and changes the outputs."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


@undecided()
class RemembersTheLastInput(nn.Module):
    """A state that goes from call to call, in a list."""

    def __init__(self):
        super().__init__()
        self.history = []

    def forward(self, x):
        self.history.append(x.detach().mean())
        return x + sum(self.history)


_EARLIER = {}  # what a module keeps outside itself


@undecided()
class KeepsTheLastInputOutside(nn.Module):
    """The last call's input, in a global: a changed one lingers."""

    def __init__(self):
        super().__init__()
        _EARLIER.clear()

    def forward(self, x):
        earlier = _EARLIER.get("x", x)
        _EARLIER["x"] = x.detach()
        return x + (earlier if earlier.shape == x.shape else x)


@undecided()
def from_the_operating_system(x):
    """Random numbers that no seed governs."""
    return x + torch.tensor([byte / 255 for byte in os.urandom(DIM)], dtype=x.dtype)


@undecided()
def by_the_clock(x):
    """The time of day."""
    return x * (time.perf_counter_ns() % 1_000_003)


@undecided()
def nothing_at_all(x):
    """An empty output."""
    return x[..., :0]


@undecided(floats(length=1))
def too_short(x):
    """One position has no future."""
    return x


@undecided(lookahead=LENGTH)
def looks_further_than_there_is(x):
    """All the sequence may be seen."""
    return x


@undecided()
class RaisesAtOtherInputs(nn.Module):
    """Runs for the real inputs only: a table of what was computed before."""

    def __init__(self):
        super().__init__()
        self.known = floats()

    def forward(self, x):
        if not torch.equal(x.detach().float(), self.known):
            raise KeyError("not computed before")
        return x.detach() * 1


@undecided(torch.zeros(2, LENGTH, dtype=torch.long))
def only_one_id_is_known(ids):
    """Nothing says which other ids there are."""
    return ids.float().unsqueeze(-1)


_STATE = {"calls": 0}


@undecided()
def global_counter(x):
    """A counter outside of the module."""
    _STATE["calls"] += 1
    return x + math.sin(_STATE["calls"])
