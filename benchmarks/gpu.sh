#!/usr/bin/env bash
# Everything that needs a GPU, in ten minutes: bash benchmarks/gpu.sh [folder of runs]. CIFAR-10 is read from COSTATE_DATA.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-runs/gpu}
run() {  # name, seconds at most, settings
  local name=$1 limit=$2
  shift 2
  timeout "$limit" python train.py trainer=gpu trainer.progress=lines hydra.run.dir="$out/$name" "$@" >"$out/$name.log" 2>&1
  local code=$?
  echo "$name: exit $code, $(python -c "
import json, pathlib
file = pathlib.Path('$out/$name/summary.json')
found = json.loads(file.read_text()) if file.exists() else {}
print(', '.join(f'{k} {found[k]:.4g}' for k in ('test/accuracy', 'fit_seconds', 'samples_per_second') if k in found))")"
}
mkdir -p "$out"
python -c "import torch; print(torch.__version__, torch.cuda.get_device_name())" || exit 1

run main 60
run bf16 60 trainer.precision=bf16-mixed
# nccl refuses two ranks on one device, so a pipeline needs two.
[ "$(python -c 'import torch; print(torch.cuda.device_count())')" -ge 2 ] && run nccl 90 execution=pipeline
cifar=(arch=resnet18 data=cifar10 epochs=10 stages=4 trainer.precision=bf16-mixed)
run resnet18-backprop 120 "${cifar[@]}" method=backprop
run resnet18-delayed 120 "${cifar[@]}" method=delayed
run resnet18-greedy 120 "${cifar[@]}" method=greedy
run revnet18-petra 120 "${cifar[@]}" arch=revnet18 method=petra trainer.precision=32-true
python -m costate.reports "$out" --out "$out/report"
