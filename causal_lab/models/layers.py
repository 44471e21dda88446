"""One layer: tokens look at each other, then each one thinks by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch  # noqa: F401 (the examples use it)
from torch import Tensor, nn
from torch.nn import functional as F

from causal_lab.attention.formula import attend_fused, weigh
from causal_lab.models.cache import KVCache
from causal_lab.models.inputs import check_attention, check_block_options, check_torch_layer
from causal_lab.validation import check_heads, check_tokens


@dataclass(frozen=True)
class ForwardContext:
    """What one forward pass hands to every layer besides the tokens."""

    blocked: Tensor | None = None  # bool, broadcastable to (batch, head, query, key)
    bias: Tensor | None = None  # added to the scores, broadcastable alike
    rotate: Callable[[Tensor], Tensor] | None = None  # turns queries and keys by their positions
    cache: KVCache | None = None  # stores the new keys and values, and gives back all
    weights: list[Tensor] | None = None  # collects one (batch, head, query, key) per layer
    memory: Any = None  # a Memory: another text, which cross-attention looks at


class MultiHeadAttention(nn.Module):
    """Let several heads look in parallel, each through a projection of its own.

    Source: Vaswani et al., "Attention is all you need", 2017, section 3.2.2.

    Args:
        d_model: size of a token's vector; a multiple of ``num_heads``.
        num_kv_heads: heads of keys and values, each for a group of query heads (Ainslie et al.,
            "GQA", 2023); one for each query head if not given.
        dropout: share of the weights dropped in training.
        layer: which of a cache's layers is this one's.

    >>> from causal_lab.masks import generate_causal_mask
    >>> layer = MultiHeadAttention(d_model=6, num_heads=3)
    >>> output, weights = layer(torch.zeros(2, 5, 6), blocked=generate_causal_mask(5))
    >>> tuple(output.shape), tuple(weights.shape)
    ((2, 5, 6), (2, 3, 5, 5))
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        layer: int = 0,
    ):
        super().__init__()
        self.num_kv_heads = check_heads(d_model, num_heads, num_kv_heads, dropout)
        self.num_heads, self.dropout, self.layer = num_heads, dropout, layer
        self.head_dim = d_model // num_heads
        shared = self.num_kv_heads * self.head_dim
        self.query_projection = nn.Linear(d_model, d_model, bias=bias)
        self.key_projection = nn.Linear(d_model, shared, bias=bias)
        self.value_projection = nn.Linear(d_model, shared, bias=bias)
        self.output_projection = nn.Linear(d_model, d_model, bias=bias)

    def forward(
        self,
        x: Tensor,
        context: Tensor | tuple[Tensor, Tensor] | None = None,
        *,
        blocked: Tensor | None = None,
        bias: Tensor | None = None,
        rotate: Callable[[Tensor], Tensor] | None = None,
        cache: KVCache | None = None,
        need_weights: bool = True,
        ctx: ForwardContext | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Look from the tokens of ``x`` at those of ``context``.

        Args:
            x: who looks, (batch, query, d_model).
            context: who is looked at, (batch, key, d_model), or what :meth:`read` made of it; ``x``
                itself if not given.
            blocked: bool, broadcastable to (batch, head, query, key), True where the query may not
                look; the key axis counts cached tokens too. Nothing is blocked unless you say so.
            bias: added to the scores before the softmax, broadcastable alike.
            rotate: turns queries and keys by their positions, as
                :func:`causal_lab.attention.positions.rotation` does.
            cache: stores the new keys and values, and gives back all that may be looked at.
            need_weights: False, as in a model unless asked, takes the fused path, which shows none.
            ctx: all of these, checked before, as a model hands them on.

        Returns:
            The output, (batch, query, d_model), and the weights, (batch, head, query, key), before
            dropout, so that rows sum to 1 in training too; or None.

        >>> layer = MultiHeadAttention(d_model=4, num_heads=1)
        >>> layer(torch.zeros(1, 2, 4), need_weights=False)[1] is None
        True
        """
        if ctx is None:  # called by hand
            ctx = ForwardContext(blocked, bias, rotate, cache, [] if need_weights else None)
            check_attention(self, x, context, ctx)
        q = self._split(self.query_projection(x))  # (batch, head, query, dim)
        if not isinstance(context, tuple):
            context = self._read(x if context is None else context)
        k, v = context  # (batch, head, key, dim)
        if ctx.rotate is not None:
            q, k = ctx.rotate(q), ctx.rotate(k)
        if ctx.cache is not None:
            k, v = ctx.cache.append(self.layer, k, v)  # (batch, head, old and new, dim)
        dropped = self.dropout if self.training else 0.0
        if ctx.weights is None and not dropped:
            heads, weights = attend_fused(q, k, v, ctx.blocked, ctx.bias), None
        else:
            group = self.num_heads // self.num_kv_heads
            if group > 1:  # each head of keys is looked at by a group of queries' heads
                k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
            weights = weigh(q, k, ctx.blocked, ctx.bias)  # (batch, head, query, key)
            heads = F.dropout(weights, dropped) @ v
            if ctx.weights is None:
                weights = None
            else:
                ctx.weights.append(weights)
        # Heads go behind the sequence first: a plain reshape would mix positions.
        return self.output_projection(heads.transpose(1, 2).flatten(2)), weights

    def read(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the keys and values of a text, (batch, head, key, dim): they wait for nobody.

        >>> MultiHeadAttention(d_model=4, num_heads=2).read(torch.zeros(1, 5, 4))[0].shape
        torch.Size([1, 2, 5, 2])
        """
        check_tokens("context", text, self.key_projection.weight)
        return self._read(text)

    def _read(self, text: Tensor) -> tuple[Tensor, Tensor]:
        return self._split(self.key_projection(text)), self._split(self.value_projection(text))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    @classmethod
    def from_torch(cls, module: nn.MultiheadAttention) -> "MultiHeadAttention":
        """Take over the weights of PyTorch's own layer: the same function, with weights of its own.

        Args:
            module: without ``kdim``, ``vdim``, ``add_bias_kv`` and ``add_zero_attn``.

        >>> MultiHeadAttention.from_torch(nn.MultiheadAttention(6, 3)).num_heads
        3
        """
        check_torch_layer(module)
        packed, biases = module.in_proj_weight, module.in_proj_bias
        layer = cls(
            module.embed_dim, module.num_heads, bias=biases is not None, dropout=module.dropout
        ).to(device=packed.device, dtype=packed.dtype)
        state = {f"output_projection.{name}": p for name, p in module.out_proj.named_parameters()}
        for number, part in enumerate(("query", "key", "value")):
            state[f"{part}_projection.weight"] = packed.chunk(3)[number]
            if biases is not None:
                state[f"{part}_projection.bias"] = biases.chunk(3)[number]
        layer.load_state_dict(state)
        return layer.train(module.training)


class Block(nn.Module):
    """Let the tokens look at each other, perhaps at another text, then think each by itself.

    What a subclass may exchange stands first: :class:`causal_lab.models.llama.LlamaBlock` does.

    Source: Radford et al., "Language models are unsupervised multitask learners", 2019; Devlin et
    al., "BERT", 2018; the paper, §6.

    Args:
        d_model: size of a token's vector; a multiple of ``num_heads``.
        mlp_size: width of the feed-forward layer; 4 · ``d_model`` if not given.
        dropout: share dropped in training from the weights and from every branch.
        norm_first: normalise what goes into a branch (pre-norm, GPT-2), or what comes out of the
            sum (post-norm, the first BERT).
        activation: how GELU is computed, "tanh" as in GPT-2 or "none", exactly, as in BERT.
        num_kv_heads: as for :class:`MultiHeadAttention`.
        layer: its number in the model.
        cross: whether it also looks at another text, as in an encoder–decoder.

    >>> Block(d_model=8, num_heads=2)(torch.zeros(1, 3, 8)).shape
    torch.Size([1, 3, 8])
    """

    norm: type[nn.Module] = nn.LayerNorm
    has_biases = True  # of the projections

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        mlp_size: int | None = None,
        dropout: float = 0.0,
        norm_first: bool = True,
        activation: str = "tanh",
        epsilon: float = 1e-5,
        num_kv_heads: int | None = None,
        layer: int = 0,
        cross: bool = False,
    ):
        super().__init__()
        mlp_size = check_block_options(d_model, mlp_size, activation)
        self.norm_first, self.dropout = norm_first, nn.Dropout(dropout)
        options = {"bias": self.has_biases, "dropout": dropout, "layer": layer}
        self.attention_norm = self.norm(d_model, eps=epsilon)
        self.attention = MultiHeadAttention(
            d_model, num_heads, num_kv_heads=num_kv_heads, **options
        )
        self.mlp_norm = self.norm(d_model, eps=epsilon)
        self.mlp = self.make_mlp(d_model, mlp_size, activation)
        if cross:
            self.cross_norm = self.norm(d_model, eps=epsilon)
            self.cross_attention = MultiHeadAttention(d_model, num_heads, **options)

    def make_mlp(self, d_model: int, mlp_size: int, activation: str) -> nn.Module:
        """Make what each token thinks with by itself."""
        gelu = nn.GELU(approximate=activation)
        return nn.Sequential(nn.Linear(d_model, mlp_size), gelu, nn.Linear(mlp_size, d_model))

    def forward(
        self, x: Tensor, blocked: Tensor | None = None, *, ctx: ForwardContext | None = None
    ) -> Tensor:
        """Pass the tokens through, (batch, length, d_model).

        Args:
            blocked: bool, broadcastable to (batch, head, query, key), True where the query may not
                look.
            ctx: more than that, checked before, as a model hands it on.

        >>> from causal_lab.masks import generate_causal_mask
        >>> Block(d_model=8, num_heads=2)(torch.zeros(1, 3, 8), generate_causal_mask(3)).shape
        torch.Size([1, 3, 8])
        """
        if ctx is None:  # called by hand
            ctx = ForwardContext(blocked)
            check_attention(self.attention, x, None, ctx)
        x = self._add(x, self.attention_norm, lambda y: self.attention(y, ctx=ctx)[0])
        if ctx.memory is not None:
            # Computed once per text, in EncoderDecoder.encode.
            read = ctx.memory.keys_values[self.cross_attention.layer]
            x = self._add(
                x, self.cross_norm, lambda y: self.cross_attention(y, read, ctx=ctx.memory)[0]
            )
        return self._add(x, self.mlp_norm, self.mlp)

    def _add(self, x: Tensor, norm: nn.Module, branch: Callable[[Tensor], Tensor]) -> Tensor:
        """Add a branch to the sum, normalised before it (GPT-2) or after (BERT)."""
        if self.norm_first:
            return x + self.dropout(branch(norm(x)))
        return norm(x + self.dropout(branch(x)))
