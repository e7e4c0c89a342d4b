"""Prints what torch finds of a host's GPUs, as JSON. It is its own process: Ray hides GPUs from actors without one."""

import json

import torch

from coablate_platform.train.precision import wrong_convolutions


def main() -> None:
    """Print one line: CUDA's and cuDNN's version, number of usable GPUs, kernel sizes that bf16 convolves wrong."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wrong = wrong_convolutions(torch.bfloat16, torch.device("cuda")) if count else ()
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    print(json.dumps({"cuda": torch.version.cuda, "cudnn": cudnn, "gpus": count, "wrong": wrong}))


if __name__ == "__main__":
    main()
