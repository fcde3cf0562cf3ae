"""Drives an engine with docker-py; the engine is named by DOCKER_HOST, a registry by the argument."""

import io
import itertools
import sys
import tarfile
import threading
import time

import docker
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound
from docker.types import IPAMConfig, IPAMPool, Mount

CHECKS = []
client = docker.from_env()


def check(function):
    CHECKS.append(function)
    return function


def eventually(test):
    for _ in range(1200):
        if test():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to that")


def fails(status, text, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except APIError as error:
        assert error.status_code == status, (error.status_code, error)
        assert text in str(error), error
    else:
        raise AssertionError(f"{call} did not fail with {status}")


@check
def system():
    assert client.ping()
    version = client.version()
    assert version["ApiVersion"] == "1.51", version
    assert version["Os"] == "linux"
    info = client.info()
    assert info["OSType"] == "linux" and info["NCPU"] >= 1 and info["MemTotal"] > 0
    usage = client.df()
    assert any("busybox:latest" in (image["RepoTags"] or []) for image in usage["Images"])


@check
def run_and_logs():
    assert client.containers.run("busybox", "echo hello", remove=True) == b"hello\n"
    out = client.containers.run("busybox", ["sh", "-c", "echo out; echo err >&2"], stdout=True, stderr=True)
    assert sorted(out.splitlines()) == [b"err", b"out"], out
    try:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    except ContainerError as error:
        assert error.exit_status == 3 and b"bad" in error.stderr
    else:
        raise AssertionError("no ContainerError")
    for container in client.containers.list(all=True):
        container.remove()


@check
def life_of_a_container():
    container = client.containers.run(
        "busybox",
        ["sh", "-c", "trap 'exit 4' TERM; echo started; while :; do sleep 0.05; done"],
        detach=True,
        name="box",
        environment={"A": "1"},
        labels={"tier": "web"},
        mem_limit="64m",
        ports={"80/tcp": ("127.0.0.1", 8088)},
        tmpfs={"/scratch": "size=1m"},
        mounts=[Mount("/data", "vol")],
        hostname="inside",
        cap_drop=["NET_RAW"],
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 1},
    )
    for line in container.logs(stream=True):
        assert line == b"started\n", line
        break
    assert [c.name for c in client.containers.list(filters={"label": "tier=web"})] == ["box"]
    container.reload()
    assert container.status == "running"
    assert container.attrs["HostConfig"]["Memory"] == 64 << 20
    assert container.ports["80/tcp"][0]["HostPort"] == "8088", container.ports
    assert container.image.tags == ["busybox:latest"]
    assert client.containers.get(container.short_id).id == container.id
    code, output = container.exec_run(["sh", "-c", "echo $A $(hostname) && exit 5"])
    assert (code, output) == (5, b"1 inside\n"), (code, output)
    code, (out, err) = container.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True)
    assert (code, out, err) == (0, b"o\n", b"e\n")
    assert b"/tmp" in container.exec_run("pwd", workdir="/tmp", user="nobody").output
    assert list(container.exec_run("seq 3", stream=True).output)
    processes = container.top()
    assert any("sleep" in " ".join(row) or "sh" in " ".join(row) for row in processes["Processes"])
    stats = container.stats(stream=False)
    assert stats["memory_stats"]["limit"] == 64 << 20, stats["memory_stats"]
    assert stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert len(list(itertools.islice(container.stats(decode=True), 2))) == 2
    container.pause()
    container.reload()
    assert container.status == "paused"
    container.unpause()
    container.rename("renamed")
    container.update(mem_limit="80m", memswap_limit="160m")
    container.restart(timeout=1)
    fails(409, "container is running", container.remove)
    # before its shell has set the trap, process 1 ignores the signal
    eventually(lambda: container.logs().count(b"started") == 2)
    container.stop(timeout=5)
    assert container.wait()["StatusCode"] == 4
    container.reload()
    assert container.status == "exited"
    assert container.logs(tail=1) == b"started\n"
    assert container.logs(timestamps=True).startswith(b"20")
    container.start()
    container.kill()
    assert container.wait(condition="not-running")["StatusCode"] == 137
    container.remove(v=True)
    fails(404, "No such container", client.containers.get, "renamed")
    client.volumes.get("vol").remove()


