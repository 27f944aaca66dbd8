#!/usr/bin/env bash
# Lets CircleCI's jobs act as Google service accounts, without a key. A person who may administer the project runs it, once. The variables:
#   GOOGLE_CLOUD_PROJECT      the project of the pool
#   CIRCLECI_ORGANISATION_ID  CircleCI: Organization settings, Overview
#   CIRCLECI_PROJECT_ID       CircleCI: Project settings, Overview
#   DEPLOYER                  the service account of the context data-platform-production: jobs of main alone
#   EVERY_BRANCH              those of the contexts data-platform-production-read and data-platform-pull-requests, with a space between
#   MAIN                      the branch that is deployed; main where it is not set
# Claims: https://circleci.com/docs/openid-connect-tokens/ (issuer, audience, vcs-ref). The `sub` of CIRCLE_OIDC_TOKEN_V2 is
# org/<uuid>/project/<uuid>/user/<uuid>/vcs-origin/<origin>/vcs-ref/<ref>, longer than the 127 bytes that Google takes for google.subject
# (https://cloud.google.com/iam/docs/reference/rest/v1/projects.locations.workloadIdentityPools.providers, attributeMapping).
# A build of a fork's pull request has refs/heads/pull/<number> as its ref, also where the fork's branch is main.
set -euo pipefail
: "${GOOGLE_CLOUD_PROJECT:?is not set}" "${CIRCLECI_ORGANISATION_ID:?is not set}" "${CIRCLECI_PROJECT_ID:?is not set}"
: "${DEPLOYER:?is not set}" "${EVERY_BRANCH:?is not set}"
claim="assertion['oidc.circleci.com/project-id']"
pool=circleci

gcloud services enable iam.googleapis.com iamcredentials.googleapis.com sts.googleapis.com --project "$GOOGLE_CLOUD_PROJECT"
gcloud iam workload-identity-pools create "$pool" --project "$GOOGLE_CLOUD_PROJECT" --location global
# The issuer has all projects of the organisation, so that the condition lets in this one alone.
gcloud iam workload-identity-pools providers create-oidc circleci --project "$GOOGLE_CLOUD_PROJECT" --location global \
  --workload-identity-pool "$pool" \
  --issuer-uri "https://oidc.circleci.com/org/$CIRCLECI_ORGANISATION_ID" \
  --allowed-audiences "$CIRCLECI_ORGANISATION_ID" \
  --attribute-mapping "google.subject=$claim,attribute.ref=assertion['oidc.circleci.com/vcs-ref']" \
  --attribute-condition "$claim == '$CIRCLECI_PROJECT_ID'"

number="$(gcloud projects describe "$GOOGLE_CLOUD_PROJECT" --format 'value(projectNumber)')"
identities="iam.googleapis.com/projects/$number/locations/global/workloadIdentityPools/$pool"

allow() { # a service account, and who may act as it
  gcloud iam service-accounts add-iam-policy-binding "$1" --project "$GOOGLE_CLOUD_PROJECT" \
    --role roles/iam.workloadIdentityUser --member "$2"
}

allow "$DEPLOYER" "principalSet://$identities/attribute.ref/refs/heads/${MAIN:-main}"
for account in $EVERY_BRANCH; do
  allow "$account" "principal://$identities/subject/$CIRCLECI_PROJECT_ID"
done
echo "GOOGLE_WORKLOAD_IDENTITY_PROVIDER=projects/$number/locations/global/workloadIdentityPools/$pool/providers/circleci"
