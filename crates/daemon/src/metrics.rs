//! Figures about the daemon's own work: requests, connections, memory; and all figures as one page.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use engine::metrics::{Histogram, Kind, Page};
use http::header::CONTENT_TYPE;

use crate::routes::Shared;

/// The text format's media type.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// What paths that are no route count as: otherwise each would be a series of its own.
const OTHER: &str = "other";

/// Requests so far, by their route.
#[derive(Debug, Default)]
pub(crate) struct Requests(Mutex<BTreeMap<(String, String), Route>>);

#[derive(Debug, Default)]
struct Route {
    /// By status.
    codes: BTreeMap<u16, u64>,
    seconds: Arc<Histogram>,
}

impl Requests {
    fn note(&self, method: &str, route: &str, status: u16, took: Duration) {
        let mut routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = routes.entry((method.to_owned(), route.to_owned()));
        let entry = entry.or_default();
        *entry.codes.entry(status).or_default() += 1;
        entry.seconds.note(took);
    }

    fn write(&self, page: &mut Page) {
        let routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        page.family(
            "gorae_http_requests_total",
            Kind::Counter,
            "Requests answered, by route and status.",
        );
        for ((method, route), found) in &*routes {
            for (code, count) in &found.codes {
                let code = code.to_string();
                let labels = [
                    ("code", code.as_str()),
                    ("method", method),
                    ("route", route),
                ];
                page.sample(&labels, *count);
            }
        }
        page.family(
            "gorae_http_request_duration_seconds",
            Kind::Histogram,
            "Time until the head of the answer, by route; streams go on after it.",
        );
        for ((method, route), found) in &*routes {
            page.histogram(&[("method", method), ("route", route)], &found.seconds);
        }
    }
}

/// Notes each request of the router that it is laid around.
pub(crate) async fn count(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| OTHER.to_owned(), |path| path.as_str().to_owned());
    let method = known(request.method());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    shared
        .requests
        .note(method, &route, status, begun.elapsed());
    response
}

/// A client may name any method; only those of the API are worth a series.
fn known(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => OTHER,
    }
}

/// Answers with all figures.
pub(crate) async fn metrics(State(shared): State<Shared>) -> Response {
    let mut page = Page::default();
    process(&mut page);
    page.family(
        "gorae_http_connections",
        Kind::Gauge,
        "Open connections of clients, without those that became a stream of attach or exec.",
    );
    page.sample(&[], shared.seats.taken() as u64);
    shared.requests.write(&mut page);
    shared.engine.write_metrics(&mut page).await;
    ([(CONTENT_TYPE, TEXT)], page.into_text()).into_response()
}

/// The daemon's process, under the names that all programs use.
fn process(page: &mut Page) {
    if let Some(bytes) = resident() {
        page.family(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Memory of the engine's process that is in use.",
        );
        page.sample(&[], bytes);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        page.family(
            "process_open_fds",
            Kind::Gauge,
            "Files that the engine's process has open.",
        );
        page.sample(&[], entries.count() as u64);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if let Some(limit) = limit {
        page.family(
            "process_max_fds",
            Kind::Gauge,
            "Files that it may have open.",
        );
        page.sample(&[], limit);
    }
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    page.family(
        "process_cpu_seconds_total",
        Kind::Counter,
        "Processor time that the engine's process has used.",
    );
    let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
    let rest = u32::try_from(used.tv_nsec).unwrap_or(0);
    page.seconds(&[], Duration::new(seconds, rest));
}

/// `VmRSS` of proc(5), which is in units of 1024 bytes.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_by_route() {
        let requests = Requests::default();
        let quick = Duration::from_millis(2);
        requests.note("GET", "/containers/{id}/json", 200, quick);
        requests.note("GET", "/containers/{id}/json", 404, quick);
        requests.note("GET", "/containers/{id}/json", 200, quick);
        let mut page = Page::default();
        requests.write(&mut page);
        let text = page.into_text();
        for line in [
            r#"gorae_http_requests_total{code="200",method="GET",route="/containers/{id}/json"} 2"#,
            r#"gorae_http_requests_total{code="404",method="GET",route="/containers/{id}/json"} 1"#,
            r#"gorae_http_request_duration_seconds_count{method="GET",route="/containers/{id}/json"} 3"#,
            "# TYPE gorae_http_request_duration_seconds histogram",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert_eq!(known(&http::Method::from_bytes(b"BREW").unwrap()), OTHER);
        assert!(resident().unwrap() > 1 << 20);
    }
}
