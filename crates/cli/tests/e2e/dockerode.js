// Drives an engine with dockerode; the engine is named by DOCKER_HOST, a registry by the argument.

const assert = require("node:assert/strict");
const { PassThrough } = require("node:stream");
const Docker = require("dockerode");

const docker = new Docker();
const registry = process.argv[2];
const checks = [];
const check = (name, run) => checks.push([name, run]);
const pause = (time) => new Promise((go) => setTimeout(go, time));

// All that a stream of frames carries, apart.
const demux = (stream) =>
  new Promise((done, failed) => {
    const [out, err] = [new PassThrough(), new PassThrough()];
    const all = ["", ""];
    out.on("data", (chunk) => (all[0] += chunk));
    err.on("data", (chunk) => (all[1] += chunk));
    docker.modem.demuxStream(stream, out, err);
    stream.on("end", () => setImmediate(() => done(all)));
    stream.on("error", failed);
  });
const text = async (stream) => {
  let all = "";
  for await (const chunk of stream) all += chunk;
  return all;
};
const finished = (stream) =>
  new Promise((done, failed) => docker.modem.followProgress(stream, (error, all) => (error ? failed(error) : done(all))));
const start = async (name, line, more = {}) => {
  const container = await docker.createContainer({ name, Image: "busybox", Cmd: ["sh", "-c", line], ...more });
  await container.start();
  return container;
};
const status = (code, pattern) => (error) => {
  assert.equal(error.statusCode, code, String(error));
  assert.match(error.json?.message ?? error.message, pattern);
  return true;
};

check("system", async () => {
  assert.equal(String(await docker.ping()), "OK");
  assert.equal((await docker.version()).ApiVersion, "1.51");
  const info = await docker.info();
  assert.ok(info.NCPU >= 1 && info.OSType === "linux");
  const usage = await docker.df();
  assert.ok(usage.Images.some((image) => image.RepoTags.includes("busybox:latest")));
});

check("run", async () => {
  const out = new PassThrough();
  const said = text(out);
  const [data, container] = await docker.run("busybox", ["echo", "hello"], out, { HostConfig: { AutoRemove: true } });
  assert.equal(data.StatusCode, 0);
  assert.match(container.id, /^[0-9a-f]{64}$/);
  out.end();
  assert.equal(await said, "hello\n".replace("\n", (await said).includes("\r") ? "\r\n" : "\n"));
});

check("the life of a container", async () => {
  const container = await start("box", "trap 'exit 4' TERM; echo started; while :; do sleep 0.05; done", {
    Env: ["A=1"],
    Labels: { tier: "web" },
    ExposedPorts: { "80/tcp": {} },
    HostConfig: {
      Memory: 64 << 20,
      Binds: ["vol:/data"],
      PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "8088" }] },
      RestartPolicy: { Name: "on-failure", MaximumRetryCount: 1 },
    },
  });
  const [listed] = await docker.listContainers({ filters: { label: ["tier=web"] }, size: true });
  assert.equal(listed.Id, container.id);
  assert.deepEqual(listed.Ports, [{ IP: "127.0.0.1", PrivatePort: 80, PublicPort: 8088, Type: "tcp" }]);
  const found = await container.inspect({ size: true });
  assert.equal(found.HostConfig.Memory, 64 << 20);
  assert.equal(typeof found.SizeRootFs, "number");
  const stats = await container.stats({ stream: false });
  assert.equal(stats.memory_stats.limit, 64 << 20);
  const live = await container.stats();
  await new Promise((done) => live.once("data", done));
  live.destroy();
  assert.ok((await container.top({ ps_args: "-eo pid,comm" })).Titles.includes("PID"));
  await container.pause();
  assert.equal((await container.inspect()).State.Status, "paused");
  await container.unpause();
  await container.update({ Memory: 80 << 20, MemorySwap: 160 << 20 });
  await container.rename({ name: "renamed" });
  await assert.rejects(container.remove(), status(409, /container is running/));
  const waiting = container.wait();
  await container.stop({ t: 5 });
  assert.deepEqual(await waiting, { StatusCode: 4 });
  await assert.rejects(container.stop(), status(304, /./));
  await container.restart({ t: 0 });
  await container.kill({ signal: "KILL" });
  await container.wait({ condition: "not-running" });
  await container.remove({ v: true });
  await assert.rejects(docker.getContainer("renamed").inspect(), status(404, /no such container/i));
  await docker.getVolume("vol").remove();
});

