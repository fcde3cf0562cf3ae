//! Events: what happened to containers, images, volumes and networks.
//!
//! A history, bounded in number and age, is kept for `--since`, in memory alone as Docker's is; a
//! subscriber that falls behind loses the oldest events and never slows the engine.

use std::collections::VecDeque;
use std::sync::Mutex;

use api::event::Message;
use tokio::sync::broadcast;

use crate::metrics::EventCounts;

/// Events kept for replay, and the most that a slow subscriber can be behind; Docker keeps 256.
const KEPT: usize = 1024;

/// How long events are kept for replay, nanoseconds: a day.
const OLDEST: i64 = 24 * 3600 * 1_000_000_000;

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
        let too_old = message.time_nano.saturating_sub(OLDEST);
        while history.len() >= KEPT || history.front().is_some_and(|m| m.time_nano < too_old) {
            history.pop_front();
        }
        history.push_back(message.clone());
        // sent under the lock, so that a new subscriber sees each event once; nobody may listen
        drop(self.sender.send(message));
    }

    /// How many clients listen.
    pub(crate) fn listeners(&self) -> usize {
        self.sender.receiver_count()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Message {
        Message {
            time: seconds,
            time_nano: seconds * 1_000_000_000,
            ..Message::default()
        }
    }

    #[test]
    fn the_history_is_bounded_in_number_and_age() {
        let events = Events::new();
        for second in 0..2000 {
            events.publish(at(second));
        }
        let past = events.subscribe().past;
        assert_eq!((past.len(), past[0].time), (KEPT, 2000 - 1024));
        events.publish(at(2000 - 1 + 24 * 3600));
        let past = events.subscribe().past;
        let times: Vec<i64> = past.iter().map(|m| m.time).collect();
        assert_eq!(times, [1999, 1999 + 24 * 3600]);
    }

    #[test]
    fn each_event_is_seen_once() {
        let events = Events::new();
        events.publish(at(1));
        let mut subscription = events.subscribe();
        assert_eq!(events.listeners(), 1);
        events.publish(at(2));
        assert_eq!(subscription.past, [at(1)]);
        assert_eq!(subscription.live.try_recv(), Ok(at(2)));
        assert!(subscription.live.try_recv().is_err());
    }
}
