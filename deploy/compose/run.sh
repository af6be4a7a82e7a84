#!/bin/sh
# Behind `make compose`, `make compose-up` and `make compose-down`: run.sh demo|up|down. Needs Docker with Compose 2.24.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

say() { printf '%s\n' "$*"; }
die() { say "$*" >&2; exit 1; }

docker compose version >/dev/null 2>&1 ||
    die 'Docker with the Compose plugin is needed and was not found. Install both, or run make demo, which needs neither.'
docker info >/dev/null 2>&1 ||
    die "The Docker engine does not answer. Start it, or let this user use it (group docker), and try again."

compose() { docker compose --file "$here/compose.yaml" "$@"; }

start() { # SECRETS FOLDER: build, make the secrets, start all, wait until all are healthy
    mkdir -p "$1"
    LAPOR_SECRETS=$(cd "$1" && pwd)
    export LAPOR_SECRETS
    say "Building the images"
    compose build --quiet
    docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$LAPOR_SECRETS:/secrets" --entrypoint python \
        "lapor-pontianak:${LAPOR_VERSION:-local}" -m deploy.compose.make_secrets /secrets
    say "Starting Kafka, MongoDB, the services and Prometheus"
    status=0
    compose --progress quiet up --detach --wait --wait-timeout 180 || status=$?
    [ $status -ne 130 ] || exit 130
    if [ $status -ne 0 ]; then
        compose ps --all
        compose logs --tail 20 --no-log-prefix provision
        die "Not everything became healthy. Look with: docker compose --project-name $COMPOSE_PROJECT_NAME logs <service>"
    fi
}

case ${1:-} in
up)
    COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-lapor}
    export COMPOSE_PROJECT_NAME
    start "${LAPOR_SECRETS:-$here/secrets}"
    compose ps --format 'table {{.Service}}\t{{.Status}}\t{{.Ports}}'
    say "The sign-ins are in $LAPOR_SECRETS/credentials.json. Stop with: make compose-down (the data stay)."
    ;;
down)
    compose --progress quiet --project-name "${COMPOSE_PROJECT_NAME:-lapor}" down
    ;;
demo)
    COMPOSE_PROJECT_NAME=lapor-demo-$$
    export COMPOSE_PROJECT_NAME
    compose() { docker compose --file "$here/compose.yaml" --file "$here/compose.demo.yaml" "$@"; }
    secrets=$(mktemp -d)
    trap 'say "Taking it down"; compose --progress quiet --profile demo down --volumes --remove-orphans; rm -rf "$secrets"' EXIT
    trap 'exit 130' INT TERM HUP
    start "$secrets"
    compose run --rm --no-deps -T demo
    ;;
*)
    die "Usage: $0 demo|up|down"
    ;;
esac
