#!/usr/bin/env bash
# A federation of two sites as it is deployed over machines, here all on 127.0.0.1 with simulated scans: keys, server, two learners, two rounds.
#
#     examples/federation_loopback.sh [FOLDER]
set -euo pipefail
privoxel=${PRIVOXEL:-privoxel}
folder=${1:-$(mktemp -d)}
port=${PORT:-9440}
mkdir -p "$folder" && cd "$folder"

model='[model]
width = 0.125
head = "scaled"
dropout = 0.0'
cat >server.toml <<TOML
learners = ["oslo", "lima"]
mean_age = 62.6
resolution_mm = 8.0
$model
[federation]
rounds = 2
local_epochs = 1
batch_size = 4
learning_rate = 1e-3
optimiser = "adam"
loss_scale = 55.0
TOML
seed=1
for site in oslo lima; do
  cat >"$site.toml" <<TOML
name = "$site"
mean_age = 62.6
seed = $((seed++))
[cohort]
kind = "simulated"
resolution_mm = 8.0
participants = 24
$model
TOML
done

[ -d keys ] || "$privoxel" federate deploy keys -o keys --learner oslo --learner lima
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait' EXIT
for site in oslo lima; do
  "$privoxel" federate deploy learner "$site.toml" --server "127.0.0.1:$port" --certificate keys/ca.pem --key "keys/$site.key" -o "at-$site" &
  pids+=($!)
done
"$privoxel" federate deploy server server.toml --keys keys -o run --port "$port"
wait "${pids[@]}" # the sites are told that it is over, and leave by themselves