check("logs and attach", async () => {
  const told = await start("told", "echo out; echo err >&2");
  await told.wait();
  const follow = await told.logs({ follow: true, stdout: true, stderr: true });
  assert.deepEqual(await demux(follow), ["out\n", "err\n"]);
  const once = await told.logs({ stdout: true, tail: 2, timestamps: true });
  assert.match(String(once.subarray(8)), /^20.*Z out\n$/);
  const cat = await docker.createContainer({ name: "cat", Image: "busybox", Cmd: ["cat"], OpenStdin: true, StdinOnce: true });
  const stream = await cat.attach({ stream: true, stdin: true, stdout: true, hijack: true });
  await cat.start();
  const echoed = demux(stream);
  stream.end("through the socket\n");
  assert.deepEqual(await echoed, ["through the socket\n", ""]);
  const terminal = await docker.createContainer({ name: "tty", Image: "busybox", Cmd: ["sh"], OpenStdin: true, Tty: true });
  const typed = await terminal.attach({ stream: true, stdin: true, stdout: true, hijack: true });
  await terminal.start();
  await terminal.resize({ h: 33, w: 99 });
  let seen = "";
  typed.on("data", (chunk) => (seen += chunk));
  typed.write("stty size; exit 3\n");
  assert.deepEqual(await terminal.wait(), { StatusCode: 3 });
  for (let i = 0; i < 3000 && !seen.includes("33 99"); i++) await pause(20);
  assert.match(seen, /33 99/);
  for (const container of [told, cat, terminal]) await container.remove();
});

check("exec", async () => {
  const box = await start("box", "sleep 1000");
  const run = async (Cmd, options = {}, how = {}) => {
    const exec = await box.exec({ Cmd, AttachStdout: true, AttachStderr: true, ...options });
    const said = await demux(await exec.start({ Detach: false, Tty: false, ...how }));
    return [(await exec.inspect()).ExitCode, ...said];
  };
  const both = ["sh", "-c", "echo out $A; echo err >&2; exit 5"];
  assert.deepEqual(await run(both, { Env: ["A=b"] }), [5, "out b\n", "err\n"]);
  assert.deepEqual(await run(both, { Env: ["A=b"] }, { hijack: true, stdin: true }), [5, "out b\n", "err\n"]);
  assert.deepEqual(await run(["id", "-un"], { User: "nobody", WorkingDir: "/tmp" }), [0, "nobody\n", ""]);
  const [code, said] = await run(["nosuch"]);
  assert.equal(code, 127);
  assert.match(said, /executable file not found in \$PATH/);
  const input = await box.exec({ Cmd: ["cat"], AttachStdin: true, AttachStdout: true });
  const stream = await input.start({ hijack: true, stdin: true });
  const echoed = demux(stream);
  stream.end("typed\n");
  assert.deepEqual(await echoed, ["typed\n", ""]);
  const terminal = await box.exec({ Cmd: ["sh"], AttachStdin: true, AttachStdout: true, Tty: true });
  const typed = await terminal.start({ hijack: true, stdin: true, Tty: true });
  await terminal.resize({ h: 44, w: 88 });
  typed.write("stty size; exit\n");
  assert.match(await text(typed), /44 88/);
  await box.remove({ force: true });
});

