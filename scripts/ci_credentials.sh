#!/usr/bin/env bash
# Credentials for Google's clients out of CircleCI's OpenID token (https://circleci.com/docs/openid-connect-tokens). The variables:
#   GOOGLE_WORKLOAD_IDENTITY_PROVIDER  projects/<number>/locations/global/workloadIdentityPools/<pool>/providers/<provider>
#   GOOGLE_SERVICE_ACCOUNT             what the job acts as
set -euo pipefail
: "${CIRCLE_OIDC_TOKEN_V2:?is given to jobs that have a context}"
: "${GOOGLE_WORKLOAD_IDENTITY_PROVIDER:?is not set in the context}" "${GOOGLE_SERVICE_ACCOUNT:?is not set in the context}"
folder="$(mktemp -d)"
printf %s "$CIRCLE_OIDC_TOKEN_V2" >"$folder/token"
cat >"$folder/credentials.json" <<JSON
{
  "type": "external_account",
  "audience": "//iam.googleapis.com/$GOOGLE_WORKLOAD_IDENTITY_PROVIDER",
  "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
  "token_url": "https://sts.googleapis.com/v1/token",
  "service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/$GOOGLE_SERVICE_ACCOUNT:generateAccessToken",
  "credential_source": {"file": "$folder/token"}
}
JSON
echo "export GOOGLE_APPLICATION_CREDENTIALS='$folder/credentials.json'" >>"$BASH_ENV"
