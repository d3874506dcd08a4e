import jax
import pytest

from transfer_jax.bench import profile
from transfer_jax.bench.training import SyntheticData, recipe_for, train_loop
from transfer_jax.training.step import Program

HLO = """HloModule jit_step

%fused (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %inner = f32[8]{0} convolution(%p, %p), window={size=3}
}

%body (p: f32[8]) -> f32[8] {
  ROOT %work = f32[8]{0} add(%p, %p), metadata={op_name="jit(f)/jvp(net)/conv1/add"}
}

ENTRY %main (p: f32[8]) -> f32[8] {
  %p.1 = f32[8]{0} parameter(0)
  %some_fusion.3 = f32[8]{0} fusion(%p.1), kind=kCustom, calls=%fused
  %cudnn = (f32[8]{0}, u8[0]) custom-call(%p.1), custom_call_target="__cudnn$convForward"
  %product = f32[8]{0} dot(%p.1, %p.1)
  %gemm = f32[8]{0} custom-call(%p.1), custom_call_target="__cublas$lt$matmul"
  %pool = f32[8]{0} fusion(%p.1), calls=%x, metadata={op_name="jit(f)/jvp(net)/reduce_window_max"}
  %copy.2 = f32[8]{0} copy(%p.1)
  %bits = u32[8]{0} fusion(%p.1), calls=%y, metadata={op_name="jit(f)/vmap(_threefry_fold_in)"}
  %update = f32[8]{0} multiply(%p.1, %p.1), metadata={op_name="jit(f)/mul"}
  ROOT %while.1 = f32[8]{0} while(%p.1), condition=%c, body=%body
}
"""


def test_operations_are_told_by_what_they_hold():
    kinds = profile.kinds_of(HLO)
    assert kinds["some_fusion.3"] == kinds["cudnn"] == kinds["inner"] == "convolutions"
    assert kinds["product"] == kinds["gemm"] == "matrix products"
    assert kinds["pool"].startswith("max pooling")
    assert kinds["copy.2"].startswith("copies")
    assert kinds["bits"] == "random numbers"
    assert kinds["work"].startswith("forward and backward")
    assert kinds["update"].startswith("other")
    # Its time is that of the operations in its body.
    assert kinds["while.1"] is None


class Named:
    def __init__(self, name, **fields):
        self.name = name
        self.__dict__.update(fields)


def test_streams_of_an_accelerator_count_once():
    event = lambda: Named("e", duration_ns=5e9, stats=[("hlo_op", "product")])  # noqa: E731
    lines = [Named(name, events=[event()]) for name in ("Stream #1(Compute)", "XLA Ops")]
    host = Named("/host:CPU", lines=[Named("python", events=[Named("e", duration_ns=1, stats=[])])])
    durations, counts = profile.operation_seconds(
        Named("", planes=[Named("/device:GPU:0", lines=lines), host])
    )
    assert dict(durations) == {"product": 5.0} and dict(counts) == {"product": 1}


@pytest.fixture(scope="module")
def loop(tiny_network):
    program = Program(tiny_network, recipe_for(tiny_network, 8), (0,))
    params = tiny_network.init(jax.random.key(0))
    return train_loop(program, (params,), SyntheticData.draw(tiny_network, 8))


def test_a_real_trace_names_the_operations(loop, tiny_network, tmp_path):
    found = profile.measure("auto", loop, 2, tmp_path)
    assert found.kinds["convolutions"][0] > 0 and found.kinds["matrix products"][1] >= 3
    assert 0 < found.busy and found.seconds > 0
    assert list((tmp_path / "auto").rglob("*.xplane.pb"))
    page = profile.report(tiny_network, 8, "float32", [found])
    total = sum(1e3 * seconds for seconds, _ in found.kinds.values())
    assert f"| {total:.1f} | 100 % |" in " ".join(page.split())


def test_a_trace_without_operations_is_refused(loop, monkeypatch):
    monkeypatch.setattr(profile, "operation_seconds", lambda trace: ({}, {}))
    with pytest.raises(ValueError, match="names no operation"):
        profile.measure("auto", loop, 1)
