# Names for what is done; how it is done is in scripts/ and xtask/.
PREFIX ?= /usr/local
export PREFIX DESTDIR SYSTEMD GROUP

.PHONY: help setup build demo test vm check bench install uninstall

help:
	@echo "make demo       build, run a container, reach its port, leave nothing behind (root)"
	@echo "make test       set up and run every test (root)"
	@echo "make vm         run the engine on other kernels and cgroup v2, in emulated machines (root)"
	@echo "make build      build gorae and gorae-shim into target/gorae/bin"
	@echo "make check      format, lints, tidiness"
	@echo "make bench      measure against the peers (root); SUITE=engine, network or api for one of them"
	@echo "make install    copy the executables to PREFIX/bin ($(PREFIX)), with SYSTEMD=1 the units, with GROUP=gorae the group; make uninstall removes them"
	@echo "make setup      install what the tests need (root)"

setup:
	@scripts/setup test

build:
	@scripts/build

demo:
	@scripts/demo

test:
	@scripts/test

vm: build
	@scripts/setup vm
	@for kernel in 6.1 6.12; do scripts/vm $$kernel scripts/vm-guest || exit 1; done

check:
	@scripts/check

bench: build
	@cargo xtask bench $(SUITE)

install: build
	@scripts/install install

uninstall:
	@scripts/install uninstall
