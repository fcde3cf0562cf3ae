"""Runs Testcontainers for Python against the engine that DOCKER_HOST names.

Without an argument: every kind of wait, network, log, exec and copy. With 'die': starts containers, a network
and a volume, says so, and waits to be killed, so that only the reaper is left to remove them.
"""

import importlib.metadata
import pathlib
import re
import sys
import tempfile
import time
import urllib.request

import docker
from docker.types import Healthcheck
from testcontainers.compose import DockerCompose
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer, ExecConfig, Reaper
from testcontainers.core.docker_client import DockerClient
from testcontainers.core.generic import DbContainer
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import (
    CompositeWaitStrategy,
    ContainerStatusWaitStrategy,
    ExecWaitStrategy,
    FileExistsWaitStrategy,
    HealthcheckWaitStrategy,
    HttpWaitStrategy,
    LogMessageWaitStrategy,
    PortWaitStrategy,
)
from testcontainers.core.waiting_utils import wait_for_logs

CHECKS = []
api = docker.from_env()
testcontainers_config.sleep_time = 0.1


def check(function):
    CHECKS.append(function)
    return function


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind}")


def quick(strategy):
    return strategy.with_poll_interval(0.1).with_startup_timeout(100)


def web(text="a page", after=0):
    """A container that serves a page some time after its start."""
    line = f"mkdir /www; echo '{text}' > /www/index.html; sleep {after}; echo up on port 80; exec httpd -f -p 80 -h /www"
    return DockerContainer("busybox").with_command(["sh", "-c", line]).with_exposed_ports(80)


def page(container):
    url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(80)}/"
    return urllib.request.urlopen(url, timeout=60).read().decode().strip()


@check
def log_messages():
    with web(after=0.3).waiting_for(quick(LogMessageWaitStrategy("up on port 80"))) as container:
        assert "up on port 80" in container.get_logs()[0].decode()
    with web(after=0.3).waiting_for(quick(LogMessageWaitStrategy(re.compile("up on port [0-9]+")))):
        pass
    line = ["sh", "-c", "for i in 1 2 3; do sleep 0.1; echo ready >&2; done; sleep 100"]
    with DockerContainer("busybox").with_command(line) as container:
        wait_for_logs(container, lambda text: text.count("ready") == 3, timeout=100, interval=0.1)
        out, err = container.get_logs()
        assert out == b"" and err.count(b"ready") == 3, (out, err)
    ended = DockerContainer("busybox").with_command("false")
    error = raises(RuntimeError, lambda: ended.waiting_for(quick(LogMessageWaitStrategy("never"))).start())
    assert "exited" in str(error), error
    ended.stop()


@check
def ports_and_pages():
    with web().waiting_for(quick(PortWaitStrategy(80))) as container:
        assert page(container) == "a page"
    strategy = HttpWaitStrategy(80).for_status_code(200).for_response_predicate(lambda text: "late" in text)
    with web("a late page", after=0.3).waiting_for(quick(strategy)) as container:
        assert page(container) == "a late page"
    strategy = HttpWaitStrategy(80, "/nothing").for_status_code_matching(lambda code: code == 404)
    with web().waiting_for(quick(strategy)):
        pass
    with web().with_bind_ports("80/tcp", 8099).waiting_for(quick(PortWaitStrategy(80))) as container:
        assert container.get_exposed_port(80) == 8099
    strategy = PortWaitStrategy(81).with_poll_interval(0.1).with_startup_timeout(1)
    silent = DockerContainer("busybox").with_command("sleep 100").with_exposed_ports(81)
    raises(TimeoutError, lambda: silent.waiting_for(strategy).start())
    silent.stop()


