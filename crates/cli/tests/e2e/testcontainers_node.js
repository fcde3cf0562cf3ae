// Runs Testcontainers for Node against the engine that DOCKER_HOST names.
//
// Without an argument: every kind of wait, network, log, exec and copy. With 'die': starts containers and a
// network, says so, and waits to be killed, so that only the reaper is left to remove them.

const assert = require("node:assert/strict");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { DockerComposeEnvironment, GenericContainer, Network, PullPolicy, Wait, getContainerRuntimeClient } =
  require("testcontainers");

const checks = [];
const check = (name, run) => checks.push([name, run]);

// A container that serves a page some time after its start.
const web = (text = "a page", after = 0) =>
  new GenericContainer("busybox")
    .withCommand([
      "sh",
      "-c",
      `mkdir /www; echo '${text}' > /www/index.html; sleep ${after}; echo up on port 80; exec httpd -f -p 80 -h /www`,
    ])
    .withExposedPorts(80);
const idle = () => new GenericContainer("busybox").withCommand(["sleep", "1000"]);
const get = async (container, port = 80) =>
  (await (await fetch(`http://${container.getHost()}:${container.getMappedPort(port)}/`)).text()).trim();
const running = async (builder, work) => {
  const container = await builder.start();
  try {
    return await work(container);
  } finally {
    await container.stop({ timeout: 0 });
  }
};
const text = async (stream) => {
  let all = "";
  for await (const chunk of stream) all += chunk;
  return all;
};
const fails = async (promise, pattern) => {
  await assert.rejects(promise, (error) => assert.match(String(error), pattern) ?? true);
};

check("ports", async () => {
  await running(web("late", 0.3), async (container) => {
    assert.equal(await get(container), "late");
    assert.equal(container.getFirstMappedPort(), container.getMappedPort(80));
  });
  await running(web().withExposedPorts({ container: 80, host: 8099 }), async (container) => {
    assert.equal(container.getMappedPort(80), 8099);
  });
  await fails(idle().withExposedPorts(81).withStartupTimeout(800).start(), /not bound after 800ms/);
});

check("log messages", async () => {
  await running(web("x", 0.3).withWaitStrategy(Wait.forLogMessage("up on port 80")), async () => {});
  const counting = ["sh", "-c", "for i in 1 2 3; do sleep 0.1; echo line $i; done; sleep 1000"];
  const builder = new GenericContainer("busybox").withCommand(counting);
  await running(builder.withWaitStrategy(Wait.forLogMessage(/line \d/, 3)), async (container) => {
    const logs = await container.logs();
    const seen = await new Promise((done) => {
      let all = "";
      logs.on("data", (line) => (all += line) && /line 3/.test(all) && done(all));
    });
    logs.destroy();
    assert.match(seen, /line 1\n.*line 2\n.*line 3/s);
  });
  const short = new GenericContainer("busybox").withCommand(["echo", "no"]);
  await fails(short.withWaitStrategy(Wait.forLogMessage("yes")).start(), /Log stream ended and message "yes" was not received/);
});

check("log consumers", async () => {
  let all = "";
  const consumer = (stream) => stream.on("data", (line) => (all += line)).on("err", (line) => (all += line));
  await running(web().withLogConsumer(consumer), async () => {
    for (let i = 0; i < 3000 && !all.includes("up on port"); i++) await new Promise((go) => setTimeout(go, 20));
    assert.match(all, /up on port 80/);
  });
});

