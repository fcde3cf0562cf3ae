//! Webhooks: who is told of what was done, in the envelope that CNCF distribution made common.
//!
//! Each receiver has a bounded queue and a task of its own: one that is away delays nobody. What
//! waits is in the database, so that it is sent after the registry's restart, too; a full queue drops
//! its oldest event and counts it. An event may come twice, when the registry ends just then.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci::Digest;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::auth::glob;
use crate::config::Webhook;
use crate::db::Db;
use crate::db::events::Kept;
use crate::http::Call;
use crate::metrics::Metrics;
use crate::name::Name;
use crate::store::Reference;
use crate::{clock, ident};

/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How often one event is tried before it is dropped.
const TRIES: u32 = 12;
/// The media type of the envelope.
const KIND: &str = "application/vnd.docker.distribution.events.v1+json";

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Push,
    Pull,
    Delete,
    Mount,
}

impl Action {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Delete => "delete",
            Self::Mount => "mount",
        }
    }
}

/// With what it was done.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) digest: Digest,
    media_type: String,
    size: u64,
    tag: Option<String>,
    from: Option<Name>,
    kind: &'static str,
}

impl Target {
    pub(crate) fn blob(digest: &Digest, size: u64) -> Self {
        Self {
            digest: digest.clone(),
            media_type: "application/octet-stream".to_owned(),
            size,
            tag: None,
            from: None,
            kind: "blobs",
        }
    }

    pub(crate) fn manifest(
        digest: &Digest,
        media_type: &str,
        size: u64,
        reference: &Reference,
    ) -> Self {
        let tag = match reference {
            Reference::Tag(tag) => Some(tag.as_str().to_owned()),
            Reference::Digest(_) => None,
        };
        Self {
            digest: digest.clone(),
            media_type: media_type.to_owned(),
            size,
            tag,
            from: None,
            kind: "manifests",
        }
    }

    /// The same, mounted from another repository.
    pub(crate) fn from(self, name: &Name) -> Self {
        Self {
            from: Some(name.clone()),
            ..self
        }
    }
}

/// All receivers.
#[derive(Debug)]
pub(crate) struct Hooks {
    receivers: Vec<Arc<Receiver>>,
    /// Events of an earlier run that nobody is to be told any more.
    stale: Vec<(String, u64)>,
}

#[derive(Debug)]
struct Receiver {
    /// By which the database knows it.
    key: String,
    config: Webhook,
    queue: Mutex<VecDeque<Waiting>>,
    /// The number of the next event.
    next: AtomicU64,
    arrived: Notify,
}

/// An event that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiting {
    number: u64,
    text: String,
}

/// What was done, for one of the receivers.
#[derive(Debug)]
pub(crate) struct Event {
    receiver: Arc<Receiver>,
    text: String,
}

impl Hooks {
    /// The receivers, with what they were not told before.
    pub(crate) fn new(config: &[Webhook], kept: Vec<Kept>) -> Self {
        let mut receivers: Vec<Receiver> = Vec::new();
        for config in config {
            let same = receivers.iter().filter(|r| r.config.url == config.url);
            let key = match same.count() {
                0 => config.url.clone(),
                // the same address with other wishes; no address holds a space
                before => format!("{} {before}", config.url),
            };
            receivers.push(Receiver::new(key, config));
        }
        let mut stale = Vec::new();
        for event in kept {
            match receivers.iter().find(|r| r.key == event.receiver) {
                Some(receiver) => stale.extend(receiver.resume(event)),
                None => stale.push((event.receiver, event.number)),
            }
        }
        let receivers = receivers.into_iter().map(Arc::new).collect();
        Self { receivers, stale }
    }

    /// What is to be told of what was done, and to whom.
    pub(crate) fn events(
        &self,
        call: &Call,
        action: Action,
        name: &Name,
        target: &Target,
    ) -> Vec<Event> {
        let wanting = self.receivers.iter().filter(|r| r.wants(action, name));
        let events = wanting.map(|receiver| Event {
            receiver: Arc::clone(receiver),
            text: event(call, action, name, target).to_string(),
        });
        events.collect()
    }

    /// How many events wait.
    pub(crate) fn waiting(&self) -> u64 {
        let lengths = self.receivers.iter().map(|receiver| receiver.lock().len());
        lengths.sum::<usize>() as u64
    }

