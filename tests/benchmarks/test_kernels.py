"""Which events of a trace are kernels."""

import jax

from benchmarks.kernels import kernels

# A GPU has its kernels on streams; other lines tell of the same time by the names of operations.
GPU = """
planes {
  name: "/host:CPU"
  lines { name: "tf_XLAEigen" events { metadata_id: 1 duration_ps: 90000 } }
  event_metadata { key: 1 value { id: 1 name: "host" } }
}
planes {
  name: "/device:GPU:0"
  lines {
    name: "Stream #13(Compute)"
    events { metadata_id: 1 duration_ps: 5000 }
    events { metadata_id: 2 duration_ps: 4000 }
  }
  lines {
    name: "Stream #14(Compute)"
    events { metadata_id: 3 duration_ps: 2000 }
    events { metadata_id: 1 duration_ps: 1000 }
  }
  lines { name: "XLA Ops" events { metadata_id: 4 duration_ps: 12000 } }
  event_metadata { key: 1 value { id: 1 name: "void cudnn::ops::nhwcToNchwKernel<float>" } }
  event_metadata { key: 2 value { id: 2 name: "loop_add_fusion_12" } }
  event_metadata { key: 3 value { id: 3 name: "loop_add_fusion" } }
  event_metadata { key: 4 value { id: 4 name: "add.1" } }
}
"""
CPU = """
planes {
  name: "/host:CPU"
  lines {
    name: "tf_XLAEigen/7"
    events { metadata_id: 1 duration_ps: 3000 }
    events { metadata_id: 2 duration_ps: 9000 }
  }
  lines { name: "python" events { metadata_id: 1 duration_ps: 5000 } }
  event_metadata { key: 1 value { id: 1 name: "dot.105" } }
  event_metadata { key: 2 value { id: 2 name: "ThreadPool::Await" } }
}
"""


def found(tmp_path, text: str) -> list:
    file = tmp_path / "trace.xplane.pb"
    file.write_bytes(jax.profiler.ProfileData.text_proto_to_serialized_xspace(text))
    return kernels(file)


def test_a_gpu(tmp_path):
    assert found(tmp_path, GPU) == [("void cudnn::ops::nhwcToNchwKernel<float>", 6, 2), ("loop_add_fusion", 6, 2)]


def test_a_cpu(tmp_path):
    assert found(tmp_path, CPU) == [("dot", 3, 1)]
