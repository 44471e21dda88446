"""Who may look at whom: boolean masks, True where attention is blocked.

Rows are queries (who looks), columns are keys (who is looked at). All masks here
combine with ``|`` (blocked by either), ``&`` (blocked by both) and ``~`` (the opposite), and
broadcast against ``(batch, head, query, key)``.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from causal_lab.validation import check_boolean, check_size, describe

Device = torch.device | str | None


def algorithm_4_causal_mask(T: int) -> Tensor:
    """Build the causal logit mask entry by entry, as the paper writes it (Algorithm 4, B.2).

    Two plain loops, slow on purpose: this is the reference that the fast versions are compared
    with.

    Returns:
        float32, (query, key) = (T, T), 0 where ``key <= query``, −∞ above the diagonal.

    >>> algorithm_4_causal_mask(3).tolist()
    [[0.0, -inf, -inf], [0.0, 0.0, -inf], [0.0, 0.0, 0.0]]
    """
    T = check_size("T", T)
    M = torch.empty(T, T)
    for i in range(1, T + 1):  # the paper counts from 1
        for j in range(1, T + 1):
            if j <= i:
                M[i - 1, j - 1] = 0.0
            else:
                M[i - 1, j - 1] = float("-inf")
    return M


def block_future(past_len: int, current_len: int, *, device: Device = None) -> Tensor:
    """Block every key that comes after its query, unchecked: what models and caches call.

    Returns:
        bool, (query, key) = (current_len, past_len + current_len), True where the key comes later.

    >>> block_future(1, 2).int().tolist()
    [[0, 0, 1], [0, 0, 0]]
    """
    return torch.full((current_len, past_len + current_len), True, device=device).triu(past_len + 1)


def generate_causal_mask(T: int, *, device: torch.device | str | None = None) -> Tensor:
    """Block every key that comes after its query (B.4, §4.1).

    The paper hands ``device`` on without its name (B.6); here it is named, as in every function
    that makes a tensor.

    Returns:
        bool, (query, key) = (T, T), True where the query may not look: strictly above the diagonal.

    >>> generate_causal_mask(4).int().tolist()
    [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    """
    return block_future(0, check_size("T", T), device=device)


def generate_causal_logit_mask(
    T: int, *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Make the matrix M that is added to the scores: 0 or −∞ (B.5, §4.1).

    The paper's text says "a large negative value", its code says −∞; only −∞ gives a weight of
    exactly 0 for every score.

    Args:
        dtype: a floating dtype, the same as that of the scores.

    Returns:
        (query, key) = (T, T), 0 where the query may look, −∞ where it may not.

    >>> generate_causal_logit_mask(2).tolist()
    [[0.0, -inf], [0.0, 0.0]]
    """
    return to_additive(generate_causal_mask(T, device=device), dtype)


def generate_incremental_mask(
    past_len: int, current_len: int, *, device: torch.device | str | None = None
) -> Tensor:
    """Block the future for a chunk of new tokens behind a KV cache (B.7).

    Query ``i`` of the chunk stands at position ``past_len + i``, so the rectangle is aligned at its
    lower right corner.

    Args:
        past_len: tokens already cached; 0 gives the square causal mask.
        current_len: new tokens in this chunk, at least 1.

    Returns:
        bool, (query, key) = (current_len, past_len + current_len), True where the query may not
        look.

    >>> generate_incremental_mask(2, 2).int().tolist()
    [[0, 0, 0, 1], [0, 0, 0, 0]]
    """
    past_len = check_size("past_len", past_len, minimum=0)
    current_len = check_size("current_len", current_len)
    return block_future(past_len, current_len, device=device)


def generate_sliding_window_mask(
    T: int, window: int, *, sinks: int = 0, device: torch.device | str | None = None
) -> Tensor:
    """Block the future, and what lies further back than a window.

    Source: Beltagy et al., "Longformer", 2020; for the sinks, Xiao et al., "Efficient streaming
    language models with attention sinks", 2023.

    Args:
        window: how many tokens a query sees, its own included, at least 1.
        sinks: how many of the first tokens every query sees nevertheless, if they are not its
            future.

    Returns:
        bool, (query, key) = (T, T), True where the query may not look.

    >>> generate_sliding_window_mask(4, 2).int().tolist()
    [[0, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1], [1, 1, 0, 0]]
    >>> generate_sliding_window_mask(4, 2, sinks=1).int().tolist()[3]
    [0, 1, 0, 0]
    """
    window = check_size("window", window)
    sinks = check_size("sinks", sinks, minimum=0)
    blocked = generate_causal_mask(T, device=device)
    position = torch.arange(T, device=blocked.device)
    forgotten = (position[:, None] - position >= window) & (position >= sinks)
    return blocked | forgotten


def generate_padding_mask(
    lengths: Tensor | Sequence[int],
    max_len: int | None = None,
    *,
    side: str = "right",
    device: torch.device | str | None = None,
) -> Tensor:
    """Block the padding of a batch of sequences of different lengths.

    Args:
        lengths: shape (batch,), real tokens in each sequence, 0 to ``max_len``.
        max_len: padded length; the longest sequence if not given.
        side: {"right", "left"}, where the padding stands: behind the tokens or before them.
        device: where the mask is made; the device of ``lengths`` if not given.

    Returns:
        bool, (batch, head, query, key) = (batch, 1, 1, max_len), True on padding. The two axes of
        length 1 make ``generate_causal_mask(T) | padding`` mean what it says: without them the
        batch axis would be taken for the query axis. ``nn.MultiheadAttention`` wants
        ``key_padding_mask=padding[:, 0, 0]``.

    >>> generate_padding_mask([3, 1])[:, 0, 0].int().tolist()
    [[0, 0, 0], [0, 1, 1]]
    >>> generate_padding_mask([3, 1], side="left")[:, 0, 0].int().tolist()
    [[0, 0, 0], [1, 1, 0]]
    """
    if side not in ("left", "right"):
        raise ValueError(f'side must be "left" or "right", got {side!r}')
    try:
        lengths = _as_tensor(lengths, device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"lengths must be a row of integers: {error}") from error
    if lengths.ndim != 1 or lengths.numel() == 0 or not _is_integer(lengths.dtype):
        raise ValueError(
            "lengths must be a non-empty row of integers, one per sequence, got shape "
            f"{tuple(lengths.shape)} and dtype {lengths.dtype}"
        )
    lengths = lengths.long()  # small integer dtypes would overflow below
    longest = int(lengths.max())
    max_len = check_size("max_len", max(longest, 1) if max_len is None else max_len)
    if int(lengths.min()) < 0 or longest > max_len:
        raise ValueError(
            f"every length must lie between 0 and max_len={max_len}, got "
            f"{lengths.tolist()}; give a larger max_len or cut the sequences"
        )
    position = torch.arange(max_len, device=lengths.device)
    real = lengths[:, None]
    blocked = position >= real if side == "right" else position < max_len - real
    return blocked[:, None, None, :]


def generate_prefix_mask(
    T: int, prefix_len: int, *, device: torch.device | str | None = None
) -> Tensor:
    """Block the future, except inside a prefix, where everyone sees everyone.

    The prefix sees its own future, so such a model is causal only from the prefix's last token on:
    ask the loss of nothing before it. Source: Dong et al., "Unified language model pre-training",
    2019; Raffel et al., "Exploring the limits of transfer learning" (T5), 2019.

    Args:
        prefix_len: tokens of the prefix, 0 to ``T``; 0 gives the causal mask, ``T`` blocks nothing.

    Returns:
        bool, (query, key) = (T, T), True where the query may not look: at what comes later *and*
        lies behind the prefix.

    >>> generate_prefix_mask(4, 2).int().tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    """
    prefix_len = check_size("prefix_len", prefix_len, minimum=0)
    blocked = generate_causal_mask(T, device=device)
    if prefix_len > T:
        raise ValueError(
            f"prefix_len must be at most T={T}, got {prefix_len}; it counts tokens of the text"
        )
    behind = torch.arange(T, device=blocked.device) >= prefix_len
    return blocked & behind


def generate_document_mask(
    document_ids: Tensor | Sequence[int] | Sequence[Sequence[int]],
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """Block whatever belongs to another document than the query does.

    Several short documents are packed into one row, so that no room is lost to padding.

    The mask alone does not make a packed document equal to the document alone: its positions must
    begin at 0 again, too. Source: Krell et al., "Efficient sequence packing without
    cross-contamination", 2021.

    Args:
        document_ids: shape (T,) or (batch, T), which document each token belongs to; the numbers
            need no order.
        device: where the mask is made; the device of ``document_ids`` if not given.

    Returns:
        bool, (query, key) = (T, T), or (batch, head, query, key) = (batch, 1, T, T), True where the
        documents differ. The order of time is not in it: write ``generate_causal_mask(T) |
        generate_document_mask(document_ids)``.

    >>> generate_document_mask([0, 0, 1]).int().tolist()
    [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    """
    ids = _check_labels("document_ids", document_ids, device)
    blocked = ids[..., :, None] != ids[..., None, :]
    return blocked if ids.ndim == 1 else blocked[:, None]


def generate_retrieval_mask(
    segment_ids: Tensor | Sequence[int] | Sequence[Sequence[int]],
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """Block the future, and hide retrieved passages from each other.

    A passage sees the shared tokens before it and itself. If none stands *between* the passages
    (it would pass on what it saw), its keys and values do not depend on which passages are beside
    it. If its positions do not either, they can be computed once, kept, and used in any order.
    Source: Ratner et al., "Parallel context windows for large language models", 2022; Gim et al.,
    "Prompt Cache", 2023; the paper, §11.

    Args:
        segment_ids: shape (T,) or (batch, T), 1, 2, … for the tokens of the passages; 0 for all
            that is shared: an instruction, the question, the answer.
        device: where the mask is made; the device of ``segment_ids`` if not given.

    Returns:
        bool, (query, key) = (T, T), or (batch, head, query, key) = (batch, 1, T, T), True where the
        query may not look: at the future, and from one passage into another.

    >>> generate_retrieval_mask([1, 1, 2, 0]).int().tolist()
    [[0, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 1], [0, 0, 0, 0]]
    """
    ids = _check_labels("segment_ids", segment_ids, device)
    if ids.device.type != "meta" and int(ids.min()) < 0:
        raise ValueError(
            f"segment_ids must not be negative, got {int(ids.min())}; 0 is shared, passages count "
            "from 1, and padding is blocked by generate_padding_mask"
        )
    queries, keys = ids[..., :, None], ids[..., None, :]
    elsewhere = (queries != keys) & (queries != 0) & (keys != 0)
    blocked = generate_causal_mask(ids.shape[-1], device=ids.device) | elsewhere
    return blocked if ids.ndim == 1 else blocked[:, None]


def to_allowed(blocked: Tensor) -> Tensor:
    """Cross over to the opposite convention: True where attention is allowed.

    ``scaled_dot_product_attention``, FlexAttention and Hugging Face mean this one.

    Args:
        blocked: bool, any shape, True where attention is blocked.

    Returns:
        bool, same shape, True where attention is allowed.

    >>> to_allowed(generate_causal_mask(2)).int().tolist()
    [[1, 0], [1, 1]]
    """
    return ~check_boolean("blocked", blocked)


def from_allowed(allowed: Tensor) -> Tensor:
    """Come back from the opposite convention: True where attention is blocked.

    Args:
        allowed: bool, any shape, True where attention is allowed.

    Returns:
        bool, same shape, True where attention is blocked.

    >>> from_allowed(torch.ones(2, 2).tril().bool()).int().tolist()
    [[0, 1], [0, 0]]
    """
    return ~check_boolean("allowed", allowed)


def to_additive(blocked: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Turn a boolean mask into the matrix that is added to the scores (B.5).

    Filled, not multiplied: 0 · −∞ is NaN.

    Args:
        blocked: bool, any shape, True where attention is blocked.
        dtype: a floating dtype, the same as that of the scores.

    Returns:
        same shape, −∞ where blocked, 0 elsewhere.

    >>> to_additive(torch.tensor([False, True])).tolist()
    [0.0, -inf]
    """
    check_boolean("blocked", blocked)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(
            f"dtype must be a floating dtype such as torch.float32, because −∞ must fit "
            f"into it; got {dtype}"
        )
    zeros = torch.zeros(blocked.shape, dtype=dtype, device=blocked.device)
    return zeros.masked_fill(blocked, float("-inf"))


def from_additive(additive: Tensor) -> Tensor:
    """Read a 0/−∞ matrix back as a boolean mask.

    Args:
        additive: any shape, 0 where allowed, −∞ where blocked.

    Returns:
        bool, same shape, True where blocked.

    >>> from_additive(generate_causal_logit_mask(2)).int().tolist()
    [[0, 1], [0, 0]]
    """
    if not isinstance(additive, Tensor) or not additive.is_floating_point():
        raise ValueError(
            f"additive must be a floating tensor of 0 and −∞, got {describe(additive)}; a boolean "
            "mask is read by from_allowed, or is already what you want"
        )
    blocked = additive == float("-inf")
    strange = additive[~blocked & (additive != 0)]
    if strange.numel():
        raise ValueError(
            f"additive must hold 0 and −∞ only, found {strange[0].item():g}; replace a finite "
            "fill by −∞, and pass a bias as bias"
        )
    return blocked


def to_mask_mod(blocked: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Cross over to FlexAttention, which asks a function: True where attention is *allowed*.

    A table that is looked up saves FlexAttention no memory, as a rule written with ``>=`` would;
    the kernel skips blocked blocks all the same. Source: Dong et al., "Flex Attention", 2024.

    Args:
        blocked: bool, shape (query, key) or (batch, head, query, key), True where attention is
            blocked; ``batch`` and ``head`` may be 1, for all.

    Returns:
        Takes (batch, head, query, key) as integer tensors, as the ``mask_mod`` of
        ``torch.nn.attention.flex_attention.create_block_mask`` does.

    >>> mask_mod = to_mask_mod(generate_causal_mask(3))
    >>> bool(mask_mod(0, 0, torch.tensor(0), torch.tensor(2)))
    False
    """
    if check_boolean("blocked", blocked).ndim not in (2, 4):
        raise ValueError(
            "blocked must have shape (query, key) or (batch, head, query, key), got "
            f"{tuple(blocked.shape)}; insert axes of length 1 with blocked[:, None]"
        )
    table = to_allowed(blocked if blocked.ndim == 4 else blocked[None, None])
    batches, heads = table.shape[:2]

    def mask_mod(batch, head, query, key):
        batch = batch if batches > 1 else 0
        return table[batch, head if heads > 1 else 0, query, key]

    return mask_mod


def _is_integer(dtype: torch.dtype) -> bool:
    return dtype != torch.bool and not dtype.is_floating_point and not dtype.is_complex


def _as_tensor(values: Tensor | Sequence, device: torch.device | str | None) -> Tensor:
    """Make a tensor of what came; one that is a tensor stays where it is, unless told to move."""
    if isinstance(values, Tensor):  # as_tensor would move it to a default device
        return values if device is None else values.to(device)
    return torch.as_tensor(values, device=device)


def _check_labels(
    name: str, labels: Tensor | Sequence, device: torch.device | str | None
) -> Tensor:
    """Turn one number per token into a tensor, shape (T,) or (batch, T)."""
    try:
        labels = _as_tensor(labels, device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must hold one integer per token: {error}") from error
    if labels.ndim not in (1, 2) or labels.numel() == 0 or not _is_integer(labels.dtype):
        raise ValueError(
            f"{name} must hold one integer per token, shape (T,) or (batch, T), got shape "
            f"{tuple(labels.shape)} and dtype {labels.dtype}"
        )
    return labels