    /// The work of sending, one task a receiver.
    pub(crate) fn senders(
        &self,
        client: &distribution::Client,
        app: &Arc<crate::app::App>,
    ) -> Vec<impl Future<Output = ()> + Send + 'static> {
        let all = self.receivers.iter().map(|receiver| {
            let (receiver, client) = (Arc::clone(receiver), client.clone());
            let app = Arc::clone(app);
            async move {
                receiver
                    .send_all(&client, &app.store.db, &app.metrics)
                    .await;
            }
        });
        all.collect()
    }

    /// Forgets what an earlier run kept for receivers that are gone or have too much.
    pub(crate) async fn forget_stale(&self, db: &Db, metrics: &Metrics) {
        let dropped = self.stale.len() as u64;
        metrics.events_dropped.fetch_add(dropped, Ordering::Relaxed);
        forget(db, self.stale.clone()).await;
    }
}

/// Keeps events and lets them be sent. On a disk that takes nothing they are sent all the same.
pub(crate) async fn keep(events: Vec<Event>, db: &Db, metrics: &Metrics) {
    let mut numbered = Vec::with_capacity(events.len());
    for Event { receiver, text } in events {
        let number = receiver.next.fetch_add(1, Ordering::Relaxed);
        numbered.push((receiver, Waiting { number, text }));
    }
    let kept: Vec<Kept> = numbered
        .iter()
        .map(|(receiver, event)| Kept {
            receiver: receiver.key.clone(),
            number: event.number,
            text: event.text.clone(),
        })
        .collect();
    let written =
        db.write(move |tables| kept.iter().try_for_each(|event| tables.keep_event(event)));
    if let Err(error) = written.await {
        let error = crate::refusal::chain(&error);
        tracing::error!(error, "events for webhooks are not kept over a restart");
    }
    let mut dropped = Vec::new();
    for (receiver, event) in numbered {
        let oldest = receiver.enqueue(event);
        dropped.extend(oldest.map(|number| (receiver.key.clone(), number)));
    }
    let count = dropped.len() as u64;
    metrics.events_dropped.fetch_add(count, Ordering::Relaxed);
    forget(db, dropped).await;
}

async fn forget(db: &Db, events: Vec<(String, u64)>) {
    if events.is_empty() {
        return;
    }
    let forgotten = db.write(move |tables| {
        let mut events = events.iter();
        events.try_for_each(|(receiver, number)| tables.forget_event(receiver, *number))
    });
    if let Err(error) = forgotten.await {
        let error = crate::refusal::chain(&error);
        tracing::error!(error, "events may be sent to webhooks once more");
    }
}

