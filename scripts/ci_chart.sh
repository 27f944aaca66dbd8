#!/usr/bin/env bash
# Dagster's chart, in the version of Dagster that is locked: `make lint-deploy` holds deploy/helm/values.yaml against its schema.
set -euo pipefail
"$(dirname "$0")/ci_helm.sh"
folder="$(mktemp -d)"
helm pull dagster --repo https://dagster-io.github.io/helm --version "$(.venv/bin/python -c 'import dagster; print(dagster.__version__)')" --untar --untardir "$folder"
echo "export HELM_SCHEMA='$folder/dagster/values.schema.json'" >>"$BASH_ENV"
