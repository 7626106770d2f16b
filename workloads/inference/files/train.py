"""Train a model that is small enough to watch, and hand it to the server: `python examples/train.py`.

It learns y = 2x + 1. What it writes is a model as Triton's repository has it, NAME/VERSION/model.pt with
NAME/config.pbtxt, in a version of its own that appears whole, so a server that polls never reads half of one.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

CONFIG = """name: "{name}"
backend: "pytorch"
max_batch_size: 64
input [{{ name: "INPUT__0", data_type: TYPE_FP32, dims: [1] }}]
output [{{ name: "OUTPUT__0", data_type: TYPE_FP32, dims: [1] }}]
dynamic_batching {{ max_queue_delay_microseconds: 1000 }}
"""


def next_version(folder: Path) -> int:
    """One more than the highest there is."""
    return max((int(each.name) for each in folder.glob("*") if each.name.isdigit()), default=0) + 1


def publish(repository: Path, name: str, model: bytes) -> Path:
    """Put a model into the repository; returns its version's folder."""
    folder = repository / name
    version = next_version(folder)
    hidden = repository / f".{name}-{version}"
    hidden.mkdir(parents=True, exist_ok=True)
    (hidden / "model.pt").write_bytes(model)
    folder.mkdir(exist_ok=True)
    config = folder / "config.pbtxt"
    if not config.exists():
        config.write_text(CONFIG.format(name=name))
    return hidden.rename(folder / str(version))


def train(steps: int) -> bytes:
    """The trained model, as TorchScript."""
    import io  # noqa: PLC0415 - with torch, which is slow to load

    import torch  # type: ignore[import-not-found]  # noqa: PLC0415

    device = "cuda" if torch.cuda.is_available() else "cpu"
    line = torch.nn.Linear(1, 1).to(device)
    optimizer = torch.optim.SGD(line.parameters(), lr=0.1)
    for step in range(steps):
        x = torch.rand(256, 1, device=device) * 2 - 1
        loss = torch.nn.functional.mse_loss(line(x), 2 * x + 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.6f} on {device}")
    stream = io.BytesIO()
    torch.jit.script(line.cpu()).save(stream)
    return stream.getvalue()


def main() -> None:
    """Train and publish."""
    parser = argparse.ArgumentParser(description="Train a small model and hand it to the server.")
    parser.add_argument("--models", type=Path, default=Path(os.environ.get("MODELS", "/models")))
    parser.add_argument("--name", default="line")
    parser.add_argument("--steps", type=int, default=500)
    given = parser.parse_args()
    if str(given.models).startswith("s3:"):
        parser.error("models are in a bucket; write to a folder with --models and copy it there")
    print(f"published as {publish(given.models, given.name, train(given.steps))}")


if __name__ == "__main__":
    main()
