#!/bin/sh
# Tests the compiled part under AddressSanitizer and UndefinedBehaviorSanitizer, and with guard pages.
#
#     tests/fuzz/asan.sh [PYTHON]            CASES=5000000 tests/fuzz/asan.sh    more cases of the fuzzer
#
# It needs Linux and gcc. PYTHON has Cython, setuptools, pytest, hypothesis and h11, as .venv has. It works in a copy
# that is removed afterwards. All hot modules are built with both sanitizers, whose library is loaded in front of Python;
# PYTHONMALLOC=malloc gives every object a block of its own, with a poisoned zone on either side, in place of a part of
# Python's pools. That zone begins after the NUL that ends every bytes object; guarded.py tests that one byte.
set -eu

python=${1:-python3}
case $python in */*) python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python") ;; esac
cases=${CASES:-200000}
cc=${CC:-cc}
root=$(cd "$(dirname "$0")/../.." && pwd)
copy=$(mktemp -d)
trap 'exit 130' INT TERM
trap finish EXIT

# Shows what the sanitizers reported: into a file, as pytest swallows what a dying test writes.
finish() {
    cat "$copy"/report.* 2>/dev/null || true
    rm -rf "$copy"
}

say() {
    printf '\n== %s\n' "$*"
}

cd "$root"
tar -cf - --exclude='*.so' --exclude=__pycache__ docs ext kaserve tests setup.py pyproject.toml README.md LICENSE |
    tar -xf - -C "$copy"
cd "$copy"

say "scan.h between guard pages, with SSE2 and without"
for option in -DWITH -U__SSE2__; do
    $cc -O2 -Wall -Wextra -Werror $option -I ext -o guard_page tests/fuzz/guard_page.c
    ./guard_page
done

say "building with the sanitizers"
# alignment: the objects that guarded.py makes end at the end of a page, wherever they begin.
sanitizers="-fsanitize=address,undefined -fno-sanitize=alignment -fno-sanitize-recover=all"
CFLAGS="$sanitizers -fno-omit-frame-pointer -O1 -g" LDFLAGS="$sanitizers" KASERVE_PURE= \
    "$python" setup.py -q build_ext --inplace say_what_was_built >build.log 2>&1 || { cat build.log; exit 1; }

LD_PRELOAD=$($cc -print-file-name=libasan.so)
ASAN_OPTIONS=detect_leaks=0:log_path=$copy/report  # no leaks: Python never frees all that it has
UBSAN_OPTIONS=print_stacktrace=1:log_path=$copy/report
PYTHONMALLOC=malloc
KASERVE_PURE=
export LD_PRELOAD ASAN_OPTIONS UBSAN_OPTIONS PYTHONMALLOC KASERVE_PURE

say "are the sanitizers active?"
"$python" - <<'PROOF'
import ctypes, os, sys
sys.path.insert(0, "")
import kaserve
assert kaserve.IMPLEMENTATION == "compiled", "it did not compile"
assert os.path.samefile(os.path.dirname(kaserve.__file__), "kaserve"), "that is another kaserve"
data = b"x" * 100
end = id(data) + sys.getsizeof(data)
poisoned = ctypes.CDLL(None).__asan_address_is_poisoned
assert not poisoned(ctypes.c_void_p(end - 1)), "the NUL of a bytes object is poisoned"
assert poisoned(ctypes.c_void_p(end)), "the memory after a bytes object is not poisoned"
with open("/proc/self/maps") as maps:
    assert "libubsan" in maps.read(), "no UndefinedBehaviorSanitizer"
print("yes")
PROOF

say "the corpus, and all tests of what is compiled"
"$python" -m pytest --compiled -p no:cacheprovider ${TESTS:-tests/http tests/net}

say "with a guard page"
"$python" -m tests.fuzz.guarded --cases "$cases"

say "the fuzzer"
"$python" -m tests.fuzz.differential --cases "$cases"

say "nothing found"
