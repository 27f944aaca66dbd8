#!/usr/bin/env bash
# What a deploy needs and a laptop has already: Docker may push to Artifact Registry, and helm or ssh gets to production. The first two act
# as whoever Google's credentials are of, which are CI's (scripts/ci_credentials.sh). The variables:
#   IMAGE, DEPLOY_TO   as for `make image` and `make roll-out`; the login to a registry that is not Google's is its own
#   GKE_CLUSTER        for kubernetes: projects/<project>/locations/<location>/clusters/<name>, whose control plane CI reaches
#   DEPLOY_HOST_KEY    for compose: what `ssh-keyscan -t ed25519 <host>` prints on a network that you trust
set -euo pipefail

token() {
  .venv/bin/python -c '
import google.auth
from google.auth.transport.requests import Request

credentials, _project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(Request())
print(credentials.token)'
}

# Reads what https://cloud.google.com/kubernetes-engine/docs/reference/rest/v1/projects.locations.clusters/get answers.
kubeconfig() {
  .venv/bin/python -c '
import json, os, sys

cluster = json.load(sys.stdin)
server = {"server": "https://" + cluster["endpoint"], "certificate-authority-data": cluster["masterAuth"]["clusterCaCertificate"]}
print(json.dumps({
    "apiVersion": "v1", "kind": "Config", "current-context": "production",
    "clusters": [{"name": "production", "cluster": server}],
    "users": [{"name": "production", "user": {"token": os.environ["ACCESS"]}}],
    "contexts": [{"name": "production", "context": {"cluster": "production", "user": "production"}}],
}))'
}

: "${IMAGE:?is not set}"
registry="${IMAGE%%/*}"
if [[ $registry == *-docker.pkg.dev ]]; then
  token | docker login --username oauth2accesstoken --password-stdin "https://$registry"
fi
case "${DEPLOY_TO:?is not set: kubernetes or compose}" in
  kubernetes)
    "$(dirname "$0")/ci_helm.sh"
    access="$(token)" config="$(mktemp)"
    curl -fsS --retry 3 --header @- "${GKE_API_URL:-https://container.googleapis.com/v1}/${GKE_CLUSTER:?is not set}" \
      <<<"Authorization: Bearer $access" | ACCESS="$access" kubeconfig >"$config"
    echo "export KUBECONFIG='$config'" >>"$BASH_ENV"
    ;;
  compose)
    mkdir -p ~/.ssh
    echo "${DEPLOY_HOST_KEY:?is not set}" >>~/.ssh/known_hosts
    ;;
  *)
    echo "DEPLOY_TO is $DEPLOY_TO: kubernetes or compose" >&2
    exit 1
    ;;
esac
