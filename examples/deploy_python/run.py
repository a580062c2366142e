"""Runs an artifact from Python: python run.py model.w8a8.pt input.npy"""

import sys

import numpy as np
import repquant
import torch


def main() -> None:
    model, report = repquant.load_with_report(sys.argv[1])
    fused = sum(site.fused for site in report.sites)
    print(f"{fused} of {len(report.sites)} submodules fused, {report.cpu_level}")
    inputs = torch.from_numpy(np.load(sys.argv[2]))
    with torch.inference_mode():
        output = model(inputs)
    print("classes", output.argmax(-1).tolist())


if __name__ == "__main__":
    main()
