//! Figures for Prometheus: what the engine counts, and the page on which they are shown.
//!
//! Counters are atomics that cost nothing to move; what can be looked up is looked up when somebody
//! asks. Labels have few values, so that the number of series does not grow with what clients do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::container::{Status, lock};
use crate::engine::Engine;

/// Upper bounds of a histogram's buckets, in microseconds: from the quickest answer to a slow pull.
const BUCKETS: [u64; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 60_000_000,
];
/// Kinds of events that are told apart; there are about sixty.
const EVENTS: usize = 256;
/// All states of a container, by Docker's words.
const STATES: [Status; 7] = [
    Status::Created,
    Status::Running,
    Status::Paused,
    Status::Restarting,
    Status::Removing,
    Status::Exited,
    Status::Dead,
];
const HEALTH: [&str; 3] = ["starting", "healthy", "unhealthy"];

/// What a family's samples are.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often which time was taken.
    Histogram,
}

/// A page in Prometheus' text format.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    /// Begins a family; the samples that follow are its.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // writing to a text cannot fail
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self.name = name;
    }

    /// Adds a sample.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.line("", labels, None, format_args!("{value}"));
    }

    /// Adds a sample that is a time.
    pub fn seconds(&mut self, labels: &[(&str, &str)], value: Duration) {
        self.line("", labels, None, format_args!("{}", value.as_secs_f64()));
    }

    /// Adds all samples of a histogram.
    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut sum = 0;
        for (count, bound) in histogram.counts.iter().zip(BUCKETS) {
            sum += count.load(Ordering::Relaxed);
            let bound = Duration::from_micros(bound).as_secs_f64().to_string();
            self.line("_bucket", labels, Some(&bound), format_args!("{sum}"));
        }
        let all = sum + histogram.beyond.load(Ordering::Relaxed);
        self.line("_bucket", labels, Some("+Inf"), format_args!("{all}"));
        let total = Duration::from_micros(histogram.total.load(Ordering::Relaxed));
        let total = total.as_secs_f64();
        self.line("_sum", labels, None, format_args!("{total}"));
        self.line("_count", labels, None, format_args!("{all}"));
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        value: std::fmt::Arguments<'_>,
    ) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        let bound = bound.map(|bound| ("le", bound));
        let mut between = '{';
        for (name, text) in labels.iter().copied().chain(bound) {
            let _ = write!(self.text, "{between}{name}=\"{}\"", escaped(text));
            between = ',';
        }
        if between == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// The page's text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// How often which time was taken.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS.len()],
    beyond: AtomicU64,
    /// Microseconds.
    total: AtomicU64,
}

impl Histogram {
    /// Adds a time.
    pub fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|bound| micros <= *bound);
        let count = bucket.map_or(&self.beyond, |bucket| &self.counts[bucket]);
        count.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(micros, Ordering::Relaxed);
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Events so far, by what they were about and what happened.
#[derive(Debug, Default)]
pub(crate) struct EventCounts(Mutex<BTreeMap<(String, String), u64>>);

impl EventCounts {
    pub(crate) fn note(&self, kind: &str, action: &str) {
        // `exec_start: sh` and `health_status: healthy` hold what would be a series each
        let action = action.split(':').next().unwrap_or_default();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() < EVENTS {
            *counts
                .entry((kind.to_owned(), action.to_owned()))
                .or_default() += 1;
        }
    }
}

/// What the engine counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    opened: SystemTime,
    /// Starts that succeeded, and how long each took.
    pub(crate) starts: Histogram,
    pub(crate) start_failures: Counter,
    /// Starts by a restart policy.
    pub(crate) restarts: Counter,
    pub(crate) out_of_memory: Counter,
    /// Rules and bridges that others had changed.
    pub(crate) repaired_rules: Counter,
    pub(crate) repaired_bridges: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            opened: SystemTime::now(),
            starts: Histogram::default(),
            start_failures: Counter::default(),
            restarts: Counter::default(),
            out_of_memory: Counter::default(),
            repaired_rules: Counter::default(),
            repaired_bridges: Counter::default(),
        }
    }
}

