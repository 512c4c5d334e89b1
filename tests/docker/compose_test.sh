#!/bin/bash
# compose_test.sh BUILD - the default stack in real containers.
#
# Builds the images, checks what is (and is not) in them, starts the stack with the models of this
# machine, interprets speech both ways, reads every limit back from the cgroups, kills a worker, and
# takes the stack down; then starts it with keys (compose/curve.yaml), interprets once more, and calls its
# broker with the operator's key, a stranger's, and none. With CI=true a Docker engine is installed and started when none answers;
# otherwise the test is skipped (exit status 77).
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1
dragoman=$build/cli/dragoman
models=${DRAGOMAN_MODELS:-$HOME/.local/share/dragoman/models}
export PATH=/usr/bin:$PATH DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1
export DRAGOMAN_MODELS_VOLUME=$models
DRAGOMAN_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export DRAGOMAN_PORT
url=http://127.0.0.1:$DRAGOMAN_PORT
project=dragoman-test
samples=/usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb
work=$(mktemp -d)

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

overlay=()
compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose -p $project -f compose/compose.yaml "${overlay[@]}" "$@"
    else
        docker-compose -p $project -f compose/compose.yaml "${overlay[@]}" "$@"
    fi
}

start_engine() {
    docker info >/dev/null 2>&1 && return
    if [ "${CI:-}" != true ]; then
        echo "SKIPPED: no Docker engine answers (with CI=true one would be started)"
        exit 77
    fi
    . scripts/setup.sh
    setup_packages docker.io docker-compose iptables debootstrap
    setsid dockerd >"$work/dockerd.log" 2>&1 &
    engine=$!
    for _ in $(seq 60); do
        docker info >/dev/null 2>&1 && return
        sleep 0.5
    done
    cat "$work/dockerd.log" >&2
    fail "dockerd does not answer"
}

# The base image from a registry, or, where none is reached, made with debootstrap.
base_image() {
    docker image inspect debian:bookworm-slim >/dev/null 2>&1 && return
    timeout 60 docker pull -q debian:bookworm-slim 2>/dev/null && return
    . scripts/setup.sh
    setup_packages debootstrap
    debootstrap --variant=minbase bookworm "$work/root" >/dev/null
    tar -C "$work/root" -c --exclude=./var/cache --exclude=./var/lib/apt/lists \
        --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
        --exclude='./usr/share/locale/*' --exclude='./usr/share/info/*' . |
        docker import - debian:bookworm-slim >/dev/null
    rm -rf "$work/root"
}

clean_up() {
    status=$?
    if [ $status -ne 0 ] && [ $status -ne 77 ]; then
        compose logs --tail 30 2>&1 || :
    fi
    compose down --timeout 40 >/dev/null 2>&1 || :
    [ -z "${engine:-}" ] || kill "$engine"
    rm -rf "$work"
}

wait_ready() {
    for _ in $(seq 240); do
        curl -fsS -o "$work/ready" "$url/readyz" 2>/dev/null && return
        sleep 0.5
    done
    compose ps
    fail "the stack is not ready after two minutes: $(curl -sS "$url/readyz")"
}

# cgroup_value CONTAINER V1_CONTROLLER V1_FILE V2_FILE
cgroup_value() {
    local id
    id=$(docker inspect -f '{{.Id}}' "$1")
    cat "/sys/fs/cgroup/$2/docker/$id/$3" 2>/dev/null ||
        cat "/sys/fs/cgroup/system.slice/docker-$id.scope/$4" 2>/dev/null ||
        cat "/sys/fs/cgroup/docker/$id/$4"
}

check_images() {
    local total=0 size
    for image in broker asr translate tts gateway models; do
        size=$(docker image inspect -f '{{.Size}}' "dragoman-$image")
        printf '  %-20s %6.1f MB\n' "dragoman-$image" "$(echo "$size" | awk '{print $1 / 1e6}')"
        total=$((total + size))
        [ "$(docker image inspect -f '{{.Config.User}}' "dragoman-$image")" = 1000:1000 ] ||
            fail "dragoman-$image does not run as user 1000"
    done
    echo "  together $((total / 1000000)) MB"
    [ $total -le 250000000 ] || fail "the images together are larger than 250 MB"
    for tool in sh bash apt gcc python3; do
        if docker run --rm --entrypoint "$tool" dragoman-asr --version >/dev/null 2>&1; then
            fail "dragoman-asr contains $tool"
        fi
    done
}

check_limits() {
    local container memory swap cpus want_memory want_cpus
    for container in $(compose ps -q); do
        service=$(docker inspect -f '{{index .Config.Labels "com.docker.compose.service"}}' "$container")
        want_memory=$(docker inspect -f '{{.HostConfig.Memory}}' "$container")
        want_cpus=$(docker inspect -f '{{.HostConfig.NanoCpus}}' "$container")
        [ "$(docker inspect -f '{{.State.Running}}' "$container")" = true ] || continue
        [ "$want_memory" -gt 0 ] || fail "$service has no memory limit"
        [ "$want_cpus" -gt 0 ] || fail "$service has no CPU limit"
        memory=$(cgroup_value "$container" memory memory.limit_in_bytes memory.max)
        cpus=$(cgroup_value "$container" cpu cpu.cfs_quota_us cpu.max | awk '{print $1 * 10000}')
        printf '  %-18s memory %5d MB, %s CPU\n' "$service" $((memory / 1048576)) \
            "$(awk "BEGIN {print $cpus / 1e9}")"
        [ "$memory" = "$want_memory" ] || fail "$service: memory limit $memory, not $want_memory"
        [ "$cpus" = "$want_cpus" ] || fail "$service: CPU limit $cpus, not $want_cpus"
        [ "$(docker inspect -f '{{.HostConfig.MemoryReservation}}' "$container")" -gt 0 ] ||
            fail "$service has no memory reservation"
        [ "$(docker inspect -f '{{.HostConfig.ReadonlyRootfs}}' "$container")" = true ] ||
            fail "$service can write its root"
    done
}

