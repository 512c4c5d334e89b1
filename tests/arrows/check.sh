#!/bin/sh
# check.sh ROOT - every include follows the arrows of docs/architecture.md.
#
# A file may include its own room and what its room may lean on; for engines only service.c, service.h
# and main.c may also lean on mesh and proto. Prints each include that goes against an arrow.
set -eu
cd "$1"

find lib broker asr translate tts gateway cli models examples -name '*.[ch]' -o -name '*.cc' | xargs awk '
function room_of(path) {
    sub(/^lib\//, "", path)
    sub(/\/.*/, "", path)
    return path
}
BEGIN {
    may["base"] = ""
    may["mesh"] = "base proto"
    may["compute"] = "base"
    may["audio"] = "base"
    may["text"] = "base"
    may["broker"] = "base mesh proto"
    engine = "base compute audio text"
    may["asr"] = engine; may["translate"] = engine; may["tts"] = engine
    may["gateway"] = "base mesh audio text proto"
    may["models"] = "base"
    may["examples"] = "base mesh"
    may["cli"] = "base mesh compute audio text proto broker asr translate tts gateway models"
}
/^#include "/ {
    split($0, quoted, "\"")
    if (quoted[2] !~ /\//) next # a generated header beside the file
    from = room_of(FILENAME)
    to = room_of(quoted[2])
    allowed = may[from]
    if (from ~ /^(asr|translate|tts)$/ && FILENAME ~ /^[a-z]+\/(service\.[ch]|main\.c)$/)
        allowed = allowed " mesh proto"
    seen++
    if (to != from && index(" " allowed " ", " " to " ") == 0) {
        printf "%s:%d: %s may not include %s\n", FILENAME, FNR, from, quoted[2]
        wrong++
    }
}
END {
    printf "%d includes checked, %d against the arrows\n", seen, wrong
    exit wrong > 0 || seen == 0
}'
