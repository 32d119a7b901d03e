# Two commands do everything on a machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo test lint bench digests determinism docs soak soak-50 detection sim-day sim-10k sim-100k chaos fuzz python-runtime fast clean lock

demo: $(STAMP)
	@"$(BIN)/hearth" demo

# Those of whole meshes by the file, two at a time: what they wait for, a lease's end or a node's, leaves cores idle.
MESHES := tests/chaos tests/end_to_end tests/node/bench $(wildcard tests/testnet/test_*.py)
test: $(STAMP)
	@failed=0; \
	"$(BIN)/python" -m pytest -q -n 2 tests $(MESHES:%=--ignore=%) || failed=1; \
	"$(BIN)/python" -m pytest -q -n 2 --dist loadfile $(MESHES) || failed=1; \
	exit $$failed

lint: $(STAMP)
	@"$(BIN)/ruff" check .
	@"$(BIN)/ruff" format --check .
	@"$(BIN)/mypy"

# Compares with Dask and Ray where they can be installed, into an environment of their own.
bench: $(STAMP)
	@"$(BIN)/hearth" bench --peers

# Random scenarios of the simulator, over all cores: `make soak MINUTES=60`. Each seed is appended to soak.log.
MINUTES ?= 10
soak: $(STAMP)
	@"$(BIN)/hearth" sim soak --minutes $(MINUTES) --log soak.log

# Ten thousand runs of 50 nodes with 5 faults each, over all cores; what soak-50.log holds is not played again.
RUNS ?= 10000
soak-50: $(STAMP)
	@"$(BIN)/hearth" sim soak --runs $(RUNS) --draw-nodes 50 --draw-faults 5 --seed 0 --log soak-50.log --resume

# Three node-months of watching for false alarms, over all cores; what detection.log holds is not played again.
NODE_HOURS ?= 2200
detection: $(STAMP)
	@"$(BIN)/hearth" sim numbers --detection-hours $(NODE_HOURS) --log detection.log

# A day of a thousand nodes in small cells, of which a tenth dies an hour, with a job of 4,000 tasks each hour. HOURS is
# virtual time, for all three.
sim-day: HOURS ?= 24
sim-day: JOBS ?= 24
sim-day: $(STAMP)
	@"$(BIN)/hearth" sim run --nodes 1000 --hours $(HOURS) --jobs $(JOBS) --churn 0.1 --preset "slow thin" --warm \
		--seed 1 --no-shrink --json

sim-10k sim-100k: HOURS ?= 0.001
sim-10k: $(STAMP)
	@"$(BIN)/hearth" sim run --nodes 10000 --hours $(HOURS) --jobs 1 --warm --seed 1 --no-shrink --json

sim-100k: $(STAMP)
	@"$(BIN)/hearth" sim run --nodes 100000 --hours $(HOURS) --jobs 1 --preset "slow thin" --warm --seed 1 --no-shrink --json

# What the traces of a few seeds are: recorded, and played under every Python that is found, and runs. A shim of pyenv's
# for one that is not chosen does not run; what it stands for does.
digests: $(STAMP)
	@"$(BIN)/python" -m tests.testnet.simulator.digests --write

PYTHONS ?= python3.11 python3.12 python3.13
determinism: $(STAMP)
	@for name in $(PYTHONS); do \
		python=$$(for each in "$$name" "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/*/bin/"$$name"; do \
			"$$each" -c 'import sys; print(sys.executable)' 2> /dev/null && break; done); \
		test -n "$$python" || { echo "$$name: not found"; continue; }; \
		env=.determinism/$$("$$python" -c 'import platform; print(platform.python_version())'); \
		test -x "$$env/bin/python" || "$(BIN)/uv" venv -q --python "$$python" "$$env" || exit 1; \
		"$(BIN)/uv" pip install -q --python "$$env/bin/python" --require-hashes --no-deps -r requirements.lock || exit 1; \
		PYTHONPATH=.src:. PYTHONHASHSEED=random "$$env/bin/python" -m tests.testnet.simulator.digests || exit 1; \
	done

# The protocol and the simulator's engine compiled into .fast, some minutes: `hearth sim` plays the same traces in less
# time while the sources are what they were. Without a C compiler of the machine's own, with one from the package index.
OPT ?= 2
fast: $(STAMP)
	@command -v "$${CC:-cc}" > /dev/null \
		|| "$(BIN)/uv" pip install -q --python "$(BIN)/python" --require-hashes --no-deps -r requirements-zig.lock
	@"$(BIN)/uv" pip install -q --python "$(BIN)/python" --require-hashes --no-deps -r requirements-fast.lock
	@"$(BIN)/python" -m hearthmesh.testnet.simulator.compiling -O$(OPT)

# Every disturbance of real processes, each a test; `hearth testnet chaos` does the same with longer pauses.
chaos: $(STAMP)
	@"$(BIN)/python" -m pytest -q tests/chaos -m "chaos or not chaos"

# Hostile bytes into everything that reads any, for so many minutes; guided by coverage where atheris can be installed.
fuzz: $(STAMP)
	@"$(BIN)/uv" pip install -q --python "$(BIN)/python" --require-hashes --no-deps -r requirements-fuzz.lock \
		|| echo "atheris cannot be installed here: inputs are changed blindly"
	@"$(BIN)/python" -m tests.fuzz --minutes $(MINUTES)

# Python tasks on the real component: built once, about 20 s of processor, and compiled once, about as long. CI does too.
python-runtime: $(STAMP)
	@"$(BIN)/uv" pip install -q --python "$(BIN)/python" --require-hashes --no-deps -r requirements-python.lock
	@"$(BIN)/python" -c "from hearthmesh.node.python.runtime import python_component; print(python_component())"
	@"$(BIN)/python" -m pytest -q tests/node/python

docs: $(STAMP)
	@"$(BIN)/python" -m tests.protocol.pages
	@"$(BIN)/python" -m tests.node.isolation.attacks

# The lock pins all versions with hashes, so nothing is resolved here: py-libp2p's pin of fastecdsa, which needs a
# compiler, is overridden in overrides.txt. uv installs in seconds what pip takes a minute for.
$(STAMP): requirements.lock pyproject.toml
	@test -x "$(BIN)/python" || $(PYTHON) -m venv "$(VENV)"
	@echo "hearthmesh: installing into $(VENV) (once)"
	@"$(BIN)/python" -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements-uv.lock
	@"$(BIN)/uv" pip install -q --python "$(BIN)/python" --require-hashes --no-deps --compile-bytecode -r requirements.lock
	@"$(BIN)/uv" pip install -q --python "$(BIN)/python" --no-deps --no-build-isolation -e .
	@"$(BIN)/python" -m compileall -q crypto protocol node testnet
	@touch "$(STAMP)"

# For maintainers: pin anew after a change of the dependencies.
lock:
	@"$(BIN)/uv" pip compile -q --universal --generate-hashes --no-header --no-emit-index-url \
		--override overrides.txt --extra dev --extra mqtt --extra modbus pyproject.toml -o requirements.lock

clean:
	@rm -rf "$(VENV)" .hearth .demo .bench .hypothesis .pytest_cache .determinism .fast .fuzz soak.log soak-50.log detection.log
