#!/usr/bin/env bash
# Makes the virtual environment that holds the peers (Stable-Baselines3 on a CPU build of torch).
#
# usage: benchmarks/make_peers_environment.sh [DIR]     (default: .venv-peers in the repository root)
#
# PYTHON names the interpreter (default python3). Torch goes in first and is pinned by a constraint,
# so that installing Stable-Baselines3 cannot replace the CPU build by a CUDA one.
set -euo pipefail

torch_version="2.13.0"
stable_baselines3_version="2.9.2"
gymnasium_version="1.4.0"

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
directory="${1:-$root/.venv-peers}"

# Linux wheels name their build in the version; macOS has CPU wheels only, without a name.
case "$(uname -s)" in
  Linux) torch="torch==${torch_version}+cpu" ;;
  *) torch="torch==${torch_version}" ;;
esac

"${PYTHON:-python3}" -m venv "$directory"
python="$directory/bin/python"
constraints="$(mktemp)"
trap 'rm -f "$constraints"' EXIT
echo "$torch" > "$constraints"

# The configured index has the CPU build on some machines; else it comes from torch's own index.
"$python" -m pip install --quiet "$torch" ||
  "$python" -m pip install --quiet --index-url https://download.pytorch.org/whl/cpu "$torch"
"$python" -m pip install --quiet --constraint "$constraints" \
  "stable-baselines3==$stable_baselines3_version" "gymnasium[box2d,mujoco]==$gymnasium_version" \
  ale-py opencv-python-headless jax optax flax matplotlib seaborn six
# By itself: it asks for an older Gymnasium, which its environments do not use.
"$python" -m pip install --quiet --no-deps gymnax

"$python" - "$torch_version" <<'PYTHON'
import sys

import gymnasium
import stable_baselines3
import torch

if torch.__version__.split("+")[0] != sys.argv[1] or torch.version.cuda is not None:
    sys.exit(f"torch is {torch.__version__} (CUDA {torch.version.cuda}); wanted a CPU {sys.argv[1]}")
print(
    f"torch {torch.__version__}, stable-baselines3 {stable_baselines3.__version__}, "
    f"gymnasium {gymnasium.__version__}"
)
PYTHON
echo "made $directory"
