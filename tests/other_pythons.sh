#!/bin/sh
# Unit and property tests on every supported Python that is installed, but for the one in .venv;
# all of them side by side, each with its log in build/.
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

run_on() {  # a version, and its interpreter
  venv="build/python-$1"
  [ -x "$venv/bin/python" ] || uv venv --quiet --no-python-downloads --python "$2" "$venv"
  uv pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements/dev.txt
  uv pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
  "$venv/bin/python" -m pytest --quiet -p no:cacheprovider tests/unit tests/contract tests/property
}

mine=$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
mkdir -p build
running=""
for version in 3.11 3.12 3.13 3.14; do
  [ "$version" != "$mine" ] || continue
  python=$(find_python "$version") || continue
  echo "unit tests on Python $version"
  run_on "$version" "$python" >"build/python-$version.log" 2>&1 &
  running="$running $version:$!"
done

failed=0
for one in $running; do
  wait "${one#*:}" || failed=1
  echo "Python ${one%:*}:"
  tail -n "$([ "$failed" = 0 ] && echo 1 || echo 200)" "build/python-${one%:*}.log"
done
exit "$failed"
