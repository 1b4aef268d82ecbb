"""The steady tick as one CUDA graph: thousands of small launches become one."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from flowact.acceleration.forms import Forms, form_of
from flowact.pipeline import FlowActPipeline

HOT = 6  # calls of a form: after it was compiled, where it is
KEPT = 4  # graphs, each with memory of its own


def capture_pipeline(pipeline: FlowActPipeline) -> None:
    """Replay the model's calls of each form that comes often.

    Raises:
        ValueError: the model is not on a CUDA device, or shared among processes.
    """
    model: Any = pipeline.transformer
    if model.device.type != "cuda":
        raise ValueError(f"graphs=true needs a CUDA device; this model is on {model.device}")
    if model.is_shared:
        raise ValueError("graphs=true replays the calls of one process; drop it, or parallel")
    model.denoise = Captured(model.denoise)
    model.encode_and_denoise = Captured(model.encode_and_denoise)


@dataclass(frozen=True)
class Graph:
    """A captured call: where its inputs go, and where its results are."""

    replay: Callable[[], None]
    inputs: list[Tensor]
    outputs: Any


class Captured:
    """A function of tensors, replayed for the forms of its inputs that come often.

    Args:
        function: does on the device, and there only, the same for all inputs of a form.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._forms = Forms(HOT)
        self._graphs: OrderedDict[Any, Graph] = OrderedDict()

    def __call__(self, *inputs: Any) -> Any:
        tensors, form = form_of(inputs)
        if form not in self._graphs:
            if not self._forms.are_hot(form):
                return self._function(*inputs)
            self._graphs[form] = capture(self._function, inputs)
            while len(self._graphs) > KEPT:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(form)
        graph = self._graphs[form]
        for fixed, given in zip(graph.inputs, tensors, strict=True):
            fixed.copy_(given)
        graph.replay()
        # Copies: memory keeps some of them, and the next replay writes them anew.
        return pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, graph.outputs)


def capture(function: Callable[..., Any], inputs: Any) -> Graph:
    """One call of ``function`` on copies of ``inputs``, as a graph on the current device."""
    leaves, structure = pytree.tree_flatten(inputs)
    fixed = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    own = pytree.tree_unflatten(fixed, structure)
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # a call outside of it: what is made once is made there
        function(*own)
    torch.cuda.current_stream().wait_stream(side)
    # The decoder's thread goes on meanwhile, and may ask for memory.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = function(*own)
    return Graph(graph.replay, [leaf for leaf in fixed if isinstance(leaf, Tensor)], outputs)