check("health, pages and commands", async () => {
  const probe = { test: ["CMD-SHELL", "test -e /tmp/well"], interval: 200, timeout: 1000, retries: 50 };
  const well = new GenericContainer("busybox").withCommand(["sh", "-c", "sleep 0.5; touch /tmp/well; sleep 1000"]);
  await running(well.withHealthCheck(probe).withWaitStrategy(Wait.forHealthCheck()), async (container) => {
    const client = await getContainerRuntimeClient();
    const state = (await client.container.inspect(client.container.getById(container.getId()))).State;
    assert.equal(state.Health.Status, "healthy");
  });
  const sick = idle().withHealthCheck({ test: ["CMD", "false"], interval: 200, timeout: 1000, retries: 2 });
  await fails(sick.withWaitStrategy(Wait.forHealthCheck()).start(), /unhealthy/);
  const page = Wait.forHttp("/", 80).forStatusCode(200).forResponsePredicate((body) => body.includes("late"));
  await running(web("late", 0.3).withWaitStrategy(page), async () => {});
  const command = Wait.forSuccessfulCommand("test -e /www/index.html");
  await running(web("x").withWaitStrategy(Wait.forAll([command, Wait.forListeningPorts()])), async () => {});
  const once = new GenericContainer("busybox").withCommand(["echo", "done"]);
  await running(once.withWaitStrategy(Wait.forOneShotStartup()), async () => {});
});

check("settings and exec", async () => {
  const builder = idle()
    .withName("with-settings")
    .withEnvironment({ ONE: "1" })
    .withLabels({ tier: "web" })
    .withTmpFs({ "/scratch": "rw,size=1m" })
    .withUlimits({ nofile: { hard: 300, soft: 200 } })
    .withAddedCapabilities("NET_ADMIN")
    .withDroppedCapabilities("MKNOD")
    .withExtraHosts([{ host: "printer", ipAddress: "10.1.2.3" }])
    .withBindMounts([{ source: os.tmpdir(), target: "/mnt", mode: "ro" }])
    .withWorkingDir("/tmp")
    .withHostname("inside")
    .withUser("nobody")
    .withIpcMode("private")
    .withDefaultLogDriver()
    .withResourcesQuota({ memory: 0.0625, cpu: 0.5 })
    .withSharedMemorySize(8 << 20)
    .withPlatform("linux/amd64")
    .withPullPolicy(PullPolicy.defaultPolicy());
  if (process.arch !== "x64") builder.withPlatform(`linux/${process.arch}`);
  await running(builder, async (container) => {
    const see = async (line, options) => (await container.exec(["sh", "-c", line], options)).output.trim();
    assert.equal(await see("echo $ONE $(hostname) $(id -un) $(pwd)"), "1 inside nobody /tmp");
    assert.equal(await see("ulimit -Sn; ulimit -Hn"), "200\n300");
    assert.equal(await see("grep -c 'printer' /etc/hosts"), "1");
    assert.equal(await see("df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2"), "8192");
    assert.equal(await see("grep -c ' /mnt .* ro,' /proc/mounts"), "1");
    assert.equal(await see("echo $A $(pwd) $(id -u)", { env: { A: "b" }, workingDir: "/", user: "root" }), "b / 0");
    const both = await container.exec(["sh", "-c", "echo out; echo err >&2; exit 4"]);
    assert.deepEqual([both.exitCode, both.stdout, both.stderr], [4, "out\n", "err\n"]);
    assert.equal(container.getName(), "/with-settings");
    assert.equal(container.getLabels().tier, "web");
    const client = await getContainerRuntimeClient();
    const host = (await client.container.inspect(client.container.getById(container.getId()))).HostConfig;
    assert.deepEqual([host.Memory, host.NanoCpus, host.ShmSize], [64 << 20, 5e8, 8 << 20]);
    await container.restart({ timeout: 0 });
    assert.equal(await see("id -un"), "nobody");
  });
  // versions for Node.js 18 do not have it
  if (builder.withSecurityOpt) {
    await running(idle().withSecurityOpt("no-new-privileges"), async (container) => {
      assert.match((await container.exec(["grep", "NoNewPrivs", "/proc/self/status"])).output, /\t1/);
    });
  }
  await running(idle().withPrivilegedMode(), async (container) => {
    assert.match((await container.exec(["grep", "Seccomp:", "/proc/1/status"])).output, /\t0/);
  });
});