impl Engine {
    /// Writes all figures of the engine.
    pub async fn write_metrics(self: &Arc<Self>, page: &mut Page) {
        self.engine_metrics(page);
        self.container_metrics(page);
        self.store_metrics(page).await;
        self.network_metrics(page);
    }

    fn engine_metrics(&self, page: &mut Page) {
        page.family(
            "gorae_build_info",
            Kind::Gauge,
            "1; the labels tell the engine's version.",
        );
        page.sample(
            &[
                ("api_version", api::VERSION),
                ("version", env!("CARGO_PKG_VERSION")),
            ],
            1,
        );
        page.family(
            "gorae_start_time_seconds",
            Kind::Gauge,
            "When the engine was opened, in seconds since 1970.",
        );
        let opened = self.metrics.opened.duration_since(UNIX_EPOCH);
        page.seconds(&[], opened.unwrap_or_default());
        page.family(
            "gorae_events_total",
            Kind::Counter,
            "Events, by type and action.",
        );
        let counts = self.events.counts.0.lock();
        for ((kind, action), count) in &*counts.unwrap_or_else(PoisonError::into_inner) {
            page.sample(&[("action", action), ("type", kind)], *count);
        }
    }

    fn container_metrics(&self, page: &mut Page) {
        let (mut states, mut health) = ([0; STATES.len()], [0; HEALTH.len()]);
        for container in self.containers.all() {
            let status = container.status();
            if let Some(at) = STATES.iter().position(|state| *state == status) {
                states[at] += 1;
            }
            let health_status = container.health_status();
            if let Some(at) = HEALTH.iter().position(|state| *state == health_status) {
                health[at] += 1;
            }
        }
        page.family("gorae_containers", Kind::Gauge, "Containers, by state.");
        for (state, count) in STATES.iter().zip(states) {
            page.sample(&[("state", state.word())], count);
        }
        page.family(
            "gorae_containers_health",
            Kind::Gauge,
            "Containers with a health check, by what it says.",
        );
        for (state, count) in HEALTH.iter().zip(health) {
            page.sample(&[("health", state)], count);
        }
        let metrics = &self.metrics;
        page.family(
            "gorae_container_start_duration_seconds",
            Kind::Histogram,
            "How long starts of containers took that succeeded.",
        );
        page.histogram(&[], &metrics.starts);
        let counters = [
            (
                "gorae_container_start_failures_total",
                "Starts of containers that failed.",
                &metrics.start_failures,
            ),
            (
                "gorae_container_restarts_total",
                "Starts of containers by their restart policy.",
                &metrics.restarts,
            ),
            (
                "gorae_container_oom_total",
                "Containers that ended for want of memory.",
                &metrics.out_of_memory,
            ),
        ];
        for (name, help, counter) in counters {
            page.family(name, Kind::Counter, help);
            page.sample(&[], counter.get());
        }
    }

    async fn store_metrics(self: &Arc<Self>, page: &mut Page) {
        page.family("gorae_images", Kind::Gauge, "Images.");
        page.sample(&[], self.images.listed().len() as u64);
        let engine = Arc::clone(self);
        let looked = self.blocking(move || {
            let layers = engine.store.layers().list();
            let blobs = engine.store.content().list().unwrap_or_default();
            let sizes = (
                layers.iter().map(|layer| layer.size).sum::<u64>(),
                blobs.iter().map(|(_, size)| size).sum::<u64>(),
            );
            Ok((layers.len(), blobs.len(), sizes))
        });
        let Ok((layers, blobs, (layer_bytes, blob_bytes))) = looked.await else {
            return;
        };
        let gauges = [
            (
                "gorae_image_layers",
                "Layers that are unpacked.",
                layers as u64,
            ),
            (
                "gorae_image_layer_bytes",
                "Bytes of unpacked layers.",
                layer_bytes,
            ),
            (
                "gorae_image_blobs",
                "Blobs as they were pulled.",
                blobs as u64,
            ),
            (
                "gorae_image_blob_bytes",
                "Bytes of these blobs.",
                blob_bytes,
            ),
        ];
        for (name, help, value) in gauges {
            page.family(name, Kind::Gauge, help);
            page.sample(&[], value);
        }
        page.family("gorae_volumes", Kind::Gauge, "Volumes.");
        page.sample(&[], self.volumes.count() as u64);
    }

