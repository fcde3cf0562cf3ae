//! Webhooks: who is told of what was done, in the envelope that CNCF distribution made common.
//!
//! Each receiver has a bounded queue and a task of its own: one that is away delays nobody. What
//! waits is in memory and ends with the registry; a full queue drops its oldest event and counts it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci::Digest;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::auth::glob;
use crate::config::Webhook;
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
}

#[derive(Debug)]
struct Receiver {
    config: Webhook,
    queue: Mutex<VecDeque<Value>>,
    arrived: Notify,
}

impl Hooks {
    pub(crate) fn new(config: &[Webhook]) -> Self {
        let receiver = |config: &Webhook| {
            Arc::new(Receiver {
                config: config.clone(),
                queue: Mutex::default(),
                arrived: Notify::new(),
            })
        };
        Self {
            receivers: config.iter().map(receiver).collect(),
        }
    }

    /// Tells those who want to know.
    pub(crate) fn tell(&self, call: &Call, action: Action, name: &Name, target: &Target) {
        for receiver in &self.receivers {
            if receiver.wants(action, name) {
                let event = event(call, action, name, target);
                receiver.enqueue(event, &call.app.metrics);
            }
        }
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
            async move { receiver.send_all(&client, &app.metrics).await }
        });
        all.collect()
    }
}

impl Receiver {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Value>> {
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

    fn enqueue(&self, event: Value, metrics: &Metrics) {
        let mut queue = self.lock();
        if queue.len() >= self.config.queue.max(1) {
            queue.pop_front();
            metrics.events_dropped.fetch_add(1, Ordering::Relaxed);
        }
        queue.push_back(event);
        drop(queue);
        self.arrived.notify_one();
    }

    async fn send_all(&self, client: &distribution::Client, metrics: &Metrics) {
        loop {
            let next = self.lock().pop_front();
            match next {
                None => self.arrived.notified().await,
                Some(event) => self.send(client, &event, metrics).await,
            }
        }
    }

    async fn send(&self, client: &distribution::Client, event: &Value, metrics: &Metrics) {
        let body = json!({"events": [event]}).to_string();
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

    #[test]
    fn who_wants_what_and_how_much() {
        let config: Webhook =
            serde_json::from_str(r#"{"url": "http://x/", "repositories": ["a/*"], "queue": 2}"#)
                .unwrap();
        let hooks = Hooks::new(&[config]);
        let receiver = &hooks.receivers[0];
        let name = |text| Name::parse(text).unwrap();
        assert!(receiver.wants(Action::Push, &name("a/b")));
        assert!(!receiver.wants(Action::Pull, &name("a/b")));
        assert!(!receiver.wants(Action::Push, &name("b/b")));
        let metrics = Metrics::default();
        for number in 0..3 {
            receiver.enqueue(json!(number), &metrics);
        }
        assert_eq!(hooks.waiting(), 2);
        assert_eq!(metrics.events_dropped.load(Ordering::Relaxed), 1);
        assert_eq!(receiver.lock().front(), Some(&json!(1)));
    }
}
