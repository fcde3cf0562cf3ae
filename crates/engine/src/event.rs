//! Events: what happened to containers, images, volumes and networks.
//!
//! A bounded history is kept for `--since`; a subscriber that falls behind loses the oldest events
//! and never slows the engine.

use std::collections::VecDeque;
use std::sync::Mutex;

use api::event::Message;
use tokio::sync::broadcast;

use crate::metrics::EventCounts;

/// Events kept for replay, and the most that a slow subscriber can be behind; Docker keeps 256.
const KEPT: usize = 1024;

/// The bus.
#[derive(Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<Message>,
    history: Mutex<VecDeque<Message>>,
    pub(crate) counts: EventCounts,
}

/// What a subscriber gets: what was, and what will be.
#[derive(Debug)]
pub struct Subscription {
    /// Past events, oldest first.
    pub past: Vec<Message>,
    /// Events from now on.
    pub live: broadcast::Receiver<Message>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self {
            sender: broadcast::channel(KEPT).0,
            history: Mutex::default(),
            counts: EventCounts::default(),
        }
    }

    pub(crate) fn publish(&self, message: Message) {
        self.counts.note(&message.kind, &message.action);
        let mut history = self
            .history
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if history.len() == KEPT {
            history.pop_front();
        }
        history.push_back(message.clone());
        // sent under the lock, so that a new subscriber sees each event once; nobody may listen
        drop(self.sender.send(message));
    }

    pub(crate) fn subscribe(&self) -> Subscription {
        let history = self
            .history
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Subscription {
            past: history.iter().cloned().collect(),
            live: self.sender.subscribe(),
        }
    }
}
