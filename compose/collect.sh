#!/bin/bash
# collect.sh BUILD OUT - a root folder for each program: the stripped binary, the libraries that ldd
# names, the dynamic loader, and the data that its libraries read.
set -euo pipefail
build=$1
out=$2

collect() { # ROOM BINARY
    local root=$out/$1
    local binary
    binary=$(find "$build/$1" -maxdepth 1 -type f -name "$2")
    mkdir -p "$root/bin" "$root/lib64" "$root/tmp" "$root/models" "$root/run/dragoman"
    install -s -m 755 "$binary" "$root/bin/$2"
    ldd "$binary" | awk '$2 == "=>" {print $3} $1 ~ /^\// {print $1}' | sort -u |
        while read -r library; do
            install -D -m 644 "$library" "$root$library"
        done
    chmod 755 "$root"/lib64/ld-linux-* "$root"/lib/ld-linux-* 2>/dev/null || :
    chown -R 1000:1000 "$root/models" "$root/run/dragoman"
    chmod 1777 "$root/tmp"
}

collect broker dragoman-broker
collect asr dragoman-asr
collect translate dragoman-translate
collect tts dragoman-tts
collect gateway dragoman-gateway
collect cli dragoman
mv "$out/cli" "$out/dragoman"
collect cli dragoman-models
mv "$out/cli" "$out/models"

# espeak-ng reads its data at run time.
for root in tts dragoman; do
    data=$(dpkg -L espeak-ng-data | awk '/^\/usr\/lib.*\/espeak-ng-data$/')
    mkdir -p "$out/$root$data"
    cp -r "$data/." "$out/$root$data/"
done