@check
def health():
    second = 1_000_000_000
    probe = Healthcheck(test=["CMD-SHELL", "test -e /tmp/well"], interval=second // 5, timeout=second, retries=50)
    line = ["sh", "-c", "sleep 0.5; touch /tmp/well; sleep 100"]
    container = DockerContainer("busybox").with_command(line).with_kwargs(healthcheck=probe)
    with container.waiting_for(quick(HealthcheckWaitStrategy())) as container:
        container.reload()
        state = container.get_wrapped_container().attrs["State"]
        assert state["Health"]["Status"] == "healthy", state
        info = container.get_container_info()
        assert info.State.Health.Status == "healthy" and info.State.Running
    sick = Healthcheck(test=["CMD", "false"], interval=second // 5, timeout=second, retries=2)
    container = DockerContainer("busybox").with_command("sleep 100").with_kwargs(healthcheck=sick)
    raises(RuntimeError, lambda: container.waiting_for(quick(HealthcheckWaitStrategy())).start())
    container.stop()
    container = DockerContainer("busybox").with_command("sleep 100")
    error = raises(RuntimeError, lambda: container.waiting_for(quick(HealthcheckWaitStrategy())).start())
    assert "No health check configured" in str(error), error
    container.stop()


@check
def other_waits():
    strategy = CompositeWaitStrategy(
        ContainerStatusWaitStrategy(), ExecWaitStrategy(["test", "-e", "/www/index.html"]), PortWaitStrategy(80)
    )
    with web(after=0.2).waiting_for(quick(strategy)) as container:
        assert page(container) == "a page"
    with tempfile.TemporaryDirectory() as folder:
        line = ["sh", "-c", "sleep 0.3; touch /mnt/done; sleep 100"]
        container = DockerContainer("busybox").with_command(line).with_volume_mapping(folder, "/mnt", "rw")
        with container.waiting_for(quick(FileExistsWaitStrategy(f"{folder}/done"))):
            pass


@check
def exec_and_settings():
    with tempfile.NamedTemporaryFile("w", suffix=".env") as file:
        file.write("FROM_FILE=yes\n")
        file.flush()
        container = (
            DockerContainer("busybox")
            .with_command("sleep 100")
            .with_name("with-settings")
            .with_env("ONE", "1")
            .with_envs(TWO="2")
            .with_env_file(file.name)
            .with_tmpfs_mount("/scratch", "size=1m")
            .with_kwargs(mem_limit="64m", hostname="inside", user="nobody")
        )
    with container:
        code, output = container.exec(["sh", "-c", "echo $ONE $TWO $FROM_FILE $(hostname) $(id -un); exit 3"])
        assert (code, output) == (3, b"1 2 yes inside nobody\n"), (code, output)
        assert container.exec("grep -c /scratch /proc/mounts").output == b"1\n"
        config = ExecConfig("sh -c 'echo $A $(pwd) $(id -u)'", user="root", environment={"A": "b"}, workdir="/tmp")
        assert container.exec(config).output == b"b /tmp 0\n"
        inspect = api.api.inspect_container("with-settings")
        assert inspect["HostConfig"]["Memory"] == 64 << 20
        assert inspect["Config"]["Labels"][LABEL_SESSION_ID] == SESSION_ID
        container.get_wrapped_container().stop(timeout=0)
        assert container.wait() == 137
    raises(docker.errors.NotFound, lambda: api.containers.get("with-settings"))


@check
def networks():
    with Network() as network, Network(docker_network_kw={"internal": True}) as other:
        serving = web("by name").with_network(network).with_network_aliases("site", "www")
        asking = DockerContainer("busybox").with_command("sleep 100").with_network(network)
        with serving.waiting_for(quick(PortWaitStrategy(80))), asking:
            for name in ("site", "www"):
                assert asking.exec(f"wget -q -O - http://{name}/").output == b"by name\n"
            other.connect(asking.get_container_id(), network_aliases=["asker"])
            asking.reload()
            found = asking.get_wrapped_container().attrs["NetworkSettings"]["Networks"]
            assert set(found) == {network.name, other.name}, found
            assert "asker" in found[other.name]["Aliases"]
        assert api.networks.get(network.id).name == network.name
    assert not api.networks.list(names=[network.name])


@check
def copies():
    with tempfile.TemporaryDirectory() as folder:
        source, back = pathlib.Path(folder, "source"), pathlib.Path(folder, "back")
        source.write_text("of a file")
        container = DockerContainer("busybox").with_command("sleep 100")
        container.with_copy_into_container(b"of bytes", "/made/before", mode=0o600)
        with container.with_copy_into_container(source, "/etc/source") as container:
            assert container.exec("cat /made/before /etc/source").output == b"of bytesof a file"
            assert container.exec("stat -c %a /made/before").output == b"600\n"
            container.copy_into_container(b"later", "/tmp/later")
            container.exec("sh -c 'echo and more >> /tmp/later'")
            container.copy_from_container("/tmp/later", back)
            assert back.read_text() == "laterand more\n"


@check
def compose():
    text = """
services:
  web:
    image: busybox
    command: sh -c 'mkdir /www; echo composed > /www/index.html; echo serving; exec httpd -f -p 80 -h /www'
    ports: ["80"]
    stop_grace_period: 0s
    healthcheck: {test: "wget -q -O - http://127.0.0.1/", interval: 200ms, timeout: 2s, retries: 50}
  side:
    image: busybox
    command: sleep 100
    stop_grace_period: 0s
"""
    with tempfile.TemporaryDirectory(prefix="tc-compose-") as folder:
        pathlib.Path(folder, "compose.yaml").write_text(text)
        with DockerCompose(folder, compose_file_name="compose.yaml", wait=True) as stack:
            host, port = stack.get_service_host_and_port("web", 80)
            assert urllib.request.urlopen(f"http://{host}:{port}/").read() == b"composed\n"
            out, err, code = stack.exec_in_container(["echo", "inside"], "side")
            assert (out, err, code) == ("inside\n", "", 0), (out, err, code)
            assert "serving" in stack.get_logs("web")[0]
            assert {c.Service for c in stack.get_containers()} == {"web", "side"}
            assert stack.get_container("web").Health == "healthy"


@check
def the_reaper():
    container = Reaper._container.get_wrapped_container()
    container.reload()
    assert container.attrs["HostConfig"]["AutoRemove"] is True
    assert container.status == "running" and Reaper._socket.recv(4) == b"ACK\n"


def die():
    """Leaves a container with an anonymous volume, a stopped one, a network, and a named volume."""
    labels = {LABEL_SESSION_ID: SESSION_ID}
    client = DockerClient().client
    network = Network().create()
    client.volumes.create("left-volume", labels=labels)
    left = DockerContainer("busybox").with_name("left-running").with_command("sleep 1000").with_network(network)
    left.with_kwargs(mounts=[docker.types.Mount("/anonymous", None), docker.types.Mount("/named", "left-volume")]).start()
    DockerContainer("busybox").with_name("left-stopped").with_command("true").start().wait()
    print("left", SESSION_ID, flush=True)
    time.sleep(600)


if sys.argv[1:] == ["die"]:
    die()
for function in CHECKS:
    started = time.monotonic()
    function()
    print(f"{function.__name__}: well, {time.monotonic() - started:.1f} s", flush=True)
print(f"all well: testcontainers {importlib.metadata.version('testcontainers')}, {len(CHECKS)} checks")
