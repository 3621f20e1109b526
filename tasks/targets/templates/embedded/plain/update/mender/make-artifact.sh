#!/bin/sh
# Make the Mender artifact: make-artifact.sh MODEL.TAR OUT.mender [KEY]
set -eu
here=$(dirname "$0")
. "$here/artifact.conf"
set -- "$1" "$2" "${3:-}"
mender-artifact write module-image --type edgewright-model --artifact-name "$ARTIFACT" --device-type "$DEVICE" \
    --file "$1" --output-path "$2" ${3:+--key "$3"}
