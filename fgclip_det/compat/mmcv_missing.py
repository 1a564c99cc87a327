"""The error of an op that the stand-in for `mmcv._ext` does not have."""

COMPILED_MMCV_COMMAND = (
    "pip uninstall -y mmcv-lite && MMCV_WITH_OPS=1 pip install --no-build-isolation mmcv==2.1.0"
)


def missing_op_error(op: str) -> NotImplementedError:
    """Error to raise for `op`, a name and, where it matters, the argument that is not covered."""
    return NotImplementedError(
        f"{op} exists only in the compiled mmcv, and this environment has mmcv-lite with a "
        f"stand-in; compile it (about 12 minutes) with: {COMPILED_MMCV_COMMAND}"
    )
