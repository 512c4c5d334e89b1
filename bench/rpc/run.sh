#!/bin/sh
# bench/rpc/run.sh [bench.py options] - installs the peers, builds them into build/bench-rpc and us into
# build/release, and runs all in turn: ten minutes, with --quick two.
set -eu
cd "$(dirname "$0")/../.."
. scripts/setup.sh

peers=build/bench-rpc
# shellcheck disable=SC2046 # a list of words
setup_packages $(cat scripts/packages-build.txt) python3 openssl util-linux \
    libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc libnats-dev haproxy
setup_build release bench_rpc
mkdir -p $peers/generated $peers/go/bin

compile() { # compile OUTPUT SOURCE...: C++ against gRPC
    output=$1
    shift
    # shellcheck disable=SC2046
    g++ -O2 -std=c++17 -I. -I$peers/generated "$@" $peers/measure.o -o "$output" $(pkg-config --cflags --libs grpc++ protobuf)
}

gcc -O2 -D_GNU_SOURCE -I. -c bench/rpc/measure.c -o $peers/measure.o
gcc -O2 -D_GNU_SOURCE -I. bench/rpc/zmq_floor.c $peers/measure.o -o $peers/zmq_floor -lzmq
gcc -O2 -D_GNU_SOURCE -I. bench/rpc/peers/nats_client.c $peers/measure.o -o $peers/nats_client -lnats
protoc -I bench/rpc --cpp_out=$peers/generated --grpc_out=$peers/generated \
    --plugin=protoc-gen-grpc="$(command -v grpc_cpp_plugin)" echo.proto
for side in server client; do
    [ $peers/grpc_$side -nt bench/rpc/peers/grpc_$side.cc ] && [ $peers/grpc_$side -nt bench/rpc/measure.c ] ||
        compile $peers/grpc_$side bench/rpc/peers/grpc_$side.cc $peers/generated/echo.pb.cc $peers/generated/echo.grpc.pb.cc
done

# The Go peers, with the generator that go.mod names; go gets what they need by the sums of go.sum.
needs=$(sed -n 's/^go //p' bench/rpc/peers/go/go.mod)
has=$(go env GOVERSION 2>/dev/null | sed 's/^go//')
if [ -z "$has" ] || [ "$(printf '%s\n' "$needs" "$has" | sort -V | head -n 1)" != "$needs" ]; then
    echo "run.sh: no Go $needs or later, only '${has:-none}': install it to have grpc-go and NATS in the comparison" >&2
    exit 1
fi
cp bench/rpc/peers/go/* $peers/go/
(
    cd $peers/go
    go build -buildvcs=false -o bin/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
    module=dragoman/bench/rpc/peers
    PATH=$PWD/bin:$PATH protoc -I ../../../bench/rpc --go_out=. --go_opt=module=$module \
        --go-grpc_out=. --go-grpc_opt=module=$module echo.proto
    go build -buildvcs=false -o ../peers .
)

exec python3 bench/rpc/bench.py --ours build/release --peers $peers "$@"
