#!/usr/bin/env bash
# Have production run an image: `scripts/roll_out.sh <image> <tag>`. DEPLOY_TO says where:
#   kubernetes   by Dagster's chart, with kubectl's current context
#   compose      on DEPLOY_HOST, by ssh, below DEPLOY_FOLDER (/opt/dataplatform); docs/production.md has what lies there
set -euo pipefail
image="${1:?the image, without its tag}" tag="${2:?the tag}"
case "${DEPLOY_TO:?is not set: kubernetes or compose}" in
  kubernetes)
    helm upgrade --install dagster dagster --repo https://dagster-io.github.io/helm --version "$(.venv/bin/python -c 'import dagster; print(dagster.__version__)')" \
      --namespace dagster --values deploy/helm/values.yaml --wait --timeout 15m \
      --set "dagsterWebserver.image.repository=$image,dagsterWebserver.image.tag=$tag" \
      --set "dagsterDaemon.image.repository=$image,dagsterDaemon.image.tag=$tag" \
      --set "dagster-user-deployments.deployments[0].image.repository=$image,dagster-user-deployments.deployments[0].image.tag=$tag"
    ;;
  compose)
    # The image's name is in a file of the machine; runs that are under way go on with the image before it. Caddy reads its file at its start.
    # shellcheck disable=SC2029
    tar --create deploy/compose.yaml deploy/Caddyfile | ssh "${DEPLOY_HOST:?is not set}" "set -e
      sudo mkdir -p ${DEPLOY_FOLDER:=/opt/dataplatform}
      sudo tar --extract --directory $DEPLOY_FOLDER
      sudo sed -i 's|^DATAPLATFORM_IMAGE=.*|DATAPLATFORM_IMAGE=$image:$tag|' /etc/dataplatform/stack.env
      cd $DEPLOY_FOLDER
      compose='sudo docker compose -f deploy/compose.yaml --env-file /etc/dataplatform/stack.env'
      # Not of PostgreSQL and what stands in front: a minor of theirs that came out since would restart them under runs that are under way.
      \$compose pull code-location daemon webserver webserver-read-only
      \$compose up -d --wait
      \$compose restart caddy"
    ;;
  *)
    echo "DEPLOY_TO is $DEPLOY_TO: kubernetes or compose" >&2
    exit 1
    ;;
esac
