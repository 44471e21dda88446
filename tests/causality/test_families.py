"""What the checker says about real model families, against what is known of them."""

import warnings

import pytest

from causal_lab.causality import check_causality

with warnings.catch_warnings():
    # Importing all of transformers runs other people's deprecated code, which is not under test.
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)
    from tests.causality.zoo.families import FAMILIES, Family


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_judged_as_it_is(family: Family):
    report = check_causality(
        family.make(), family.inputs(), special_ids=family.special_ids, **family.options
    )
    assert report.causal is family.causal, str(report)
    if family.causal and report.length_dependent is not None:
        assert report.length_dependent is family.length_dependent, str(report)
    if family.causal is False:
        assert report.first_leak.input > report.first_leak.output, str(report)


def test_every_family_is_named_once():
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names))
