#!/bin/sh
# Sets everything up on a Debian 12 that has nothing but a shell and apt, builds, and runs all tests.
# Quick the second time.
#
#   ./test.sh           the release build, every test
#   ./test.sh asan      the same under AddressSanitizer and UBSan, without containers and browser
#   ./test.sh tsan      the threaded rooms under ThreadSanitizer
#
# The container test needs a Docker engine. With CI=true one is installed and started for it;
# otherwise the test says that it is skipped when no engine answers.
set -eu
cd "$(dirname "$0")"
. scripts/setup.sh
preset=${1:-release}

# shellcheck disable=SC2046 # a list of words
setup_packages $(cat scripts/packages-build.txt scripts/packages-test.txt)
setup_build release
setup_models --all

case $preset in
release) exclude="" ;;
asan) exclude="docker|browser" ;;
tsan) exclude="docker|browser|golden|e2e|fuzz" ;;
*)
    echo "usage: ./test.sh [release|asan|tsan]" >&2
    exit 2
    ;;
esac
[ "$preset" = release ] || setup_build "$preset"

say "Tests of the $preset build${exclude:+, without those labelled $exclude}"
# In CI what fails runs once more, and both runs are printed: its machines stand still for seconds now and then.
ctest --preset "$preset" ${exclude:+--label-exclude "$exclude"} ${CI:+--repeat until-pass:2}
