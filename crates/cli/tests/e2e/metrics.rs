//! `/metrics`: figures in Prometheus' text format.

use std::collections::{BTreeMap, BTreeSet};

use testkit::engine::Engine;

use crate::bench::{eventually, options};
use crate::service::{free_port, get};

/// Samples by name and labels, as they are written.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

fn page(engine: &Engine) -> String {
    let answer = get(&engine.socket(), "/metrics").unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    String::from_utf8(answer.body).unwrap()
}

#[test]
fn figures() {
    let mut options = options();
    let port = free_port();
    options.flags = vec![format!("--metrics-addr=127.0.0.1:{port}")];
    let engine = Engine::start(options).unwrap();
    engine
        .docker("run -d --name box -p 127.0.0.1::80 busybox sleep 60")
        .ok();
    engine.docker("run --name ended busybox false").fails(1);
    engine.docker("create --name made busybox").ok();
    engine
        .docker("run --name wrong busybox /nonexistent")
        .fails(127);
    engine
        .docker("run -d --name again --restart on-failure:1 busybox false")
        .ok();
    engine.docker("network create asked").ok();
    engine
        .docker("run --rm --network asked busybox nslookup nowhere.example")
        .fails(1);
    engine
        .docker(
            "run --rm --name sick --health-cmd true --health-interval 100ms -d busybox sleep 60",
        )
        .ok();
    engine.docker("inspect nosuch").fails(1);
    eventually("the restart is over", || {
        engine.inspect("again", "{{.RestartCount}} {{.State.Status}}") == "1 exited"
    });
    eventually("it is healthy", || {
        engine.inspect("sick", "{{.State.Health.Status}}") == "healthy"
    });
    // an answer is counted a moment after it is sent
    eventually("the last request is counted", || {
        let found = samples(&page(&engine));
        let name =
            r#"gorae_http_requests_total{code="404",method="GET",route="/containers/{id}/json"}"#;
        found.contains_key(name)
    });
    let text = page(&engine);
    let found = samples(&text);
    let value = |name: &str| *found.get(name).unwrap_or_else(|| panic!("{name}\n{text}"));
    for (name, expect) in [
        (r#"gorae_containers{state="running"}"#, 2.0),
        (r#"gorae_containers{state="exited"}"#, 2.0),
        (r#"gorae_containers{state="created"}"#, 2.0),
        (r#"gorae_containers{state="paused"}"#, 0.0),
        (r#"gorae_containers_health{health="healthy"}"#, 1.0),
        ("gorae_container_start_failures_total", 1.0),
        ("gorae_container_restarts_total", 1.0),
        ("gorae_container_oom_total", 0.0),
        ("gorae_images", 1.0),
        ("gorae_published_ports", 1.0),
        (r#"gorae_networks{driver="bridge"}"#, 2.0),
        (r#"gorae_network_repairs_total{object="rules"}"#, 0.0),
        (
            r#"gorae_events_total{action="start",type="container"}"#,
            6.0,
        ),
    ] {
        assert_eq!(value(name), expect, "{name}\n{text}");
    }
    for (name, least) in [
        ("gorae_container_start_duration_seconds_count", 6.0),
        (
            r#"gorae_container_start_duration_seconds_bucket{le="+Inf"}"#,
            6.0,
        ),
        ("gorae_network_endpoints", 2.0),
        ("gorae_dns_queries_total", 1.0),
        ("gorae_image_layers", 1.0),
        ("gorae_image_layer_bytes", 1.0),
        ("gorae_http_connections", 1.0),
        ("gorae_start_time_seconds", 1.0e9),
        ("process_resident_memory_bytes", 1.0e6),
        ("process_open_fds", 5.0),
        (
            r#"gorae_http_requests_total{code="404",method="GET",route="/containers/{id}/json"}"#,
            1.0,
        ),
        (
            r#"gorae_http_requests_total{code="204",method="POST",route="/containers/{id}/start"}"#,
            3.0,
        ),
        (
            r#"gorae_http_request_duration_seconds_count{method="POST",route="/containers/create"}"#,
            6.0,
        ),
    ] {
        assert!(value(name) >= least, "{name}\n{text}");
    }
    engine.docker("rm -f box ended made wrong again sick").ok();
    engine.docker("network rm asked").ok();
}

#[test]
fn the_page_is_well_formed_and_short() {
    let mut options = options();
    let port = free_port();
    options.flags = vec![format!("--metrics-addr=127.0.0.1:{port}")];
    let engine = Engine::start(options).unwrap();
    // paths and methods that are no route are no series each
    for number in 0..50 {
        assert_eq!(
            get(&engine.socket(), &format!("/nosuch{number}"))
                .unwrap()
                .status,
            404
        );
        engine
            .api("BREW", &format!("/v1.41/pot{number}"), "")
            .unwrap();
    }
    let text = page(&engine);
    assert!(!text.contains("nosuch") && !text.contains("BREW"), "{text}");
    assert!(text.contains(r#"method="other",route="other""#), "{text}");
    let mut families = BTreeSet::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap();
            assert!(families.insert(family), "{family} comes twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert_eq!(rest.split(' ').next(), Some(family));
        } else {
            assert!(line.starts_with(family), "{line}");
            assert!(
                line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(),
                "{line}"
            );
        }
    }
    // every family is documented, and nothing else
    let page = include_str!("../../../../docs/metrics.md");
    let documented: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(families, documented);
    // the other address serves the same, and only that
    let server = format!("127.0.0.1:{port}").parse().unwrap();
    let ask = |path: &str| testkit::http::request(server, "GET", path, &[], b"").unwrap();
    assert_eq!(ask("/metrics").status, 200);
    assert_eq!(ask("/_ping").status, 404);
    assert_eq!(ask("/v1.51/containers/json").status, 404);
    engine.docker("ps -q").prints("");
}