interpret() { # FILE FROM TO
    curl -sS -m 120 -F "file=@$1" -F "from=$2" -F "to=$3" "$url/v1/interpret"
}

interpret_english() {
    interpret $samples-0870.wav en pt >"$work/pt.json"
    python3 - "$work/pt.json" <<'PYTHON'
import base64, json, sys
result = json.load(open(sys.argv[1]))
print(" ", result["transcript"], "->", result["translation"])
assert "John Dashwood" in result["transcript"] and "poder" in result["translation"], result
audio = base64.b64decode(result["audio"]["data"])
assert audio[:4] == b"RIFF" and len(audio) > 100000, len(audio)
PYTHON
}

# call_broker WHO STATUS TEXT FLAG...: from this machine; it must end so, and say that
call_broker() {
    local who=$1 want=$2 text=$3 status=0
    shift 3
    "$dragoman" call --broker "$front" --timeout 10 "$@" --list >"$work/said" 2>&1 || status=$?
    if [ $status != "$want" ] || ! grep -q "$text" "$work/said"; then
        fail "dragoman call with $who ended with $status: $(cat "$work/said")"
    fi
    echo "  $who: $(grep -m 1 "$text" "$work/said")"
}

# As docs/security.md says; containers run as whoever made the keys.
start_with_keys() {
    export DRAGOMAN=$dragoman DRAGOMAN_KEYS=$work/keys
    DRAGOMAN_KEYS_USER=$(id -u):$(id -g)
    export DRAGOMAN_KEYS_USER
    scripts/keys.sh "$DRAGOMAN_KEYS" >/dev/null
    overlay=(-f compose/curve.yaml)
    compose up -d >"$work/up.log" 2>&1 || { cat "$work/up.log"; compose ps; fail "the stack does not start with keys"; }
    wait_ready
}

# All workers have come; the broker hears its operator, and neither a stranger nor whoever has no key.
check_keys() {
    local workers="dragoman.asr.v1.Recognizer 2 dragoman.translate.v1.Translator 2 dragoman.tts.v1.Synthesizer 2"
    local broker operator=(--key "$DRAGOMAN_KEYS/operator.key" --broker-key "$DRAGOMAN_KEYS/broker.cert")
    broker=$(compose ps -q broker)
    front=tcp://$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$broker"):5601
    "$dragoman" keys new stranger -o "$work" >/dev/null
    for _ in $(seq 60); do
        "$dragoman" top --broker "$front" "${operator[@]}" |
            awk '/^dragoman[.].*[.]v1/ {print $1, $2}' | sort | paste -sd ' ' >"$work/top" || :
        grep -qx "$workers" "$work/top" && break
        sleep 0.5
    done
    echo "  workers: $(cat "$work/top")"
    grep -qx "$workers" "$work/top" || fail "not all six workers are there with their keys"
    call_broker "the operator's key" 0 dragoman.asr "${operator[@]}"
    call_broker "a stranger's" 1 "UNAVAILABLE.*its certificate must be added there" --key "$work/stranger.key" \
        --broker-key "$DRAGOMAN_KEYS/broker.cert"
    call_broker "none" 1 "UNAVAILABLE.*\(a key is needed\|and want a key\)"
}

trap clean_up EXIT
start_engine
base_image
echo "building the images"
compose build >"$work/build.log" 2>&1 || { tail -60 "$work/build.log"; fail "the images do not build"; }
check_images

echo "starting the stack"
compose up -d >/dev/null 2>&1 || { compose ps; fail "the stack does not start"; }
wait_ready
check_limits

echo "interpreting"
interpret_english
curl -sS -m 60 -o "$work/pt.wav" -H 'Content-Type: application/json' -d '{"model": "tts-1", "voice": "pt",
    "response_format": "wav", "input": "Amanhã eu vou comprar um livro para a minha mãe."}' \
    "$url/v1/audio/speech"
interpret "$work/pt.wav" pt en >"$work/en.json"
python3 - "$work/en.json" <<'PYTHON'
import base64, json, sys
result = json.load(open(sys.argv[1]))
print(" ", result["transcript"], "->", result["translation"])
assert "book" in result["translation"] and "mother" in result["translation"], result
assert len(base64.b64decode(result["audio"]["data"])) > 30000, "no speech"
PYTHON

echo "killing the translator"
docker kill "$(compose ps -q translate-en-pt)" >/dev/null
status=$(curl -sS -m 30 -o "$work/dead" -w '%{http_code}' -F "file=@$samples-0880.wav" -F from=en -F to=pt "$url/v1/interpret")
cat "$work/dead"; echo
[ "$status" = 503 ] || fail "a dead translator gave status $status"
compose up -d >/dev/null 2>&1
for _ in $(seq 60); do
    interpret $samples-0880.wav en pt >"$work/again" && grep -q '"translation"' "$work/again" && break
    sleep 1
done
grep -q '"translation"' "$work/again" || fail "the stack does not recover: $(cat "$work/again")"
compose down --timeout 40 >/dev/null 2>&1

echo "starting the stack with keys"
begun=$SECONDS
start_with_keys
interpret_english
check_keys
compose down --timeout 40 >/dev/null 2>&1
echo "  $((SECONDS - begun)) s"
echo "passed"