check("files", async () => {
  const box = await start("box", "echo made > /tmp/made; exec sleep 1000");
  for (let i = 0; i < 3000 && !(await box.changes())?.some((one) => one.Path === "/tmp/made"); i++) await pause(20);
  const archive = Buffer.concat(await (await box.getArchive({ path: "/tmp/made" })).toArray());
  assert.ok(String(archive).includes("made\0") && String(archive).includes("made\n"));
  const head = await box.infoArchive({ path: "/tmp/made" });
  const stat = JSON.parse(Buffer.from(head.headers["x-docker-container-path-stat"], "base64"));
  assert.deepEqual([stat.name, stat.size], ["made", 5]);
  await box.putArchive(archive, { path: "/etc" });
  const exec = await box.exec({ Cmd: ["cat", "/etc/made"], AttachStdout: true });
  assert.deepEqual(await demux(await exec.start({})), ["made\n", ""]);
  assert.ok((await text(await box.export())).includes("etc/made\0"));
  const made = await box.commit({ repo: "made", tag: "v1", comment: "why", changes: "ENV A=b" });
  assert.match(made.Id, /^sha256:/);
  assert.equal((await docker.getImage("made:v1").inspect()).Comment, "why");
  await box.remove({ force: true });
  await docker.getImage("made:v1").remove();
});

check("networks and volumes", async () => {
  const network = await docker.createNetwork({
    Name: "net",
    IPAM: { Config: [{ Subnet: "10.96.0.0/24" }] },
    Labels: { tier: "data" },
  });
  const box = await start("box", "sleep 1000", { HostConfig: { NetworkMode: "net" } });
  const late = await start("late", "sleep 1000");
  await network.connect({ Container: "late", EndpointConfig: { Aliases: ["mate"], IPAMConfig: { IPv4Address: "10.96.0.9" } } });
  assert.equal(Object.keys((await network.inspect()).Containers).length, 2);
  assert.equal((await late.inspect()).NetworkSettings.Networks.net.IPAddress, "10.96.0.9");
  await network.disconnect({ Container: "late", Force: true });
  assert.deepEqual((await docker.listNetworks({ filters: { label: ["tier=data"] } })).map((one) => one.Name), ["net"]);
  for (const container of [box, late]) await container.remove({ force: true });
  await network.remove();
  await assert.rejects(network.inspect(), status(404, /network .* not found/));
  const made = await docker.createVolume({ Name: "vol", Labels: { a: "b" } });
  assert.equal(made.name ?? made.Name, "vol");
  assert.deepEqual((await docker.listVolumes({ filters: { label: ["a=b"] } })).Volumes.map((one) => one.Name), ["vol"]);
  assert.deepEqual((await docker.pruneVolumes({ filters: { all: ["true"] } })).VolumesDeleted, ["vol"]);
  assert.deepEqual((await docker.pruneNetworks()).NetworksDeleted, null);
});

check("images and events", async () => {
  const name = `${registry}/test/pulled:v1`;
  const steps = await finished(await docker.pull(name));
  assert.match(steps.at(-1).status, /Status: Downloaded newer image/);
  const image = docker.getImage(name);
  assert.equal((await image.inspect()).RepoTags[0], name);
  await image.tag({ repo: "spare", tag: "v1" });
  assert.ok((await image.history()).length >= 1);
  await assert.rejects(docker.pull(`${registry}/test/nosuch:v1`), status(404, /manifest|not found/));
  for (const one of ["spare:v1", name]) await docker.getImage(one).remove();
  const [since, until] = [1, Math.ceil(Date.now() / 1000) + 1];
  const events = await docker.getEvents({ since, until, filters: { type: ["image"], event: ["pull", "tag", "untag"] } });
  const lines = (await text(events)).trim().split("\n").map((line) => JSON.parse(line).Action);
  for (const action of ["pull", "tag", "untag"]) assert.ok(lines.includes(action), lines.join(" "));
});

check("errors", async () => {
  await assert.rejects(docker.createContainer({ Image: "nosuch" }), status(404, /No such image: nosuch/));
  await assert.rejects(docker.createContainer({ Image: "busybox", name: "a?" }), status(400, /Invalid container name/));
  await assert.rejects(docker.getVolume("nosuch").inspect(), status(404, /get nosuch: no such volume/));
  await assert.rejects(docker.getExec("0123").inspect(), status(404, /No such exec instance: 0123/));
});

async function main() {
  for (const [name, run] of checks) {
    const begun = Date.now();
    await run();
    console.log(`${name}: well, ${Date.now() - begun} ms`);
  }
  const { version } = require("dockerode/package.json");
  console.log(`all well: dockerode ${version}, ${checks.length} checks`);
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
