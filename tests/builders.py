"""What many tests build: seeded tensors, masks and weights, and how closely results must agree."""

import ast
import re

import torch
from torch import Tensor, nn

from causal_lab.course.predictions import veil
from causal_lab.models.transformer import GPT, Transformer

H, D, LAYERS = 3, 12, 2  # heads, d_model, layers of a small model
VOCABULARY, MAX_LENGTH = 13, 12


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def random_mask(*shape: int, seed: int = 0) -> Tensor:
    """Block two cells in five."""
    return torch.rand(shape, generator=seeded(seed)) < 0.4


def draw_ids(*shape: int, high: int = VOCABULARY, seed: int = 0) -> Tensor:
    return torch.randint(high, shape, generator=seeded(seed))


def fill(module: nn.Module, seed: int = 9) -> nn.Module:
    """Draw every parameter; norms around 1."""
    generator = seeded(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn + (1.0 if re.search(r"norm\d?\.weight$", name) else 0.0))
    return module


def build(
    model_class: type[Transformer] = GPT,
    *,
    max_length: int = MAX_LENGTH,
    seed: int = 9,
    **options,
) -> Transformer:
    """Build a small model, every parameter drawn (biases and norms too)."""
    options = {"d_model": D, "num_heads": H, "num_layers": LAYERS, **options}
    return fill(model_class(VOCABULARY, max_length, **options), seed).eval()


def assert_close(actual: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    """Compare by distance alone; the tolerance goes to both."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def move(explorer, **values):
    """Put controls of an explorer where they should be."""
    for name, value in values.items():
        setattr(explorer, name, value)
    return explorer


# What the numbers are, nbval compares; how a page behaves does not hang on how long was learned.
FEW_STEPS = """
from functools import wraps
_whole = train
@wraps(_whole)  # a cell shows its source
def train(model, batches, *arguments, **options):
    return _whole(model, list(batches)[:20], *arguments, **options)
"""


def train_briefly(notebook):
    """Let a notebook that trains do so for twenty steps: in the cell that imports how."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if any(" train(" in cell.source for cell in code[2:]):
        (imports,) = [cell for cell in code if "from causal_lab.course" in cell.source]
        assert "train" in imports.source
        imports.source += FEW_STEPS
    return notebook


def with_explorers_alone(notebook):
    """Leave the cells that show an explorer, and those that make what they name."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    kept = [cell for cell in code if "%pip" in cell.source or cell is code[1]]  # and the imports
    needed = set()
    for cell in reversed([cell for cell in code if cell not in kept]):
        nodes = [*ast.walk(ast.parse(cell.source))]
        ends = [end for node in nodes if isinstance(node, ast.Assign) for end in node.targets]
        names = {node.id for end in ends for node in ast.walk(end) if isinstance(node, ast.Name)}
        made = names | {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
        shown = ("".join(output.get("data", {}).get("text/plain", "")) for output in cell.outputs)
        if any(re.match(r"<\w+Explorer\b", text) for text in shown) or made & needed:
            kept.append(cell)
            needed = needed - made | {node.id for node in nodes if isinstance(node, ast.Name)}
    notebook.cells = [cell for cell in notebook.cells if cell in kept]
    return notebook


def as_in_a_workbook(notebook):
    """Take the outputs away, and veil what answers a prediction."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            parts = re.split(r'(?<=predict\.compare\(")(.+)(?="\))', cell.source)
            cell.source = "".join(veil(part) if n % 2 else part for n, part in enumerate(parts))
            cell.outputs, cell.execution_count = [], None
    return notebook
