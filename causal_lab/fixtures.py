"""Fixtures for a test suite: ``assert_causal``, ``assert_cached``, ``assert_padding``, ….

pytest finds them by itself where this package is installed. Nothing heavy is imported
before a fixture is used; a failure shows the report and nothing else.
"""

import importlib

import pytest


def _asserting(check: str, **defaults):
    def asserted(*arguments, **options):
        __tracebackhide__ = True
        function = getattr(importlib.import_module("causal_lab.causality"), check)
        report = function(*arguments, **(defaults | options))
        if not report:
            pytest.fail(str(report), pytrace=False)
        return report

    return asserted


@pytest.fixture
def assert_causal():
    """``assert_causal(model, inputs, **options)``, as check_causality, with the module to blame."""
    return _asserting("check_causality", blame=True)


@pytest.fixture
def assert_cached():
    """``assert_cached(step, inputs, full, **options)``, as check_cache."""
    return _asserting("check_cache", blame=True)


@pytest.fixture
def assert_padding():
    """``assert_padding(model, ids, pad_id, **options)``, as check_padding."""
    return _asserting("check_padding", blame=True)


@pytest.fixture
def assert_batch():
    """``assert_batch(model, inputs, **options)``, as check_batch."""
    return _asserting("check_batch")


@pytest.fixture
def assert_documents():
    """``assert_documents(model, inputs, documents, **options)``, as check_documents."""
    return _asserting("check_documents")
