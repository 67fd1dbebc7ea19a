#!/bin/sh
# Writes the *.lock files beside it anew from pyproject.toml: one file each for all supported Pythons and
# platforms, every package pinned and hashed. What is pinned already stays unless it must move; give
# --upgrade to move everything. Needs uv: `pip install uv`.
set -eu
cd "$(dirname "$0")/.."

compile() {  # OUTPUT ARGUMENTS...
    output=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
        --no-sources "$@" --output-file "configs/$output"
}

compile requirements-dev.lock pyproject.toml --extra dev "$@"
compile requirements.lock pyproject.toml --constraints configs/requirements-dev.lock "$@"
echo hatchling | compile build.lock - --constraints configs/requirements-dev.lock "$@"
echo kubernetes-validate | compile checks.lock - --constraints configs/requirements-dev.lock "$@"
compile requirements-deep.lock pyproject.toml --extra deep "$@"  # alone: it holds others back
