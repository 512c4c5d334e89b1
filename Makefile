# The commands that developers type. CMake builds; this only fronts it.
.PHONY: all test demo asan tsan docker keys up down bench format

COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
export DOCKER_BUILDKIT = 1
export COMPOSE_DOCKER_CLI_BUILD = 1

all:
	cmake --preset release
	cmake --build --preset release

test:
	./test.sh

asan tsan:
	./test.sh $@

demo:
	./demo.sh

docker:
	$(COMPOSE) -f compose/compose.yaml build

keys:
	scripts/keys.sh $${DRAGOMAN_KEYS:-compose/keys}

up:
	$(COMPOSE) -f compose/compose.yaml up --detach --build

down:
	$(COMPOSE) -f compose/compose.yaml down

bench:
	bench/chain/run.sh

format:
	git ls-files '*.c' '*.h' | xargs clang-format -i