impl Receiver {
    fn new(key: String, config: &Webhook) -> Self {
        Self {
            key,
            config: config.clone(),
            queue: Mutex::default(),
            next: AtomicU64::new(0),
            arrived: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wants(&self, action: Action, name: &Name) -> bool {
        let Webhook {
            events,
            repositories,
            ..
        } = &self.config;
        let wanted = match events.as_slice() {
            [] => matches!(action, Action::Push | Action::Delete),
            events => events.iter().any(|event| event == action.text()),
        };
        let fits = |pattern: &String| glob::fits(pattern, name.as_str());
        wanted && (repositories.is_empty() || repositories.iter().any(fits))
    }

    /// Takes up an event of an earlier run; tells the one that has to go for it.
    fn resume(&self, event: Kept) -> Option<(String, u64)> {
        let next = event.number.saturating_add(1);
        self.next.fetch_max(next, Ordering::Relaxed);
        let oldest = self.enqueue(Waiting {
            number: event.number,
            text: event.text,
        });
        oldest.map(|number| (self.key.clone(), number))
    }

    /// Puts an event behind those that wait; tells the one that has to go for it.
    fn enqueue(&self, event: Waiting) -> Option<u64> {
        let mut queue = self.lock();
        let full = queue.len() >= self.config.queue.max(1);
        let oldest = if full { queue.pop_front() } else { None };
        queue.push_back(event);
        drop(queue);
        self.arrived.notify_one();
        oldest.map(|event| event.number)
    }

    async fn send_all(&self, client: &distribution::Client, db: &Db, metrics: &Metrics) {
        loop {
            let next = self.lock().pop_front();
            match next {
                None => self.arrived.notified().await,
                Some(event) => {
                    self.send(client, &event.text, metrics).await;
                    forget(db, vec![(self.key.clone(), event.number)]).await;
                }
            }
        }
    }

    async fn send(&self, client: &distribution::Client, event: &str, metrics: &Metrics) {
        let body = format!("{{\"events\":[{event}]}}");
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=TRIES {
            let Webhook {
                url,
                headers,
                timeout,
                ..
            } = &self.config;
            let mut all: Vec<(&str, &str)> = vec![("content-type", KIND)];
            all.extend(headers.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            let posting = client.post(url, &all, body.clone().into());
            let posted = tokio::time::timeout(timeout.0, posting).await;
            let why = match posted {
                Ok(Ok(status)) if (200..300).contains(&status) => {
                    metrics.events_sent.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Ok(Ok(status)) => format!("it answers {status}"),
                Ok(Err(error)) => distribution::chain(&error),
                Err(_) => "it does not answer in time".to_owned(),
            };
            metrics.events_failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(url, attempt, why, "a webhook did not take an event");
            if attempt < TRIES {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        metrics.events_dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn event(call: &Call, action: Action, name: &Name, target: &Target) -> Value {
    let host = call.header(http::header::HOST).unwrap_or_default();
    let scheme = match call.app.tls {
        Some(_) => "https",
        None => "http",
    };
    let path = format!("/v2/{name}/{}/{}", target.kind, target.digest);
    let mut about = json!({
        "mediaType": target.media_type,
        "size": target.size,
        "length": target.size,
        "digest": target.digest.to_string(),
        "repository": name.as_str(),
        "url": format!("{scheme}://{host}{path}"),
    });
    if let Some(tag) = &target.tag {
        about["tag"] = tag.as_str().into();
    }
    if let Some(from) = &target.from {
        about["fromRepository"] = from.as_str().into();
    }
    json!({
        "id": ident::uuid().unwrap_or_default(),
        "timestamp": clock::stamp(),
        "action": action.text(),
        "target": about,
        "request": {
            "id": call.id,
            "addr": call.peer.to_string(),
            "host": host,
            "method": call.method.as_str(),
            "useragent": call.header(http::header::USER_AGENT).unwrap_or_default(),
        },
        "actor": {"name": call.who.name()},
        "source": {"addr": host},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(text: &str) -> Webhook {
        serde_json::from_str(text).unwrap()
    }

    fn kept(receiver: &str, number: u64) -> Kept {
        Kept {
            receiver: receiver.to_owned(),
            number,
            text: number.to_string(),
        }
    }

    fn numbers(receiver: &Receiver) -> Vec<u64> {
        receiver.lock().iter().map(|event| event.number).collect()
    }

    #[test]
    fn who_wants_what() {
        let config = hook(r#"{"url": "http://x/", "repositories": ["a/*"]}"#);
        let hooks = Hooks::new(&[config], Vec::new());
        let receiver = &hooks.receivers[0];
        let name = |text| Name::parse(text).unwrap();
        assert!(receiver.wants(Action::Push, &name("a/b")));
        assert!(!receiver.wants(Action::Pull, &name("a/b")));
        assert!(!receiver.wants(Action::Push, &name("b/b")));
    }

    #[test]
    fn what_an_earlier_run_kept() {
        let config = [
            hook(r#"{"url": "http://x/", "queue": 2}"#),
            hook(r#"{"url": "http://x/", "events": ["pull"]}"#),
        ];
        let events = vec![
            kept("http://gone/", 3),
            kept("http://x/", 4),
            kept("http://x/", 5),
            kept("http://x/", 9),
            kept("http://x/ 1", 1),
        ];
        let hooks = Hooks::new(&config, events);
        assert_eq!(numbers(&hooks.receivers[0]), [5, 9]);
        assert_eq!(numbers(&hooks.receivers[1]), [1]);
        let stale = [("http://gone/".to_owned(), 3), ("http://x/".to_owned(), 4)];
        assert_eq!(hooks.stale, stale);
        assert_eq!(hooks.waiting(), 3);
        assert_eq!(hooks.receivers[0].next.load(Ordering::Relaxed), 10);
    }

    #[tokio::test]
    async fn events_are_kept_until_they_are_taken_or_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let db = Db::open(&path).unwrap();
        let config = [hook(r#"{"url": "http://x/", "queue": 2}"#)];
        let hooks = Hooks::new(&config, Vec::new());
        let metrics = Metrics::default();
        for number in 0..3 {
            let event = Event {
                receiver: Arc::clone(&hooks.receivers[0]),
                text: number.to_string(),
            };
            keep(vec![event], &db, &metrics).await;
        }
        assert_eq!(metrics.events_dropped.load(Ordering::Relaxed), 1);
        assert_eq!(numbers(&hooks.receivers[0]), [1, 2]);
        drop(db);
        let db = Db::open(&path).unwrap();
        let events = db.read(|reader| reader.events()).unwrap();
        assert_eq!(events, [kept("http://x/", 1), kept("http://x/", 2)]);
        // the receiver is gone from the configuration
        let hooks = Hooks::new(&[], events);
        hooks.forget_stale(&db, &metrics).await;
        assert_eq!(db.read(|reader| reader.events()).unwrap(), []);
    }
}
