//! Figures in Prometheus' text form.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the histogram, in seconds.
const BOUNDS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0];

/// Requests of one route and method by status.
type Requests = BTreeMap<(&'static str, &'static str, u16), u64>;

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<Requests>,
    durations: Mutex<BTreeMap<&'static str, Times>>,
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) refused_connections: AtomicU64,
    pub(crate) collections: AtomicU64,
    pub(crate) collected_bytes: AtomicU64,
    pub(crate) collected_blobs: AtomicU64,
    pub(crate) events_sent: AtomicU64,
    pub(crate) events_failed: AtomicU64,
    pub(crate) events_dropped: AtomicU64,
    pub(crate) upstream_requests: AtomicU64,
    pub(crate) upstream_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Times {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Metrics {
    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn answered(
        &self,
        route: &'static str,
        method: &http::Method,
        status: u16,
        took: Duration,
    ) {
        let key = (route, known(method), status);
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry(key).or_default() += 1;
        drop(requests);
        let mut durations = self
            .durations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let times = durations.entry(route).or_default();
        let seconds = took.as_secs_f64();
        for (bucket, bound) in times.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
        times.count += 1;
        times.sum += seconds;
    }

    /// The page, with gauges that others know.
    pub(crate) fn page(&self, gauges: &[(&str, &str, u64)]) -> String {
        let mut text = String::new();
        let counters = [
            (
                "received_bytes_total",
                "Bytes of bodies that clients sent.",
                &self.received,
            ),
            (
                "sent_bytes_total",
                "Bytes of bodies that were sent to clients.",
                &self.sent,
            ),
            (
                "refused_connections_total",
                "Connections over the limits.",
                &self.refused_connections,
            ),
            (
                "collections_total",
                "Garbage collections.",
                &self.collections,
            ),
            (
                "collected_bytes_total",
                "Bytes that collections freed.",
                &self.collected_bytes,
            ),
            (
                "collected_blobs_total",
                "Blobs that collections removed.",
                &self.collected_blobs,
            ),
            (
                "events_sent_total",
                "Events that webhooks took.",
                &self.events_sent,
            ),
            (
                "events_failed_total",
                "Tries to send an event that failed.",
                &self.events_failed,
            ),
            (
                "events_dropped_total",
                "Events dropped from full queues.",
                &self.events_dropped,
            ),
            (
                "upstream_requests_total",
                "Requests to the upstream of a proxy.",
                &self.upstream_requests,
            ),
            (
                "upstream_bytes_total",
                "Bytes of blobs fetched from the upstream.",
                &self.upstream_bytes,
            ),
        ];
        for (name, help, counter) in counters {
            family(&mut text, name, "counter", help);
            line(
                &mut text,
                name,
                "",
                &counter.load(Ordering::Relaxed).to_string(),
            );
        }
        family(&mut text, "connections", "gauge", "Open connections.");
        let open = self.connections.load(Ordering::Relaxed);
        line(&mut text, "connections", "", &open.to_string());
        for (name, help, value) in gauges {
            family(&mut text, name, "gauge", help);
            line(&mut text, name, "", &value.to_string());
        }
        self.write_requests(&mut text);
        text
    }

    fn write_requests(&self, text: &mut String) {
        family(
            text,
            "requests_total",
            "counter",
            "Requests answered, by route, method and status.",
        );
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((route, method, status), count) in &*requests {
            let labels = format!("{{code=\"{status}\",method=\"{method}\",route=\"{route}\"}}");
            line(text, "requests_total", &labels, &count.to_string());
        }
        let name = "request_duration_seconds";
        family(
            text,
            name,
            "histogram",
            "Time until the end of the answer, by route.",
        );
        let durations = self
            .durations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (route, times) in &*durations {
            for (bound, count) in BOUNDS.iter().zip(times.buckets) {
                let labels = format!("{{route=\"{route}\",le=\"{bound}\"}}");
                line(text, &format!("{name}_bucket"), &labels, &count.to_string());
            }
            let (count, sum) = (times.count.to_string(), times.sum.to_string());
            let infinite = format!("{{route=\"{route}\",le=\"+Inf\"}}");
            line(text, &format!("{name}_bucket"), &infinite, &count);
            let labels = format!("{{route=\"{route}\"}}");
            line(text, &format!("{name}_sum"), &labels, &sum);
            line(text, &format!("{name}_count"), &labels, &count);
        }
    }
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    let _infallible = write!(
        text,
        "# HELP gorae_registry_{name} {help}\n# TYPE gorae_registry_{name} {kind}\n"
    );
}

fn line(text: &mut String, name: &str, labels: &str, value: &str) {
    let _infallible = writeln!(text, "gorae_registry_{name}{labels} {value}");
}

/// A client may name any method; only those of the specification are worth a series.
fn known(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page() {
        let metrics = Metrics::default();
        metrics.answered("blob", &http::Method::GET, 200, Duration::from_millis(3));
        metrics.answered("blob", &http::Method::GET, 404, Duration::from_millis(3));
        metrics.received(7);
        let page = metrics.page(&[("uploads", "Uploads under way.", 3)]);
        for expect in [
            "gorae_registry_received_bytes_total 7",
            "gorae_registry_uploads 3",
            r#"gorae_registry_requests_total{code="404",method="GET",route="blob"} 1"#,
            r#"gorae_registry_request_duration_seconds_bucket{route="blob",le="0.001"} 0"#,
            r#"gorae_registry_request_duration_seconds_bucket{route="blob",le="0.005"} 2"#,
            r#"gorae_registry_request_duration_seconds_count{route="blob"} 2"#,
        ] {
            assert!(page.lines().any(|line| line == expect), "{expect}\n{page}");
        }
    }
}
