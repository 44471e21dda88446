"""Rows of a batch, documents of a row, and whole loops, against each alone."""

import pytest
import torch
from torch import nn

from causal_lab.causality import check_batch, check_documents, check_generation
from causal_lab.masks import generate_document_mask
from causal_lab.models import GPT
from causal_lab.models.generation import cached_step, generate

PAD = 0


def ids(batch=3, length=9) -> torch.Tensor:
    return torch.randint(1, 20, (batch, length), generator=torch.Generator().manual_seed(0))


def gpt() -> GPT:
    generator = torch.Generator().manual_seed(0)
    return GPT(20, 32, d_model=8, num_heads=2, num_layers=2, generator=generator).eval()


# --- rows


class Centred(nn.Module):
    """Takes off a mean, along an axis."""

    def __init__(self, axis, size=1.0):
        super().__init__()
        self.embedding, self.axis, self.size = nn.Embedding(20, 4), axis, size

    def forward(self, ids):
        x = self.embedding(ids)
        return x - self.size * x.mean(self.axis, keepdim=True)


@pytest.mark.parametrize(("axis", "same"), [(0, False), (1, True), (2, True)])
def test_rows_that_influence_each_other_are_told(axis, same):
    report = check_batch(Centred(axis), ids())
    assert report.same is same
    assert bool(report) is same
    if not same:
        assert "rows alone: rows 0 to 8 differ by up to" in report.reason
        with pytest.raises(AssertionError, match="NOT the same"):
            report.assert_same()


def test_a_faint_influence_is_one_and_a_tolerance_excuses_it():
    model = Centred(0, size=1e-7)
    assert check_batch(model, ids()).same is False
    assert check_batch(model, ids(), tolerance=1e-5).same is True


def test_batch_statistics_count_in_train_mode_alone():
    model = nn.Sequential(nn.Embedding(20, 9), nn.BatchNorm1d(9))
    assert check_batch(model.train(), ids()).same is False
    assert check_batch(model.eval(), ids()).same is True
    assert int(model[1].num_batches_tracked) == 0


class Sums(nn.Module):
    """A decoder of sums; ``told`` says whether padding is kept out."""

    def __init__(self, told=True):
        super().__init__()
        self.embedding, self.told = nn.Embedding(20, 4), told

    def forward(self, ids):
        return self.embedding(ids).cumsum(1).tanh()

    def step(self, chunk, total, padding=None):
        x = self.embedding(chunk)
        if padding is not None and self.told:
            x = x.masked_fill(padding[..., None], 0.0)
        sums = x.cumsum(1) + (0.0 if total is None else total)
        return sums.tanh(), sums[:, -1:]


@pytest.mark.parametrize("told", [True, False])
def test_a_batch_of_unequal_prompts_is_decoded_like_each_alone(told):
    model = Sums(told)
    report = check_batch(model, ids(), step=model.step, pad_id=PAD)
    assert report.same is told
    assert set(report.results) == {"rows alone", "padded prefill", "right-padded prefill"}
    assert check_batch(model, ids(), step=model.step).same is True


@pytest.mark.parametrize("inputs", [torch.ones(1, 3), torch.ones(3), [[1, 2]]])
def test_one_row_is_no_batch(inputs):
    with pytest.raises(ValueError, match=r"two rows|must be a tensor"):
        check_batch(nn.Identity(), inputs)


# --- documents


DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2], [0, 0, 1, 1, 1, 2, 2, 2, 2]])


class Packed(nn.Module):
    """Sums of tokens and positions; ``forgets`` is what it does not begin anew."""

    def __init__(self, forgets=""):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.places = nn.Embedding(20, 4), nn.Embedding(16, 4)
        self.state, self.forgets = nn.Linear(4, 4), forgets

    def forward(self, ids, documents=None):
        T = ids.shape[1]
        documents = torch.zeros_like(ids) if documents is None else documents
        same = (documents[:, :, None] == documents[:, None]).tril()
        positions = same.sum(-1) - 1
        if self.forgets == "positions":
            positions = torch.arange(T).expand_as(ids)
        if self.forgets == "mask":
            same = torch.ones_like(same).tril()
        x = self.embedding(ids) + self.places(positions)
        return self.state(same.to(x) @ x).tanh()


def told(ids, documents):
    return {"documents": documents}


@pytest.mark.parametrize("forgets", ["", "positions", "mask"])
def test_a_packed_document_is_what_it_is_alone(forgets):
    report = check_documents(Packed(forgets), ids(2), DOCUMENTS, forward_kwargs=told)
    assert report.same is not bool(forgets)
    if forgets:
        assert "packed: rows" in report.reason
        assert "positions go on" in report.reason
    else:
        assert "each of 6 documents" in report.reason
        assert report.assert_same()