@check
def attach_and_input():
    container = client.containers.create("busybox", "cat", stdin_open=True, detach=True)
    socket = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    socket._sock.sendall(b"through the socket\n")
    frame = b""
    while len(frame) < 27:
        piece = socket._sock.recv(4096)
        assert piece, frame
        frame += piece
    assert frame[:8] == b"\x01\0\0\0\0\0\0\x13" and frame[8:] == b"through the socket\n", frame
    socket.close()
    container.remove(force=True)
    container = client.containers.create("busybox", ["echo", "attached"])
    output = container.attach(stream=True, logs=True)
    container.start()
    assert b"".join(output) == b"attached\n"
    # output ends a moment before the process
    container.wait()
    container.remove()


@check
def images():
    registry = sys.argv[1]
    image = client.images.pull(f"{registry}/test/pulled", tag="v1")
    assert f"{registry}/test/pulled:v1" in image.tags, image.tags
    assert image.tag("other/name", tag="x")
    image.reload()
    assert "other/name:x" in image.tags
    assert client.images.get("other/name:x").id == image.id
    assert image.history()
    assert [i.id for i in client.images.list(name="other/name")] == [image.id]
    client.images.remove("other/name:x")
    fails(404, "No such image: other/name:x", client.images.get, "other/name:x")
    events = list(client.api.pull(f"{registry}/test/pulled", tag="v1", stream=True, decode=True))
    assert any("Image is up to date" in event.get("status", "") for event in events), events
    client.images.remove(f"{registry}/test/pulled:v1")
    for call in (client.images.get, client.images.remove):
        fails(404, "No such image: nosuch:latest", call, "nosuch:latest")
    try:
        client.images.pull(f"{registry}/nosuch", tag="v1")
    except (ImageNotFound, NotFound, APIError) as error:
        assert error.status_code in (404, 500), error
    else:
        raise AssertionError("pulled what is not there")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("hello")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    client.api.import_image_from_data(archive.getvalue(), repository="imported", tag="v1")
    imported = client.images.get("imported:v1")
    assert imported.attrs["Size"] >= 5
    client.images.remove(imported.id)
    fails(404, "No such image", client.containers.create, "nosuch-image", "true")


@check
def volumes():
    volume = client.volumes.create("one", labels={"tier": "db"})
    assert [v.name for v in client.volumes.list(filters={"label": "tier=db"})] == ["one"]
    client.containers.run("busybox", "touch /data/f", volumes={"one": {"bind": "/data", "mode": "rw"}}, remove=True)
    assert client.containers.run("busybox", "ls /data", volumes=["one:/data:ro"], remove=True) == b"f\n"
    box = client.containers.create("busybox", volumes=["one:/data"])
    fails(409, "volume is in use", volume.remove)
    box.remove()
    volume.remove()
    fails(404, "no such volume", client.volumes.get, "one")
    client.volumes.create()
    assert len(client.volumes.prune()["VolumesDeleted"]) == 1


