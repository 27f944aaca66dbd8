#!/usr/bin/env bash
# helm, where CI's machine has none.
set -euo pipefail
version=v3.19.0
command -v helm >/dev/null || curl -fsSL https://raw.githubusercontent.com/helm/helm/main/scripts/get-helm-3 | DESIRED_VERSION="$version" bash
