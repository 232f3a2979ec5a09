#!/bin/sh
# Unit and property tests on every supported Python that is installed, but for the one in .venv.
set -eu

find_python() {
  for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
    if "$candidate" -c '' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

mine=$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
for version in 3.11 3.12 3.13 3.14; do
  [ "$version" != "$mine" ] || continue
  python=$(find_python "$version") || continue
  venv="build/python-$version"
  echo "unit tests on Python $version"
  [ -x "$venv/bin/python" ] || uv venv --quiet --no-python-downloads --python "$python" "$venv"
  uv pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements/dev.txt
  uv pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
  "$venv/bin/python" -m pytest --quiet -p no:cacheprovider tests/unit tests/contract tests/property
done
