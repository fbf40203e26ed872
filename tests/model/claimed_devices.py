"""Two cards on a machine without one: tensors stay in memory and carry a *claimed* device, and an operation that mixes
claims raises as CUDA would.

Claims belong to storages, so views share them. A function mode serves `.to(…)` and `device=…` before PyTorch looks for
a card, a dispatch mode looks at every operation that is carried out, and `Tensor.device` tells the claim, because code
under test asks for it. `placed` puts a model's weights and hooks where accelerate's `dispatch_model` would.
"""

from contextlib import contextmanager

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

CPU = torch.device("cpu")
# Copies between devices are what these are for.
COPIES = ("copy_", "_to_copy", "_copy_from")
# Indices may lie on the CPU.
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")
# Kernels that take no scalar of the CPU among tensors of a card.
STRICT = ("embedding", "masked_scatter", "masked_scatter_", "index_select", "gather", "scatter", "mm", "addmm", "bmm")
_real_device = torch.Tensor.device


class Claims:
    """Storage → claimed device; absent is the CPU. The weak reference keeps a storage's address from being reused."""

    def __init__(self):
        self._of = {}

    @staticmethod
    def _storage(tensor: torch.Tensor):
        while torch._C._functorch.is_functorch_wrapped_tensor(tensor):  # transformers makes its masks by vmap
            tensor = torch._C._functorch.get_unwrapped(tensor)
        return tensor.untyped_storage()

    def known(self, tensor: torch.Tensor) -> bool:
        return self._storage(tensor)._cdata in self._of

    def get(self, tensor: torch.Tensor) -> torch.device:
        return self._of.get(self._storage(tensor)._cdata, (None, CPU))[1]

    def set(self, tensor: torch.Tensor, device: torch.device) -> None:
        storage = self._storage(tensor)
        self._of[storage._cdata] = (StorageWeakRef(storage), device)


def _device(value) -> torch.device:
    return torch.device("cuda", value) if isinstance(value, int) else torch.device(value)


class _Dispatch(TorchDispatchMode):
    def __init__(self, claims: Claims):
        super().__init__()
        self.claims = claims

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function._schema.name.split("::")[-1]
        tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
        claimed = [(one, self.claims.get(one)) for one in tensors]
        if name in COPIES:
            device = self.claims.get(args[0])
        else:
            device = self._common(name, claimed)
        out = function(*args, **kwargs)
        for one in tree_flatten(out)[0]:
            if isinstance(one, torch.Tensor) and not self.claims.known(one) and device != CPU:
                self.claims.set(one, device)
        return out

    @staticmethod
    def _common(name: str, claimed) -> torch.device:
        if name in INDEXING:
            # indices on the CPU are copied to the card; only the first and the values have to agree
            first = claimed[0][1]
            rest = [(one, where) for one, where in claimed[1:] if where != CPU]
            claimed = [claimed[0], *rest] if first != CPU or rest else claimed
        counted = [where for one, where in claimed if name in STRICT or one.dim() or where != CPU]
        if len(set(counted)) > 1:
            shapes = ", ".join(f"{tuple(one.shape)} on {where}" for one, where in claimed)
            raise RuntimeError(f"Expected all tensors to be on the same device, but {name} found {shapes}")
        return counted[0] if counted else CPU


class _Function(TorchFunctionMode):
    def __init__(self, claims: Claims):
        super().__init__()
        self.claims = claims

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        if name in ("to", "cuda", "cpu", "type_as") and args and isinstance(args[0], torch.Tensor):
            return self._move(function, name, args, kwargs)
        device = kwargs.get("device")
        if device is not None and _device(device).type == "cuda":
            kwargs["device"] = "cpu"
            out = function(*args, **kwargs)
            return self._claim(out, _device(device))
        if device is None and name.startswith("new_") and args:
            return self._claim(function(*args, **kwargs), self.claims.get(args[0]))
        return function(*args, **kwargs)

    def _claim(self, out, device):
        if isinstance(out, torch.Tensor):
            self.claims.set(out, device)
        return out

    def _move(self, function, name, args, kwargs):
        tensor, *rest = args
        here = there = self.claims.get(tensor)
        if name == "cpu":
            return self._copy(tensor, here, CPU)
        if name == "cuda":
            return self._copy(tensor, here, _device(rest[0] if rest else 0))
        places = [kwargs.pop("device", None), *rest, kwargs.pop("other", None)]
        kept = [one for one in rest if isinstance(one, (torch.dtype, bool))]
        for one in places:
            if isinstance(one, torch.Tensor):
                there = self.claims.get(one)
                kept.append(one.dtype)
            elif isinstance(one, (str, torch.device)) or (isinstance(one, int) and not isinstance(one, bool)):
                there = _device(one)
        if there.type not in ("cpu", "cuda"):
            return function(*args, **kwargs)
        out = tensor.to(*kept, **kwargs) if kept or kwargs else tensor
        return self._copy(out, here, there)

    def _copy(self, tensor, here, there):
        if here == there:
            return tensor
        copied = tensor.clone()
        self.claims.set(copied, there)
        return copied


@contextmanager
def claimed_devices():
    """Within, devices are claims. Yields the `Claims`."""
    claims = Claims()
    torch.Tensor.device = property(claims.get)
    try:
        with _Function(claims), _Dispatch(claims):
            yield claims
    finally:
        del torch.Tensor.device
        assert torch.Tensor.device is _real_device


@contextmanager
def placed(model, device_map: dict[str, int], claims: Claims):
    """Within, a model's weights claim devices and inputs move between its modules, as after accelerate's
    `dispatch_model`: each module of the map and each with tensors of its own moves its inputs to its device, the
    outermost also moves outputs back to where its inputs were."""
    main = _device(next(iter(device_map.values())))
    skipped = model._skip_keys_device_placement or ()
    skipped = (skipped,) if isinstance(skipped, str) else skipped
    undo = []

    def send(value, device):
        return tree_map_only(torch.Tensor, lambda one: one.to(device), value)

    def inputs_to(device):
        def hook(module, args, kwargs):
            moved = {name: value if name in skipped else send(value, device) for name, value in kwargs.items()}
            return tuple(send(one, device) for one in args), moved

        return hook

    def restore(module, name, weight):
        return lambda: module._parameters.__setitem__(name, weight)

    for path, module in model.named_modules():
        parts = path.split(".")
        prefixes = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
        device = next((_device(device_map[prefix]) for prefix in prefixes if prefix in device_map), None)
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        assert device is not None or not own, f"the map leaves {path} out"
        if device is None:
            continue
        for name, tensor in own:
            if claims.known(tensor) and claims.get(tensor) != device:  # tied weights: a copy on each device
                undo.append(restore(module, name, tensor))
                module._parameters[name] = tensor = torch.nn.Parameter(tensor.detach().clone())
            claims.set(tensor, device)
        if path in device_map or own:
            undo.append(module.register_forward_pre_hook(inputs_to(device), with_kwargs=True, prepend=True).remove)

    origin = []

    def root_inputs(module, args, kwargs):
        origin.append(next((one.device for one in tree_flatten((args, kwargs))[0] if torch.is_tensor(one)), None))
        return inputs_to(main)(module, args, kwargs)

    def root_outputs(module, args, kwargs, output):
        device = origin.pop()
        for name, value in list(output.items()) if device is not None else ():
            if name not in skipped:
                output[name] = send(value, device)
        return output

    undo.append(model.register_forward_pre_hook(root_inputs, with_kwargs=True).remove)
    undo.append(model.register_forward_hook(root_outputs, with_kwargs=True).remove)
    try:
        yield
    finally:
        for step in undo:
            step()
