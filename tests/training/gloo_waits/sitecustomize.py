"""Mends DeepSpeed's ZeRO-3 on a CPU in the ranks that the tests start (they put this folder on PYTHONPATH).

To load a module's weights DeepSpeed 0.18.4 gathers its parameters with one asynchronous call each, and waits for the
last call only (`Init._allgather_params_coalesced` in deepspeed/runtime/zero/partition_parameters.py). NCCL runs calls
in order, so the last one's end is the end of all; gloo, on a CPU, runs them on several threads. There a weight may be
gathered, uninitialised as it still is, after the checkpoint's values were written to it, which loses them: stock
Qwen2.5-VL loads wrong weights as well, some of the time. Here every call is finished before the next.
"""

import os

if "LOCAL_RANK" in os.environ:
    import deepspeed.comm
    from deepspeed.runtime.zero import partition_parameters

    class _FinishedCalls:
        """`deepspeed.comm`, with a gather that is over when it returns."""

        def __getattr__(self, name):
            return getattr(deepspeed.comm, name)

        @staticmethod
        def all_gather_into_tensor(*args, **kwargs):
            handle = deepspeed.comm.all_gather_into_tensor(*args, **{**kwargs, "async_op": True})
            handle.wait()
            return handle

    partition_parameters.dist = _FinishedCalls()