check("networks", async () => {
  const network = await new Network().start();
  const site = web("by name").withNetwork(network).withNetworkAliases("site", "www");
  await running(site, async (serving) => {
    assert.ok(serving.getNetworkNames().includes(network.getName()));
    assert.match(serving.getIpAddress(network.getName()), /^\d+\.\d+\.\d+\.\d+$/);
    await running(idle().withNetwork(network), async (asking) => {
      for (const name of ["site", "www", serving.getName().slice(1)]) {
        assert.equal((await asking.exec(["wget", "-q", "-O", "-", `http://${name}/`])).output, "by name\n");
      }
    });
    await running(idle().withNetworkMode(`container:${serving.getId()}`), async (asking) => {
      assert.equal((await asking.exec(["wget", "-q", "-O", "-", "http://127.0.0.1/"])).output, "by name\n");
    });
  });
  await network.stop();
});

check("copies", async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "tc-copies-"));
  fs.writeFileSync(path.join(folder, "file"), "of a file");
  const builder = idle()
    .withCopyContentToContainer([{ content: "of a text", target: "/made/before", mode: 0o600 }])
    .withCopyFilesToContainer([{ source: path.join(folder, "file"), target: "/etc/file" }])
    .withCopyDirectoriesToContainer([{ source: folder, target: "/folder" }]);
  await running(builder, async (container) => {
    const see = async (line) => (await container.exec(["sh", "-c", line])).output.trim();
    assert.equal(await see("cat /made/before /etc/file /folder/file; stat -c %a /made/before"), "of a textof a fileof a file600");
    await container.copyContentToContainer([{ content: "later", target: "/tmp/later" }]);
    await container.copyFilesToContainer([{ source: path.join(folder, "file"), target: "/tmp/file" }]);
    assert.equal(await see("cat /tmp/later /tmp/file"), "laterof a file");
    const archive = await text(await container.copyArchiveFromContainer("/tmp/later"));
    assert.match(archive, /^later\0.*ustar.*later/s);
  });
  fs.rmSync(folder, { recursive: true });
});

check("reuse", async () => {
  const build = () => idle().withLabels({ again: "yes" }).withReuse();
  const first = await build().start();
  const second = await build().start();
  assert.equal(first.getId(), second.getId());
  await first.stop({ timeout: 0 });
});

check("compose", async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "tc-compose-"));
  fs.writeFileSync(
    path.join(folder, "compose.yaml"),
    `services:
  web:
    image: busybox
    command: sh -c 'mkdir /www; echo $$TEXT > /www/index.html; echo serving; exec httpd -f -p 80 -h /www'
    environment: {TEXT: "\${TEXT}"}
    stop_grace_period: 0s
    ports: ["80"]
  side: {image: busybox, command: sleep 100, stop_grace_period: 0s}
  never: {image: busybox, command: sleep 100, profiles: [never]}
`,
  );
  const environment = await new DockerComposeEnvironment(folder, "compose.yaml")
    .withEnvironment({ TEXT: "composed" })
    .withWaitStrategy("web-1", Wait.forLogMessage("serving"))
    .up();
  assert.equal(await get(environment.getContainer("web-1")), "composed");
  assert.equal((await environment.getContainer("side-1").exec("echo inside")).output, "inside\n");
  assert.throws(() => environment.getContainer("never-1"), /Cannot get container/);
  await environment.down({ timeout: 0, removeVolumes: true });
  fs.rmSync(folder, { recursive: true });
});

async function die() {
  const network = await new Network().start();
  await idle().withName("left-running").withNetwork(network).start();
  await web().withName("left-web").start();
  console.log("left", network.getName());
  setInterval(() => {}, 1000);
}

async function main() {
  for (const [name, run] of checks) {
    const begun = Date.now();
    await run();
    console.log(`${name}: well, ${Date.now() - begun} ms`);
  }
  const client = await getContainerRuntimeClient();
  const reapers = (await client.container.list()).filter((one) => one.Labels["org.testcontainers.ryuk"] || /ryuk/.test(one.Image));
  assert.equal(reapers.length, 1);
  const { version } = require("testcontainers/package.json");
  console.log(`all well: testcontainers ${version}, ${checks.length} checks`);
}

(process.argv[2] === "die" ? die() : main()).catch((error) => {
  console.error(error);
  process.exit(1);
});