def test_a_model_that_is_told_nothing_mixes_documents():
    report = check_documents(Packed(), ids(2), DOCUMENTS)
    assert report.same is False
    report = check_documents(nn.Embedding(20, 4), ids(2), DOCUMENTS)
    assert report.same is True
    assert [caution.name for caution in report.cautions] == ["unread"]
    assert not report
    assert check_documents(nn.Embedding(20, 4), ids(2), DOCUMENTS, allow="unread")


def test_a_gpt_with_a_document_mask_and_positions_keeps_documents_apart():
    def blocked(ids, documents):
        positions = torch.zeros_like(ids)
        for t in range(1, ids.shape[1]):
            positions[:, t] = (positions[:, t - 1] + 1) * (documents[:, t] == documents[:, t - 1])
        return {"blocked": generate_document_mask(documents), "positions": positions}

    check_documents(gpt(), ids(2), DOCUMENTS, forward_kwargs=blocked).assert_same()


@pytest.mark.parametrize(
    "documents",
    [
        torch.zeros(2, 9, dtype=torch.long),
        DOCUMENTS[:1],
        DOCUMENTS.float(),
        torch.tensor([[0, 1, 0, 1, 1, 1, 1, 1, 1]] * 2),
    ],
)
def test_what_are_no_documents_is_refused(documents):
    with pytest.raises(ValueError, match=r"documents must be|two documents or more"):
        check_documents(Packed(), ids(2), documents)


# --- loops


def beams(model, prompts, steps=8, width=3, reorder=True, cached=True):
    """Beam search; without ``reorder`` the cache stays with the beams as they were."""
    written = []
    for prompt in prompts:
        texts, scores, cache = prompt[None].repeat(width, 1), torch.zeros(width), None
        scores[1:] = -torch.inf
        for _ in range(steps):
            new = texts if cache is None or not cached else texts[:, -1:]
            logits, cache = model.step(new, cache if cached else None)
            total = scores[:, None] + logits[:, -1].log_softmax(-1)
            scores, best = total.flatten().topk(width)
            parents, tokens = best // 4, best % 4
            texts = torch.cat([texts[parents], tokens[:, None]], 1)
            if reorder:
                cache = cache[parents]
        written.append(texts[0])
    return torch.stack(written)


class Writer(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embedding, self.mix, self.head = nn.Embedding(4, 6), nn.Linear(6, 6), nn.Linear(6, 4)

    def step(self, chunk, total):
        sums = self.mix(self.embedding(chunk)).cumsum(1) + (0.0 if total is None else total)
        return 9 * self.head((3 * sums).tanh()), sums[:, -1:]


@pytest.mark.parametrize("reorder", [True, False])
def test_beams_that_do_not_reorder_their_cache_are_told(reorder):
    model, prompts = Writer(), torch.randint(4, (24, 4), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        report = check_generation(
            lambda p: beams(model, p, reorder=reorder),
            prompts,
            lambda p: beams(model, p, cached=False),
        )
    assert report.same is reorder
    assert reorder is not ("not reordered with the beams" in report.reason)


def test_our_own_loop_writes_the_same_with_its_cache():
    model = gpt()

    def plainly(prompts):
        for _ in range(6):
            with torch.no_grad():
                prompts = torch.cat([prompts, model(prompts)[:, -1:].argmax(-1)], 1)
        return prompts

    report = check_generation(lambda p: generate(model, p, 6), ids(), plainly)
    assert report.assert_same(), str(report)


def test_a_shorter_text_and_a_loop_that_raises_are_told():
    report = check_generation(lambda p: p[:, :5], ids(), lambda p: p)
    assert report.same is False
    assert "from token 5 on" in report.reason
    report = check_generation(lambda p: p.nothing, ids(), lambda p: p)
    assert report.same is None
    assert "AttributeError" in report.reason
    with pytest.raises(ValueError, match="without_cache must be callable"):
        check_generation(lambda p: p, ids(), None)


def test_further_arguments_reach_each_row_and_the_step_is_held_to_them():
    def scaled(ids, by):
        return model(ids) * by

    model = gpt()
    step = cached_step(model)

    def scaled_step(chunk, cache):
        logits, cache = step(chunk, cache)
        return logits * 2, cache

    report = check_batch(scaled, ids(), step=scaled_step, forward_kwargs={"by": 2})
    assert report.same is True, str(report)
    assert check_batch(scaled, ids(), step=step, forward_kwargs={"by": 2}).same is False
