#!/usr/bin/env bash
# Tell Dagster that this job of CI has `failed` or `passed`; on main only, for a pull request is its author's.
set -euo pipefail
if [ "${CIRCLE_BRANCH:-}" != main ]; then
  echo "not on main: nobody is told"
  exit 0
fi
tell=(.venv/bin/dataplatform ci)
if [ ! -x "${tell[0]}" ]; then
  # What has failed is the installation: that is told by what little it takes.
  packages="$(mktemp -d)"
  "${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --target "$packages" httpx stamina typer || true
  export PYTHONPATH="$packages:."
  tell=("${PYTHON:-python3}" -m orchestration.ci)
fi
# A job is what it was, whether Dagster hears of it or not: else a Dagster that is down would keep out the deploy that mends it.
"${tell[@]}" "$1" || echo "on main, but Dagster was not told: an alert of this job stays as it was until it is" >&2
