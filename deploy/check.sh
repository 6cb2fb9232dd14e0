#!/bin/sh
# Lints what netledger is run with: ./deploy/check.sh FOLDER-OF-TOOLS. `make check` calls it; what these tools do not see,
# tests/deploy does. systemd-analyze and kubectl come in no Python package, so they are used where they are there.
set -eu
cd "$(dirname "$0")"
bin=$1

"$bin/yamllint" --strict .
"$bin/hadolint" --failure-threshold style docker/Dockerfile
# The oldest release that these files are for, and the newest. The kinds of others, and kustomize's, have no schema there.
for release in 1.30.0 1.37.0; do
    "$bin/kubernetes-validate" --strict --quiet -k "$release" \
        kubernetes/namespace.yaml kubernetes/serviceaccount.yaml kubernetes/rbac.yaml kubernetes/service.yaml \
        kubernetes/networkpolicy.yaml kubernetes/statefulset.yaml kubernetes/secrets.template.yaml
done

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

if command -v kubectl >/dev/null; then
    kubectl kustomize kubernetes >"$made/all.yaml"
    "$bin/kubernetes-validate" --strict --quiet "$made/all.yaml"
else
    echo "kubectl is not here: kubernetes/kustomization.yaml was not built"
fi

if command -v systemd-analyze >/dev/null; then
    # It asks for the program, too, which is not installed here; and of a key that it does not know it only warns.
    sed 's,^ExecStart=[^ ]*,ExecStart=/bin/true,' systemd/netledger.service >"$made/netledger.service"
    systemd-analyze verify --recursive-errors=no "$made/netledger.service" >"$made/said" 2>&1 || true
    if grep -F netledger.service "$made/said"; then
        exit 1
    fi
    systemd-analyze security --offline=true --threshold=15 --no-pager "$made/netledger.service" >"$made/said" || {
        cat "$made/said"
        exit 1
    }
else
    echo "systemd-analyze is not here: systemd/netledger.service was not verified"
fi