    fn network_metrics(&self, page: &mut Page) {
        let mut drivers = BTreeMap::<String, u64>::new();
        for net in self.networks.all() {
            *drivers.entry(net.record.driver.to_string()).or_default() += 1;
        }
        page.family("gorae_networks", Kind::Gauge, "Networks, by driver.");
        for (driver, count) in &drivers {
            page.sample(&[("driver", driver)], *count);
        }
        let (mut endpoints, mut ports) = (0, 0);
        for container in self.containers.all() {
            if let Some(connection) = &lock(&container.live).connection {
                endpoints += connection.endpoints.len() as u64;
                ports += connection.ports.len() as u64;
            }
        }
        page.family(
            "gorae_network_endpoints",
            Kind::Gauge,
            "Places of running containers in networks.",
        );
        page.sample(&[], endpoints);
        page.family(
            "gorae_published_ports",
            Kind::Gauge,
            "Published ports of running containers.",
        );
        page.sample(&[], ports);
        page.family(
            "gorae_dns_queries_total",
            Kind::Counter,
            "Questions that containers asked the resolver.",
        );
        page.sample(&[], self.networks.questions());
        page.family(
            "gorae_network_repairs_total",
            Kind::Counter,
            "What others had changed and was put back.",
        );
        let metrics = &self.metrics;
        page.sample(&[("object", "bridge")], metrics.repaired_bridges.get());
        page.sample(&[("object", "rules")], metrics.repaired_rules.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let mut page = Page::default();
        page.family("a_total", Kind::Counter, "An a.");
        page.sample(&[("x", "1"), ("y", "a \"b\"\\\n")], 2);
        page.family("b", Kind::Gauge, "A b.");
        page.seconds(&[], Duration::from_millis(1500));
        let expect = "# HELP a_total An a.\n# TYPE a_total counter\n\
            a_total{x=\"1\",y=\"a \\\"b\\\"\\\\\\n\"} 2\n\
            # HELP b A b.\n# TYPE b gauge\nb 1.5\n";
        assert_eq!(page.into_text(), expect);
    }

    #[test]
    fn histograms() {
        let histogram = Histogram::default();
        for millis in [1, 3, 3, 100_000] {
            histogram.note(Duration::from_millis(millis));
        }
        let mut page = Page::default();
        page.family("h", Kind::Histogram, "An h.");
        page.histogram(&[("l", "v")], &histogram);
        let text = page.into_text();
        for line in [
            "h_bucket{l=\"v\",le=\"0.001\"} 1",
            "h_bucket{l=\"v\",le=\"0.0025\"} 1",
            "h_bucket{l=\"v\",le=\"0.005\"} 3",
            "h_bucket{l=\"v\",le=\"60\"} 3",
            "h_bucket{l=\"v\",le=\"+Inf\"} 4",
            "h_sum{l=\"v\"} 100.007",
            "h_count{l=\"v\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn events_are_few() {
        let counts = EventCounts::default();
        counts.note("container", "exec_start: sh");
        counts.note("container", "exec_start: ls");
        let found = counts.0.lock().unwrap();
        let key = ("container".to_owned(), "exec_start".to_owned());
        assert_eq!(found.get(&key), Some(&2));
        assert_eq!(found.len(), 1);
    }
}
