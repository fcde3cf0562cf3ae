//! Every group of routes, by our own client.

use api::client::{Body, Client, ClientError, Frame, Frames, StreamKind};
use api::container::{CreateRequest, CreateResponse, Inspect, Summary, WaitResponse};
use api::event::Message;
use api::host_config::HostConfig;
use api::image::{DeleteItem, HistoryItem, Progress};
use api::system::{DiskUsage, Info, Version};
use api::{exec, image, network, volume};
use testkit::image::TestImage;

use crate::fixture::{can_run, with_engine};

fn refusal<T>(result: Result<T, ClientError>) -> (u16, String) {
    match result {
        Err(ClientError::Response { status, message }) => (status, message),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

/// Imports busybox as `box:1`; gives the image's id.
async fn import(client: &Client) -> String {
    let archive = TestImage::busybox().unwrap().layers.remove(0).0;
    let answer = client
        .post("/images/create")
        .query("fromSrc", "-")
        .query("repo", "box")
        .query("tag", "1")
        .query("changes", r#"CMD ["sleep","100"]"#)
        .body(Body::full(archive), "application/x-tar")
        .send()
        .await
        .unwrap();
    let message: Progress = answer.lines().next().await.unwrap().unwrap();
    message.status
}

fn boxed(command: &[&str]) -> CreateRequest {
    let mut request = CreateRequest::default();
    request.config.image = "box:1".into();
    let words: Vec<String> = command.iter().map(|&word| word.into()).collect();
    request.config.cmd = Some(words.into()).filter(|_| !command.is_empty());
    request.host_config = Some(HostConfig {
        network_mode: "none".into(),
        ..HostConfig::default()
    });
    request
}

#[test]
fn the_engine_itself() {
    with_engine(async |client| {
        let version: Version = client.get("/version").fetch().await.unwrap();
        assert_eq!(version.api_version, "1.51");
        assert_eq!(version.min_api_version, "1.24");
        let info: Info = client.get("/info").fetch().await.unwrap();
        assert_eq!(info.containers, 0);
        assert_eq!(info.bridge_nf_iptables, None);
        client.set_version("1.49");
        let info: Info = client.get("/info").fetch().await.unwrap();
        assert!(info.bridge_nf_iptables.is_some());
        client.set_version("1.51");
        let usage: DiskUsage = client.get("/system/df").fetch().await.unwrap();
        assert_eq!(usage.images, Some(vec![]));
        assert_eq!(usage.build_cache, Some(vec![]));

        let ping = client.get("/_ping").unversioned().send().await.unwrap();
        assert_eq!(ping.header("api-version"), Some("1.51"));
        assert_eq!(&ping.bytes().await.unwrap()[..], b"OK");

        let (status, message) = refusal(client.get("/nowhere").run().await);
        assert_eq!((status, message.as_str()), (404, "page not found"));
        let (status, message) = refusal(client.get("/services").run().await);
        assert_eq!(status, 503);
        assert!(
            message.starts_with("This node is not a swarm manager."),
            "{message}"
        );
        let (status, message) = refusal(client.post("/build/cancel").run().await);
        assert_eq!((status, message.as_str()), (400, "build ID not provided"));
    });
}

#[test]
fn images() {
    with_engine(async |client| {
        let id = import(client).await;
        let list: Vec<image::Summary> = client.get("/images/json").fetch().await.unwrap();
        assert_eq!(list[0].id, id);
        assert_eq!(list[0].virtual_size, 0);
        client
            .post("/images/box:1/tag")
            .query("repo", "host.example:5000/a/b")
            .query("tag", "2")
            .run()
            .await
            .unwrap();
        let path = "/images/host.example:5000/a/b:2/json";
        let found: image::Inspect = client.get(path).fetch().await.unwrap();
        assert_eq!(found.id, id);
        assert_eq!(found.container_config, None);
        client.set_version("1.43");
        let found: image::Inspect = client.get(path).fetch().await.unwrap();
        assert_eq!(found.virtual_size, found.size);
        assert!(found.container_config.is_some());
        let history: Vec<HistoryItem> = client.get("/images/box:1/history").fetch().await.unwrap();
        assert_eq!(history.len(), 1);
        let gone: Vec<DeleteItem> = client
            .delete("/images/host.example:5000/a/b:2")
            .fetch()
            .await
            .unwrap();
        assert_eq!(gone[0].untagged, "host.example:5000/a/b:2");

        let (status, message) = refusal(client.get("/images/no/such:1/json").run().await);
        assert_eq!(
            (status, message.as_str()),
            (404, "No such image: no/such:1")
        );
        let bad = client.get("/images/json").query("filters", "{");
        assert_eq!(refusal(bad.run().await), (400, "invalid filter".into()));
        let pull = client.post("/images/create").query("fromImage", "UPPER");
        assert_eq!(refusal(pull.run().await).0, 400);
        let pull = client
            .post("/images/create")
            .query("fromImage", "box")
            .header_static("x-registry-auth", "%");
        // like dockerd, a pull goes on without credentials that cannot be read
        assert!(!refusal(pull.run().await).1.contains("X-Registry-Auth"));
    });
}

#[test]
fn containers_that_do_not_run() {
    with_engine(async |client| {
        import(client).await;
        let create = |name: &str, request: &CreateRequest| {
            client
                .post("/containers/create")
                .query("name", name)
                .json(request)
        };
        let made: CreateResponse = create("one", &boxed(&[])).fetch().await.unwrap();
        let (status, message) = refusal(create("one", &boxed(&[])).run().await);
        assert_eq!(status, 409);
        assert!(message.contains(&made.id), "{message}");
        let (status, message) = refusal(create("two", &CreateRequest::default()).run().await);
        assert_eq!(status, 400);
        assert_eq!(
            message,
            "config cannot be empty in order to create a container"
        );
        let body = Body::full(b"{}".to_vec());
        let plain = client.post("/containers/create").body(body, "text/plain");
        assert!(
            refusal(plain.run().await)
                .1
                .contains("unsupported Content-Type")
        );

        client
            .post("/containers/one/rename")
            .query("name", "two")
            .run()
            .await
            .unwrap();
        let found: Inspect = client.get("/containers/two/json").fetch().await.unwrap();
        assert_eq!(
            (found.id.as_str(), found.name.as_str()),
            (made.id.as_str(), "/two")
        );
        let list = client.get("/containers/json").query("all", "1");
        let list: Vec<Summary> = list.fetch().await.unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!(
            refusal(
                client
                    .get("/containers/json")
                    .query("limit", "x")
                    .run()
                    .await
            )
            .0,
            400
        );

        // the state asked for is there already
        let stopped = client.post("/containers/two/stop").send().await.unwrap();
        assert_eq!(stopped.status(), 304);
        let wait = client.post("/containers/two/wait");
        let waited: WaitResponse = wait.fetch().await.unwrap();
        assert_eq!(waited.status_code, 0);
        let logs = client.get("/containers/two/logs");
        assert_eq!(refusal(logs.run().await).0, 400);
        client.delete("/containers/two").run().await.unwrap();
        assert_eq!(
            refusal(client.get("/containers/two/json").run().await).0,
            404
        );

        let events = client
            .get("/events")
            .query("since", "1")
            .query("until", "9999999999")
            .query(
                "filters",
                r#"{"type":["container"],"event":["create","destroy"]}"#,
            );
        let mut events = events.send().await.unwrap().lines();
        for action in ["create", "destroy"] {
            let event: Message = events.next().await.unwrap().unwrap();
            assert_eq!(event.action, action);
        }
    });
}

#[test]
fn volumes_and_networks() {
    with_engine(async |client| {
        let wish = volume::CreateRequest {
            name: "data".into(),
            ..volume::CreateRequest::default()
        };
        let made: volume::Volume = client
            .post("/volumes/create")
            .json(&wish)
            .fetch()
            .await
            .unwrap();
        assert_eq!(made.name, "data");
        let list: volume::ListResponse = client.get("/volumes").fetch().await.unwrap();
        assert_eq!(list.volumes.unwrap().len(), 1);
        // since 1.42 a prune leaves volumes that have a name
        let pruned: volume::PruneReport = client.post("/volumes/prune").fetch().await.unwrap();
        assert_eq!(pruned.volumes_deleted.unwrap_or_default().len(), 0);
        client.set_version("1.41");
        let pruned: volume::PruneReport = client.post("/volumes/prune").fetch().await.unwrap();
        assert_eq!(pruned.volumes_deleted.unwrap(), ["data"]);
        assert_eq!(refusal(client.get("/volumes/data").run().await).0, 404);

        let list: Vec<network::Network> = client.get("/networks").fetch().await.unwrap();
        let mut names: Vec<_> = list.iter().map(|network| network.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["bridge", "host", "none"]);
        let (status, message) = refusal(client.delete("/networks/bridge").run().await);
        assert_eq!(status, 403);
        assert_eq!(
            message,
            "bridge is a pre-defined network and cannot be removed"
        );
        assert_eq!(refusal(client.get("/networks/nope").run().await).0, 404);
    });
}

#[test]
fn networks_that_are_made() {
    with_engine(async |client| {
        let make = |name: &str| {
            client
                .post("/networks/create")
                .json(&network::CreateRequest {
                    name: name.into(),
                    ..network::CreateRequest::default()
                })
        };
        let answer = make("front").send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let made: network::CreateResponse = answer.json().await.unwrap();
        let expect = |status: u16, message: &str| (status, message.to_owned());
        assert_eq!(
            refusal(make("front").run().await),
            expect(409, "network with name front already exists")
        );
        assert_eq!(
            refusal(make("").run().await),
            expect(400, "invalid name: name is empty")
        );
        for path in ["/networks/front", &format!("/networks/{}", made.id)] {
            let request = client.get(path).query("verbose", "true");
            let found: network::Network = request.fetch().await.unwrap();
            assert_eq!((found.name.as_str(), &found.id), ("front", &made.id));
        }
        let asked = |name: &str, value: &str| client.get("/networks/front").query(name, value);
        assert_eq!(refusal(asked("verbose", "x").run().await).0, 400);
        assert_eq!(
            refusal(asked("scope", "swarm").run().await),
            expect(404, "network front not found")
        );
        for path in ["/networks/front/connect", "/networks/front/disconnect"] {
            let request = |body: &str| {
                client
                    .post(path)
                    .json(&serde_json::json!({"Container": body}))
            };
            assert_eq!(
                refusal(request("").run().await),
                expect(400, "invalid name or ID supplied: \"\"")
            );
            assert_eq!(
                refusal(request("nope").run().await),
                expect(404, "No such container: nope")
            );
        }
        let gone = client.delete("/networks/front").send().await.unwrap();
        assert_eq!(gone.status(), 204);
        assert_eq!(
            refusal(client.delete("/networks/front").run().await),
            expect(404, "network front not found")
        );
        make("back").run().await.unwrap();
        let prune = |filters: &str| client.post("/networks/prune").query("filters", filters);
        assert_eq!(
            refusal(prune(r#"{"x":["y"]}"#).run().await),
            expect(400, "invalid filter 'x'")
        );
        let pruned: network::PruneReport = prune("{}").fetch().await.unwrap();
        assert_eq!(pruned.networks_deleted.unwrap(), ["back"]);
        network_events(client).await;
    });
}

/// What was done to networks is told, and found again by name.
async fn network_events(client: &Client) {
    let events = client
        .get("/events")
        .query("since", "1")
        .query("until", "9999999999")
        .query("filters", r#"{"type":["network"],"network":["front"]}"#);
    let mut events = events.send().await.unwrap().lines();
    for action in ["create", "destroy"] {
        let event: Message = events.next().await.unwrap().unwrap();
        assert_eq!(
            (event.kind.as_str(), event.action.as_str()),
            ("network", action)
        );
        let attributes = event.actor.attributes.unwrap();
        assert_eq!(
            (attributes["name"].as_str(), attributes["type"].as_str()),
            ("front", "bridge")
        );
    }
}

#[test]
fn a_healthy_engine_has_no_findings() {
    with_engine(async |client| {
        let audit: api::audit::Audit = client.get("/gorae/network/audit").fetch().await.unwrap();
        assert_eq!((audit.policy.as_str(), audit.ports.len()), ("docker", 0));
        for repair in [false, true] {
            let request = client
                .post("/gorae/system/check")
                .query_flag("repair", repair);
            let report: api::check::Report = request.fetch().await.unwrap();
            assert_eq!(report.findings, []);
        }
    });
}

/// Reads a stream of frames to its end.
async fn frames(stream: api::client::Hijacked) -> Vec<(StreamKind, String)> {
    let (reader, _writer) = stream.split();
    let mut reader = Frames::new(reader);
    let mut found = Vec::new();
    while let Some(Frame { kind, data }) = reader.next().await.unwrap() {
        found.push((kind, String::from_utf8_lossy(&data).into_owned()));
    }
    found
}

#[test]
fn containers_that_run() {
    if !can_run() {
        return;
    }
    with_engine(async |client| {
        import(client).await;
        let run = |command: &[&str]| {
            let request = client.post("/gorae/run").json(&boxed(command));
            request.query("stdout", "1").query("stderr", "1")
        };
        let stream = run(&["sh", "-c", "echo out; exit 3"])
            .hijack()
            .await
            .unwrap();
        let said = frames(stream).await;
        let kinds: Vec<_> = said.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(
            kinds,
            [StreamKind::Control, StreamKind::Stdout, StreamKind::Control]
        );
        assert_eq!(said[1].1, "out\n");
        let ended: WaitResponse = serde_json::from_str(&said[2].1).unwrap();
        assert_eq!(ended.status_code, 3);

        let (status, message) = refusal(run(&["nosuch"]).hijack().await);
        assert_eq!(status, 400);
        assert!(
            message.contains("executable file not found in $PATH"),
            "{message}"
        );

        let started = run(&["sleep", "100"]).query("detach", "1");
        let CreateResponse { id, .. } = started.fetch().await.unwrap();
        exec_in(client, &id).await;
        let remove = client
            .delete(&format!("/containers/{id}"))
            .query("force", "1");
        remove.run().await.unwrap();
        for rest in client
            .get("/containers/json")
            .query("all", "1")
            .fetch::<Vec<Summary>>()
            .await
            .unwrap()
        {
            client
                .delete(&format!("/containers/{}", rest.id))
                .run()
                .await
                .unwrap();
        }
    });
}

/// Execs in a running container: output, and a failed start, which is told in the stream.
async fn exec_in(client: &Client, id: &str) {
    for (command, output, code) in [("echo", "\n", 0), ("nosuch", "not found in $PATH\r\n", 127)] {
        let wish = exec::CreateRequest {
            attach_stdout: true,
            cmd: Some(vec![command.to_owned()].into()),
            ..exec::CreateRequest::default()
        };
        let create = client.post(&format!("/containers/{id}/exec")).json(&wish);
        let exec::CreateResponse { id } = create.fetch().await.unwrap();
        let start = client.post(&format!("/exec/{id}/start"));
        let stream = start
            .json(&exec::StartRequest::default())
            .hijack()
            .await
            .unwrap();
        assert_eq!(stream.is_multiplexed(), Some(true));
        let said = frames(stream).await;
        assert!(said[0].1.ends_with(output), "{said:?}");
        let found: exec::Inspect = client
            .get(&format!("/exec/{id}/json"))
            .fetch()
            .await
            .unwrap();
        assert_eq!(found.exit_code, Some(code));
    }
}
