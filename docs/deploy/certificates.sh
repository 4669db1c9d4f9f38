#!/bin/sh
# Certificates for a Dask cluster: an authority, and one key that all its machines share and nobody else has.
#   sh certificates.sh FOLDER [WHERE]
# FOLDER is made; WHERE is how the machines call it (default: its absolute path). Point DASK_CONFIG to WHERE/dask.yaml on
# every machine of the cluster, and copy everything there but ca-key.pem, which signs new keys and belongs into a safe.
set -eu
umask 077
mkdir -p "$1"
cd "$1"
where=${2:-$PWD}
new="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
# shellcheck disable=SC2086
openssl req -x509 $new -days 3650 -subj "/CN=mlpipe cluster authority" -keyout ca-key.pem -out ca.pem
# shellcheck disable=SC2086
openssl req $new -subj "/CN=mlpipe cluster" -keyout key.pem -out request.pem
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 825 -out cert.pem
rm request.pem ca.srl
cat > dask.yaml <<END
distributed:
  comm:
    require-encryption: true
    tls:
      ca-file: $where/ca.pem
      scheduler: {cert: $where/cert.pem, key: $where/key.pem}
      worker: {cert: $where/cert.pem, key: $where/key.pem}
      client: {cert: $where/cert.pem, key: $where/key.pem}
END