@check
def networks():
    names = {network.name for network in client.networks.list()}
    assert {"bridge", "host", "none"} <= names, names
    assert client.networks.get("bridge").attrs["Driver"] == "bridge"
    fails(404, "network nosuch not found", client.networks.get, "nosuch")
    pool = IPAMPool(subnet="10.80.0.0/24", iprange="10.80.0.128/25", gateway="10.80.0.254", aux_addresses={"a": "10.80.0.128"})
    app = client.networks.create(
        "app",
        driver="bridge",
        ipam=IPAMConfig(pool_configs=[pool]),
        labels={"tier": "web"},
        options={"com.docker.network.driver.mtu": "1400"},
        attachable=True,
        check_duplicate=True,
    )
    inner = client.networks.create("inner", internal=True, enable_ipv6=True)
    assert inner.attrs["Internal"] and inner.attrs["EnableIPv6"], inner.attrs
    assert len(inner.attrs["IPAM"]["Config"]) == 2, inner.attrs
    fails(409, "network with name app already exists", client.networks.create, "app")
    fails(403, "Pool overlaps", client.networks.create, "over", ipam=IPAMConfig(pool_configs=[pool]))
    assert [n.name for n in client.networks.list(filters={"label": "tier=web"})] == ["app"]
    assert [n.name for n in client.networks.list(names=["inner"])] == ["inner"]
    assert [n.name for n in client.networks.list(ids=[app.id])] == ["app"]
    endpoint = client.api.create_endpoint_config(ipv4_address="10.80.0.7", aliases=["first"], mac_address="02:42:0a:50:00:07")
    one = client.containers.run(
        "busybox", "sleep 1000", detach=True, name="one", network="app", networking_config={"app": endpoint}
    )
    two = client.containers.run("busybox", "sleep 1000", detach=True, name="two", network="app")
    one.reload()
    own = one.attrs["NetworkSettings"]["Networks"]["app"]
    assert (own["IPAddress"], own["MacAddress"]) == ("10.80.0.7", "02:42:0a:50:00:07"), own
    assert own["DNSNames"][:2] == ["one", "first"], own
    assert own["NetworkID"] == app.id and own["Gateway"] == "10.80.0.254", own
    assert two.exec_run("ping -c 1 -W 30 first").exit_code == 0
    inner.connect(two, aliases=["second"])
    inner.connect("one", ipv4_address=None)
    fails(403, "already exists in network inner", inner.connect, two)
    assert one.exec_run("ping -c 1 -W 30 second").exit_code == 0
    inner.reload()
    assert {c.name for c in inner.containers} == {"one", "two"}
    assert [n.name for n in client.networks.list(greedy=True, names=["app"])][0] == "app"
    fails(403, "has active endpoints", app.remove)
    inner.disconnect(one)
    inner.disconnect(two, force=True)
    fails(500, "is not connected to network inner", inner.disconnect, two)
    fails(404, "No such container: nosuch", inner.connect, "nosuch")
    inner.remove()
    fails(404, "not found", inner.reload)
    usage = two.stats(stream=False)["networks"]
    assert list(usage) == ["eth0"] and usage["eth0"]["rx_packets"] > 0, usage
    for container in (one, two):
        container.remove(force=True)
    assert client.networks.prune()["NetworksDeleted"] == ["app"]
    assert client.networks.prune()["NetworksDeleted"] is None
    fails(403, "pre-defined network", client.networks.get("bridge").remove)
    fails(400, "invalid name", client.networks.create, "")


@check
def published_ports():
    box = client.containers.run(
        "busybox",
        "sleep 1000",
        detach=True,
        ports={"80/tcp": 8090, "81/udp": ("127.0.0.1", 8091), "82/tcp": None, "83/tcp": [8093, 8094]},
    )
    box.reload()
    assert box.ports["80/tcp"][0] == {"HostIp": "0.0.0.0", "HostPort": "8090"}, box.ports
    assert box.ports["81/udp"] == [{"HostIp": "127.0.0.1", "HostPort": "8091"}], box.ports
    assert int(box.ports["82/tcp"][0]["HostPort"]) > 1024, box.ports
    assert {port["HostPort"] for port in box.ports["83/tcp"]} == {"8093", "8094"}, box.ports
    listed = client.api.containers()[0]["Ports"]
    assert {"IP": "127.0.0.1", "PrivatePort": 81, "PublicPort": 8091, "Type": "udp"} in listed, listed
    fails(500, "port is already allocated", client.containers.run, "busybox", "true", ports={"80/tcp": 8090})
    for container in client.containers.list(all=True):
        container.remove(force=True)


@check
def events():
    seen = []
    stream = client.events(decode=True, filters={"type": "container"})

    def watch():
        for event in stream:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    time.sleep(0.2)
    client.containers.run("busybox", "true", remove=True)
    watcher.join(60)
    assert not watcher.is_alive(), seen
    assert [a for a in seen if a in ("create", "start", "die", "destroy")] == ["create", "start", "die", "destroy"], seen
    stream.close()


@check
def refusals():
    box = client.containers.create("busybox", "true", name="taken")
    fails(409, "is already in use by container", client.containers.create, "busybox", name="taken")
    fails(409, "is not running", box.kill)
    fails(409, "is not running", box.exec_run, "true")
    fails(400, "Minimum memory limit allowed is 6MB", client.containers.create, "busybox", mem_limit="1m")
    fails(404, "No such container: nosuch", client.api.start, "nosuch")
    assert box.wait is not None
    box.remove()
    assert client.containers.prune()["ContainersDeleted"] is None


failed = 0
for function in CHECKS:
    try:
        function()
    except Exception:  # noqa: BLE001: one failed check must not hide the others
        import traceback

        failed += 1
        print(f"{function.__name__}:", file=sys.stderr)
        traceback.print_exc()
        for container in client.containers.list(all=True):
            container.remove(force=True)
if failed:
    sys.exit(f"{failed} checks failed")
print("all well")
