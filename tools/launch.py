"""Starts the processes of a run by torchrun; tools/dist_train.sh and dist_test.sh call it.

python tools/launch.py train.py 8 -- configs/shapes/ovdet_tiny.py --launcher pytorch
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.exit_codes import EXIT_FAILED, EXIT_OTHER_PROCESS, EXIT_USER_ERROR, Parser

from fgclip_det.exit_codes import needed_packages, run_tool, say_error  # isort: skip

with needed_packages():
    import torch
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.run import parse_args, run


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("tool", choices=("train.py", "test.py"))
    parser.add_argument("processes", type=int, help="on this machine, one for each GPU")
    parser.add_argument("--nnodes", type=int, default=1, help="machines")
    parser.add_argument("--node-rank", type=int, default=0, help="number of this machine, from 0")
    parser.add_argument("--master-addr", default="127.0.0.1", help="machine 0, for all of them")
    parser.add_argument("--port", type=int, default=0, help="of machine 0; 0 chooses one")
    return parser


def torchrun_arguments(args: argparse.Namespace, arguments: Sequence[str]) -> list[str]:
    if min(args.processes, args.nnodes, 1 + args.max_restarts) < 1:
        raise ValueError("processes and machines are counted from 1, restarts from 0")
    port = args.port or (0 if args.nnodes == 1 else 29500)
    return [
        f"--nproc-per-node={args.processes}",
        f"--nnodes={args.nnodes}",
        f"--max-restarts={args.max_restarts}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={args.master_addr}:{port}",
        "--rdzv-id=fgclip_det",
        f"--rdzv-conf=is_host={args.node_rank == 0}",
        str(Path(__file__).with_name(args.tool)),
        *arguments,
    ]


def explain(error: ChildFailedError) -> int:
    """Say which process ended first; what it said itself stands above. Gives the exit code."""
    ended = [(rank, failure.exitcode) for rank, failure in error.failures.items()]
    first = (one for one in ended if one[1] not in (EXIT_OTHER_PROCESS, -signal.SIGTERM))
    rank, code = next(first, ended[0])
    how = f"with exit code {code}" if code > 0 else f"by {signal.Signals(-code).name}"
    then = "" if code == EXIT_USER_ERROR else ": a training goes on with --resume"
    say_error(f"process {rank} ended {how}, and with it the run{then}")
    return max(code, EXIT_FAILED)


def main(argv: Sequence[str] | None = None) -> int:
    def launch() -> int | None:
        given = list(sys.argv[1:] if argv is None else argv)
        place = [*given, "--"].index("--")
        args = build_parser().parse_args(given[:place])
        restarts = Parser(add_help=False, allow_abbrev=False)  # users give it behind the config
        restarts.add_argument("--max-restarts", type=int, default=0, help="after a failure")
        _, arguments = restarts.parse_known_args(given[place + 1 :], args)
        if not torch.cuda.is_available():
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
                os.environ.setdefault(name, str(max(1, cores // args.processes)))
        # With one store for all starts, the second would meet the addresses of the first.
        os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", str(int(args.nnodes > 1)))
        logging.disable(logging.ERROR)  # it logs pages of what is said in a line below
        try:
            run(parse_args(torchrun_arguments(args, arguments)))
        except ChildFailedError as error:
            return explain(error)
        except RendezvousError as error:
            why = f"{error.__cause__ or error}".splitlines()[0]
            why = "in use: set PORT to a free one, or leave it out" if "EADDRINUSE" in why else why
            raise ValueError(f"port {args.port} of {args.master_addr}: {why}") from error
        except SignalException:
            raise KeyboardInterrupt from None

    return run_tool(launch)


if __name__ == "__main__":
    sys.exit(main())
