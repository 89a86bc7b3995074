#!/usr/bin/env bash
# The CPU ops and the modules of plugins under a sanitizer, exercised by their own tests.
#
#   tools/sanitize.sh                       AddressSanitizer and UndefinedBehaviorSanitizer, all fast tests of the ops and of label maps
#   tools/sanitize.sh thread                ThreadSanitizer over the kernels alone, on threads of their own: it does not understand the
#                                           OpenMP pool of torch, and would call every join a race
#   tools/sanitize.sh address PYTEST-ARGS   other tests
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-.venv/bin/python}
cxx=${CXX:-c++}
kind=${1:-address}
shift || true

if [[ $kind == thread ]]; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  cmake -S . -B "$folder" -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="-fsanitize=thread -g1" >/dev/null
  cmake --build "$folder" --target threads_test --parallel 2
  TSAN_OPTIONS="halt_on_error=1" "$folder/threads_test"
  exit
fi
case $kind in
  address) flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined" runtime=libasan.so ;;
  *) echo "sanitize: address or thread; got $kind" >&2 && exit 2 ;;
esac
if ! command -v "$cxx" >/dev/null || [[ $("$cxx" -print-file-name=$runtime) != /* ]]; then
  echo "sanitize: $cxx has no $runtime, so nothing is checked here."
  exit 0
fi

export MEDGEN_CXXFLAGS="$flags -O1 -g1 -fno-omit-frame-pointer"
export MEDGEN_OPS=native # a test that fell back to the reference would check nothing
# Built before the runtime is preloaded: the compiler itself needs no sanitizer.
"$python" -c "
from medgen import native
from medgen.native.extension import extension
from medgen.registry import get_host
w = native.policy()
modules = [item.spec.name for item in get_host().items('medgen_extensions') if item.spec.kind == 'module']
for plugin in (None, *map(extension, modules)):
    print(native.build(native.plan_of('cpu', w, extension=plugin), w.cache))
"

# Python and torch leak by design.
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
export PYTHONMALLOC=malloc # so that reads beyond NumPy's and Python's own buffers are seen
[[ $# -gt 0 ]] || set -- tests/ops plugins/medgen-anatomy/tests/test_{criteria,drawn,measures}.py -n "${JOBS:-2}" --dist worksteal -m "not slow and not cuda"
# libstdc++ too: the runtime looks for its exceptions when it starts
LD_PRELOAD="$("$cxx" -print-file-name=$runtime):$("$cxx" -print-file-name=libstdc++.so.6)" \
  "$python" -m pytest -q -p no:cacheprovider -p no:randomly "$@"
