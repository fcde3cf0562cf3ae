//! Events that webhooks have not taken yet.

use redb::{ReadableTable as _, TableDefinition};

use super::DbError;
use super::tables::{Reader, Tables};

/// Receiver and number to event: what is to be posted, as JSON.
pub(super) const EVENTS: TableDefinition<'static, (&str, u64), &[u8]> =
    TableDefinition::new("events");

/// An event that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) receiver: String,
    pub(crate) number: u64,
    pub(crate) text: String,
}

impl Tables<'_> {
    /// Keeps an event until its receiver has it.
    pub(crate) fn keep_event(&mut self, event: &Kept) -> Result<(), DbError> {
        let key = (event.receiver.as_str(), event.number);
        self.events.insert(key, event.text.as_bytes())?;
        Ok(())
    }

    /// Forgets an event; one that is not there is no error.
    pub(crate) fn forget_event(&mut self, receiver: &str, number: u64) -> Result<(), DbError> {
        self.events.remove((receiver, number))?;
        Ok(())
    }
}

impl Reader<'_> {
    /// All events that wait, those of a receiver in their order.
    pub(crate) fn events(&self) -> Result<Vec<Kept>, DbError> {
        let table = self.open(EVENTS)?;
        let mut found = Vec::new();
        for row in table.iter()? {
            let (key, value) = row?;
            let (receiver, number) = key.value();
            found.push(Kept {
                receiver: receiver.to_owned(),
                number,
                text: String::from_utf8_lossy(value.value()).into_owned(),
            });
        }
        Ok(found)
    }
}
