//! Docker Compose, unmodified, with every command that needs no build, on a file of ten services.

use std::fs;

use testkit::docker::{Client, Outcome, Session, words};
use testkit::engine::Engine;

use crate::bench::{engine, eventually};

const FILE: &str = include_str!("compose_ten/compose.yaml");

/// An engine, and the file in a folder of the project.
struct Project {
    engine: Engine,
}

impl Project {
    fn new() -> Self {
        let project = Self { engine: engine() };
        let folder = project.engine.home();
        fs::create_dir(folder.join("src")).unwrap();
        for (name, text) in [
            ("compose.yaml", FILE),
            ("password.txt", "hunter2\n"),
            ("api.conf", "the page of the api\n"),
            ("api.env", "FROM_FILE=yes\nWORD_TOO=${WORD:-none}\n"),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        project
    }

    fn command(&self, line: &str) -> std::process::Command {
        let file = self.engine.home().join("compose.yaml");
        let line = format!("compose --progress quiet -f {} {line}", file.display());
        let mut command = self.engine.command(Client::Docker, words(&line));
        command.env("FOLDER", self.engine.home());
        command
    }

    #[track_caller]
    fn run(&self, line: &str) -> Outcome {
        Session::pipes(self.command(line)).unwrap().finish()
    }

    #[track_caller]
    fn session(&self, line: &str) -> Session {
        Session::pipes(self.command(line)).unwrap()
    }

    /// What the names of the containers in a state are, in order.
    fn names(&self, more: &str) -> Vec<String> {
        let listed = self
            .engine
            .docker(&format!("ps --format {{{{.Names}}}} {more}"));
        let mut names: Vec<String> = listed.ok().lines().map(str::to_owned).collect();
        names.sort();
        names
    }
}

#[test]
fn ten_services_come_up_in_order_and_go() {
    let project = Project::new();
    project.run("config -q").ok();
    let services = project.run("config --services");
    assert_eq!(services.ok().lines().count(), 9, "{services:?}");
    project.run("config --profiles").prints("debug");
    project.run("config --volumes").shows("data");
    project.run("config --images").shows("busybox");
    project
        .run("config --format json")
        .shows("\"FROM_COMPOSE\": \"default\"");
    project.run("config --hash db").shows("db ");

    // migrate ends, and that is well: it is waited for as what others depend on
    project.run("up -d --wait --wait-timeout 100").ok();
    eventually("what ended is there a second time", || {
        let once = "{{.RestartCount}} {{.State.Status}}";
        project.engine.inspect("ten-once-1", once) == "1 running"
    });
    assert_eq!(
        project.names(""),
        [
            "ten-api-1",
            "ten-api-2",
            "ten-cache-1",
            "ten-db-1",
            "ten-once-1",
            "ten-shared-1",
            "ten-side-1",
            "ten-web-1",
            "ten-worker-1",
            "ten-worker-2",
            "ten-worker-3"
        ]
    );
    order_of_start(&project);
    settings(&project);
    looks(&project);
    runs(&project);
    changes(&project);

    project.run("--profile debug down -v --remove-orphans").ok();
    project.engine.docker("ps -aq").prints("");
    project
        .engine
        .docker("network ls -q -f type=custom")
        .prints("");
    project.engine.docker("volume ls -q").prints("");
    assert_eq!(project.engine.traces(), [""; 0]);
}

/// Each started when what it depends on had come to be.
fn order_of_start(project: &Project) {
    let time = |name: &str, field: &str| {
        project
            .engine
            .inspect(name, &format!("{{{{.State.{field}}}}}"))
    };
    assert!(time("ten-migrate-1", "FinishedAt") <= time("ten-api-1", "StartedAt"));
    let healthy = project
        .engine
        .inspect("ten-db-1", "{{(index .State.Health.Log 0).End}}");
    assert!(!healthy.is_empty());
    assert!(time("ten-db-1", "StartedAt") < time("ten-migrate-1", "StartedAt"));
    assert!(time("ten-api-2", "StartedAt") < time("ten-web-1", "StartedAt"));
    project
        .run("logs --no-log-prefix migrate")
        .prints("migrated with hunter2");
}

/// What the file says is what the containers see.
fn settings(project: &Project) {
    let sees = |service: &str, line: &str, text: &str| {
        let outcome = project.run(&format!("exec -T {service} sh -c '{line}'"));
        assert_eq!(outcome.ok(), text, "{outcome:?}");
    };
    sees(
        "db",
        "cat /run/secrets/other; df -k /scratch | tail -1 | tr -s \" \" | cut -d\" \" -f2",
        "hunter2\n1024",
    );
    sees("db", "cat /proc/1/comm | grep -c -v sleep", "1");
    sees(
        "cache",
        "ulimit -Sn; ulimit -Hn; cat /proc/sys/net/core/somaxconn; touch /x 2>/dev/null || touch /cache/x && echo ro",
        "200\n300\n1024\nro",
    );
    sees("cache", "grep NoNewPrivs /proc/self/status | cut -f2", "1");
    sees(
        "api",
        "echo $FROM_FILE $FROM_COMPOSE ${BARE-unset} $WORD_TOO",
        "yes default unset none",
    );
    sees(
        "api",
        "cat /etc/api.conf /inline; grep -c printer /etc/hosts; grep -c host.docker.internal /etc/hosts",
        "the page of the api\nwritten for default\n1\n1",
    );
    sees(
        "web",
        "hostname; pwd; grep -c corp.example /etc/resolv.conf",
        "web.example\n/tmp\n1",
    );
    sees(
        "side",
        "hostname; ps | grep -c [s]leep.1000",
        &format!("{}\n2", project.run("exec -T db hostname").ok()),
    );
    sees("shared", "cat /data/migrated", "hunter2");
    sees(
        "worker",
        "for name in memory store cache; do ping -c 1 -W 30 $name >/dev/null && echo $name; done",
        "memory\nstore\ncache",
    );
    let host = |name: &str, format: &str| {
        project.engine.inspect(
            name,
            &format!("{{{{with .HostConfig}}}}{format}{{{{end}}}}"),
        )
    };
    assert_eq!(
        host(
            "ten-api-1",
            "{{.Memory}} {{.NanoCpus}} {{.PidsLimit}} {{.MemoryReservation}} {{.RestartPolicy.Name}}"
        ),
        "100663296 500000000 60 33554432 on-failure"
    );
    assert_eq!(
        host(
            "ten-cache-1",
            "{{.Memory}} {{.NanoCpus}} {{.PidsLimit}} {{.CapDrop}} {{.CapAdd}}"
        ),
        "67108864 500000000 50 [ALL] [CAP_NET_BIND_SERVICE]"
    );
    assert_eq!(
        host("ten-shared-1", "{{.IpcMode}} {{.ShmSize}} {{.Annotations}}"),
        "shareable 8388608 map[a:b]"
    );
    eventually("it says that it is there again", || {
        project.run("logs --no-log-prefix once").stdout.trim() == "second time"
    });
    assert!(std::net::TcpStream::connect("127.0.0.1:8081").is_ok());
    project.run("port web 80").prints("127.0.0.1:8081");
    project
        .run("port --protocol tcp --index 1 web 443")
        .shows("0.0.0.0:84");
}

/// The commands that only look.
fn looks(project: &Project) {
    project.run("ps").shows("(healthy)");
    project.run("ps --all --services").shows("migrate");
    project.run("ps -q --status running worker").ok();
    assert_eq!(project.run("ps -q worker").ok().lines().count(), 3);
    let web = project.run("ps --format json web");
    web.shows("\"Health\":\"healthy\"");
    web.shows("\"PublishedPort\":8081");
    project
        .run("ps --filter status=exited -a")
        .shows("ten-migrate-1");
    project
        .run("ps --orphans=false --no-trunc --format table")
        .shows("SERVICE");
    project.run("ls").shows("running(11)");
    project
        .run("ls --all --format json --filter name=ten")
        .shows("\"Name\":\"ten\"");
    // there is none between two of them
    eventually("a worker sleeps", || {
        project.run("top worker").ok().contains("sleep 0.05")
    });
    project
        .run("stats --no-stream --format {{.Name}}")
        .shows("ten-api-2");
    project.run("images").shows("busybox");
    project.run("images -q db").ok();
    project.run("volumes").shows("ten_data");
    project.run("version --short").shows("2.");
    eventually("all workers say that they are up", || {
        let prefixed = project.run("logs --no-color --tail 1 worker");
        let is_up = |number| {
            prefixed
                .stdout
                .contains(&format!("worker-{number}  | worker is up"))
        };
        (1..=3).all(is_up)
    });
    project
        .run("logs -t --since 10m --until 0s --index 2 worker")
        .shows("worker is up");
    let follow = project.session("logs -f --no-log-prefix worker");
    follow.expect("worker is up");
    follow.kill();
    // Compose takes the end of the events for an error
    let events = |more: &str| {
        project
            .run(&format!("events --since 10m --until 0s {more}"))
            .stdout
    };
    assert!(events("db").contains("container start"));
    assert!(events("--json web").contains("\"action\":\"start\""));
}

/// The commands that run something in or beside the services.
fn runs(project: &Project) {
    project
        .run("exec -T --index 2 worker sh -c 'exit 5'")
        .fails(5);
    project
        .run("exec -T -e A=1 -u nobody -w /tmp --privileged api sh -c 'echo $A $(id -un) $(pwd)'")
        .prints("1 nobody /tmp");
    project.run("exec -d cache touch /cache/made").ok();
    let home = project.engine.home();
    fs::write(home.join("copied"), "to the services\n").unwrap();
    let path = home.join("copied").display().to_string();
    project.run(&format!("cp {path} worker:/tmp/there")).ok();
    project
        .run("exec -T --index 3 worker cat /tmp/there")
        .prints("to the services");
    project
        .run(&format!("cp --index 2 worker:/tmp/there {path}.back"))
        .ok();
    assert_eq!(
        fs::read_to_string(home.join("copied.back")).unwrap(),
        "to the services\n"
    );
    let terminal = project.command("exec api sh");
    let mut terminal = Session::terminal(&terminal).unwrap();
    terminal.expect("# ");
    terminal
        .write("test -t 0 && echo on a terminal; exit 3\n")
        .unwrap();
    terminal.expect("on a terminal\r\n");
    assert_eq!(terminal.finish().code, 3);
    project
        .run("run --rm -T --no-deps api echo one-off")
        .prints("one-off");
    project.run("run --rm -T --name named -e A=1 -v ten_data:/d -l x=y --entrypoint sh -u nobody -w /tmp --no-deps worker -c 'id -un; pwd; cat /d/migrated; echo $A'")
        .prints("nobody\n/tmp\nhunter2\n1");
    project
        .run("run --rm -T tools 'echo with a profile'")
        .shows("with a profile");
    project
        .run("run -d --no-deps -p 8090:80 --use-aliases --name served web")
        .ok();
    project
        .engine
        .docker("port served 80")
        .shows("0.0.0.0:8090");
    project.engine.docker("rm -f served").ok();
    let mut piped = project.session("run --rm -T -i --no-deps api cat");
    piped.write("piped in").unwrap();
    piped.finish().prints("piped in");
}

/// The commands that change what runs.
fn changes(project: &Project) {
    let id = |name: &str| project.engine.inspect(name, "{{.Id}}");
    let started = |name: &str| project.engine.inspect(name, "{{.State.StartedAt}}");
    // nothing has changed: nothing is made again
    let before = project.engine.docker("ps -q --no-trunc").ok().to_owned();
    project.run("up -d --wait").ok();
    assert_eq!(project.engine.docker("ps -q --no-trunc").ok(), before);

    project.run("pause worker cache").ok();
    assert_eq!(project.names("-f status=paused").len(), 4);
    project.run("unpause worker cache").ok();
    project.run("kill -s USR1 worker").ok();
    // it ended by itself: the policy brings it back
    eventually("three workers again", || {
        let told = project.run("logs --no-log-prefix worker");
        told.ok().matches("told").count() == 3 && project.names("-f name=worker").len() == 3
    });
    project.run("scale worker=5").ok();
    assert_eq!(project.names("-f name=worker").len(), 5);
    project.run("up -d --no-recreate --scale worker=1").ok();
    assert_eq!(project.names("-f name=worker"), ["ten-worker-1"]);

    let (api, db) = (started("ten-api-1"), started("ten-db-1"));
    project.run("restart -t 0 db").ok();
    assert_ne!(started("ten-db-1"), db);
    // depends_on.restart of the file
    assert_ne!(started("ten-api-1"), api);
    project.run("restart --no-deps cache").ok();

    project.run("stop -t 0 web worker").ok();
    assert_eq!(project.names("-a -f status=exited -f name=web").len(), 1);
    project.run("start web").ok();
    project.run("start worker").ok();
    project.run("rm -f -s -v worker").ok();
    assert!(project.names("-a -f name=worker").is_empty());
    project.run("create worker --scale worker=2").ok();
    assert_eq!(
        project.names("-a -f name=worker -f status=created").len(),
        2
    );
    project.run("up -d worker --wait").ok();

    // one service changed: it alone is made again
    let (web, cache) = (id("ten-web-1"), id("ten-cache-1"));
    let changed = FILE.replace("mem_limit: 64m", "mem_limit: 80m");
    fs::write(project.engine.home().join("compose.yaml"), changed).unwrap();
    project.run("up -d --wait").ok();
    assert_ne!(id("ten-cache-1"), cache);
    assert_eq!(id("ten-web-1"), web);
    project
        .run("up -d --force-recreate --no-deps --wait web")
        .ok();
    assert_ne!(id("ten-web-1"), web);
    project.run("--profile debug up -d --wait tools").ok();
    project
        .run("logs --no-log-prefix tools")
        .prints("tools run with words");
    project.run("wait --down-project nosuch").fails(1);
    is_waited_for(project);
    // an orphan is told of, and goes with the others
    let orphan = FILE.replace("\n  side:", "\n  aside:");
    fs::write(project.engine.home().join("compose.yaml"), orphan).unwrap();
    project
        .run("--progress plain up -d --no-deps cache")
        .complains(0, "Found orphan containers ([ten-side-1])");
    fs::write(project.engine.home().join("compose.yaml"), FILE).unwrap();
}

/// `wait` tells how a service ended. The client asks twice before it waits, and nothing shows that it does: on a busy
/// machine it may be late.
fn is_waited_for(project: &Project) {
    let mut codes = Vec::new();
    for pause in [3, 10, 30] {
        let waiting = project.session("wait once");
        std::thread::sleep(std::time::Duration::from_secs(pause));
        project.run("kill once").ok();
        let code = waiting.finish().code;
        if code == 137 {
            return;
        }
        codes.push(code);
        project.run("start once").ok();
    }
    panic!("{codes:?}");
}

#[test]
fn watched_files_are_synced() {
    let project = Project::new();
    let source = project.engine.home().join("src");
    project.run("up -d --no-deps web").ok();
    let watch = project.session("watch --no-up web");
    watch.expect("Watch enabled");
    fs::write(source.join("new"), "written\n").unwrap();
    let read = || project.run("exec -T web cat /www/src/new");
    eventually("the file is there", || read().stdout == "written\n");
    fs::write(source.join("new"), "changed\n").unwrap();
    eventually("it changed", || read().stdout == "changed\n");
    fs::remove_file(source.join("new")).unwrap();
    eventually("it is gone", || read().code == 1);
    watch.kill();
    project.run("down").ok();
}

#[test]
fn attached_up_shows_logs_and_ends_with_a_service() {
    let project = Project::new();
    let up = project.session(
        "up --no-deps --abort-on-container-exit --exit-code-from migrate --no-color migrate cache",
    );
    let outcome = up.finish();
    // no data to migrate: cat fails, and that is the code
    outcome.shows("migrate-1  | ");
    project.run("down -v").ok();
    let failing = FILE
        .replace(r#""test", "-e", "/data/ready""#, r#""false""#)
        .replace("start_period: 30s\n", "start_period: 0s\n")
        .replace("interval: 5s\n", "interval: 100ms\n");
    fs::write(project.engine.home().join("compose.yaml"), failing).unwrap();
    project.run("up -d --wait side").complains(
        1,
        "dependency failed to start: container ten-db-1 is unhealthy",
    );
    project.run("down -v").ok();
}
