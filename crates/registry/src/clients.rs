//! How many connections and requests clients may have.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many addresses are remembered before those that were quiet are forgotten.
const REMEMBERED: usize = 8192;

/// The connections of clients, and the pace of their requests.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    all: usize,
    of: HashMap<IpAddr, usize>,
    pace: HashMap<IpAddr, Pace>,
}

#[derive(Debug)]
struct Pace {
    left: f64,
    at: Instant,
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    clients: Arc<Clients>,
    address: IpAddr,
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection; none where there are too many, of all or of this client (0 for any number).
    pub(crate) fn place(
        self: &Arc<Self>,
        address: IpAddr,
        all: usize,
        each: usize,
    ) -> Option<Place> {
        let mut state = self.lock();
        let own = state.of.get(&address).copied().unwrap_or(0);
        if state.all >= all || (each > 0 && own >= each) {
            return None;
        }
        state.all += 1;
        *state.of.entry(address).or_default() += 1;
        drop(state);
        Some(Place {
            clients: Arc::clone(self),
            address,
        })
    }

    /// Whether a request comes in time; else, how long to wait. A client may save up a second's worth.
    pub(crate) fn pace(&self, address: IpAddr, per_second: u32) -> Result<(), Duration> {
        if per_second == 0 {
            return Ok(());
        }
        let rate = f64::from(per_second);
        let now = Instant::now();
        let mut state = self.lock();
        if state.pace.len() >= REMEMBERED {
            let quiet = Duration::from_secs(2);
            state
                .pace
                .retain(|_, pace| now.duration_since(pace.at) < quiet);
        }
        let pace = state.pace.entry(address).or_insert(Pace {
            left: rate,
            at: now,
        });
        let gained = now.duration_since(pace.at).as_secs_f64() * rate;
        pace.left = (pace.left + gained).min(rate);
        pace.at = now;
        if pace.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - pace.left) / rate));
        }
        pace.left -= 1.0;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.clients.lock();
        state.all = state.all.saturating_sub(1);
        let last = match state.of.get_mut(&self.address) {
            Some(count) => {
                *count = count.saturating_sub(1);
                *count == 0
            }
            None => false,
        };
        if last {
            state.of.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_pace() {
        let clients = Arc::new(Clients::default());
        let [one, other]: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        let first = clients.place(one, 2, 1).unwrap();
        assert!(clients.place(one, 2, 1).is_none(), "its only one");
        let second = clients.place(other, 2, 1).unwrap();
        assert!(
            clients.place([127, 0, 0, 3].into(), 2, 1).is_none(),
            "all taken"
        );
        drop((first, second));
        assert!(clients.place(one, 2, 1).is_some());
        assert!(clients.lock().of.is_empty());
        for _ in 0..5 {
            clients.pace(one, 5).unwrap();
        }
        let wait = clients.pace(one, 5).unwrap_err();
        assert!(wait <= Duration::from_millis(200), "{wait:?}");
        clients.pace(other, 5).unwrap();
        clients.pace(one, 0).unwrap();
    }
}
