"""NaN and Inf in weights and logits are refused, and the message says which of them, where, and what helps."""

import pytest
import torch
from safetensors.torch import save_file

from adcopilot.errors import UserError
from adcopilot.finite import LogitsCheck, check_tensor, check_weight_files, check_weights, finite_logits

pytestmark = pytest.mark.forward

NAN, INF = float("nan"), float("inf")


class Model(torch.nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.first = torch.nn.Linear(4, 4, dtype=dtype)
        self.head = torch.nn.Linear(4, 8, dtype=dtype)
        self.register_buffer("mask", torch.tensor([0.0, -INF]), persistent=False)
        self.register_buffer("positions", torch.arange(3))

    def get_output_embeddings(self):
        return self.head


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("value", "kind"), [(NAN, "1 NaN"), (INF, "1 Inf"), (-INF, "1 Inf")])
@pytest.mark.parametrize("where", ["first.weight", "head.bias", "mask"])
def test_any_weight_of_any_kind_in_any_dtype(where, value, kind, dtype):
    model = Model(dtype)
    check_weights(model, name="m", remedy="x")
    with torch.no_grad():
        weight = model.mask if where == "mask" else model.get_parameter(where)
        weight.view(-1)[0] = value
    if (where, value) == ("mask", -INF):  # what attention masks are made of
        check_weights(model, name="m", remedy="x")
        return
    with pytest.raises(UserError, match=f"^m: .*{kind} of its weights are not finite, the first in {where}; "):
        check_weights(model, name="m", remedy="x")


@pytest.mark.parametrize(("dtype", "value"), [(torch.float16, 70000.0), (torch.bfloat16, 3.4e38)])
def test_what_overflows_in_the_cast_is_told_from_what_the_file_holds(tmp_path, dtype, value):
    file = tmp_path / "a.safetensors"
    model = Model()
    with torch.no_grad():
        model.head.weight[0, 0] = value
    save_file(model.state_dict(), file)
    check_weights(model, name="m", remedy="use float32", files=[file])
    check_weight_files([file])
    with pytest.raises(UserError, match=r"overflow in (b?)float16: use float32$"):
        check_weights(model.to(dtype), name="m", remedy="use float32", files=[file])
    with pytest.raises(UserError, match=r"head.weight is finite, but overflows in (b?)float16: use float32$"):
        check_weight_files([file], dtype=dtype, remedy="use float32")
    with torch.no_grad():
        model.head.weight[0, 0] = INF
    save_file(model.state_dict(), file)
    with pytest.raises(UserError, match=r"another checkpoint$"):
        check_weights(model, name="m", remedy="use float32", files=[file])
    with pytest.raises(UserError, match=r"a.safetensors: head.weight has 1 Inf that are not finite"):
        check_weight_files([file])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64, torch.int64, torch.bool])
def test_other_kinds_of_numbers(dtype):
    check_tensor(torch.zeros(3).to(dtype), name="a")
    check_tensor(torch.zeros(0).to(dtype), name="a")
    if dtype.is_floating_point or dtype.is_complex:
        with pytest.raises(UserError, match="1 NaN"):
            check_tensor(torch.tensor([0.0, NAN]).to(dtype), name="a")


def test_a_damaged_file_is_one_line(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        check_weight_files([tmp_path / "a.safetensors"])


def test_each_row_has_its_own_first_step():
    """Row 0 is well, 1 fails at step 2, 2 at once, 3 only behind its end, 4 has more -Inf than are banned."""
    check = LogitsCheck(ends=[7], banned=1)
    said = torch.tensor([[1], [1], [1], [1], [1]])
    fine = torch.tensor([-INF, 0.0, 1.0])
    first = fine.repeat(5, 1)
    first[2, 1] = NAN
    first[4, 1] = -INF
    assert check(said, first) is first
    second = fine.repeat(5, 1)
    second[1, 2] = INF
    second[3] = NAN
    check(torch.tensor([[1, 2], [1, 2], [1, 2], [1, 7], [1, 2]]), second)
    check(torch.tensor([[2, 2], [2, 2], [2, 2], [7, 0], [2, 2]]), second[[0, 0, 0, 3, 0]])
    assert check.failed == [0, 2, 1, 0, 1]


def test_a_model_may_ban_tokens_itself_where_it_is_not_known_how_many():
    check = LogitsCheck(ends=[7])
    check(torch.tensor([[1], [1]]), torch.tensor([[-INF, -INF, 0.0], [-INF, -INF, -INF]]))
    assert check.failed == [0, 1]


def test_logits_of_a_rollout():
    model = Model()
    with finite_logits(model):
        model.head(torch.zeros(2, 1, 4))

    def rollout():
        with finite_logits(model):
            model.head(torch.zeros(2, 1, 4))
            assert model.head(torch.tensor([[[NAN] * 4], [[0.0] * 4]])).isfinite().all()

    with pytest.raises(UserError, match=r"not finite \(step 2 of a rollout\)"):
        rollout()
    assert not model.head._forward_hooks
