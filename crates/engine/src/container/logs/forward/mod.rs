//! Sending logs on: to syslog, the journal, fluentd and Graylog.
//!
//! The container's own log file is the queue. A task for each container follows it, sends what is
//! new, and notes how far the receiver has it; so neither a receiver that is away nor an engine that
//! ends costs a record, as long as rotation has not taken the file.

mod address;
mod batch;
mod connection;
mod fluentd;
mod gelf;
mod journald;
mod place;
mod syslog;
mod task;

pub(crate) use task::Forwarders;

use std::path::PathBuf;
use std::time::Duration;

use logfile::Record as Entry;

use super::super::Record;
use super::attributes;
use super::options::Options;
use super::template::Template;
use crate::error::{Error, Result};
use address::Address;
use batch::Batch;

/// The daemon's name before a syslog tag, which Docker's users filter by.
const DAEMON: &str = "docker";

/// A driver that sends on, with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// syslog(3), here or elsewhere.
    Syslog(syslog::Settings),
    /// Graylog.
    Gelf(gelf::Settings),
    /// Fluentd and Fluent Bit.
    Fluentd(fluentd::Settings),
    /// systemd-journald of this host.
    Journald,
}

/// When an attempt that failed is made again.
#[derive(Clone, Copy, Debug)]
struct Patience {
    first: Duration,
    longest: Duration,
    /// After so many the message is given up; never without.
    most: Option<u32>,
}

/// Reads the options of a driver that sends on.
pub(super) fn target(driver: &str, options: &Options) -> Result<Target> {
    match driver {
        "syslog" => syslog::Settings::parse(options).map(Target::Syslog),
        "gelf" => gelf::Settings::parse(options).map(Target::Gelf),
        "fluentd" => fluentd::Settings::parse(options).map(Target::Fluentd),
        _ => journald::check(options).map(|()| Target::Journald),
    }
}

impl Target {
    /// How far the forwarder may be behind by the driver's own option.
    pub(super) fn buffer_limit(&self) -> Option<u64> {
        match self {
            Self::Fluentd(settings) => settings.buffer_limit,
            Self::Syslog(_) | Self::Gelf(_) | Self::Journald => None,
        }
    }

    /// Refuses a start where this host lacks what the driver needs. A receiver elsewhere may be away
    /// for a while: the log waits for it.
    pub(super) fn check_here(&self, journal: &std::path::Path) -> Result<()> {
        let refuse = |why: &str| {
            Err(Error::internal(format!(
                "failed to create task for container: failed to initialize logging driver: {why}"
            )))
        };
        match self {
            Self::Journald if !journal.exists() => refuse("journald is not enabled on this host"),
            Self::Syslog(settings)
                if settings.address == Address::LocalSyslog && !connection::has_local_syslog() =>
            {
                refuse("Unix syslog delivery error")
            }
            _ => Ok(()),
        }
    }

    fn address(&self, journal: PathBuf) -> Address {
        match self {
            Self::Syslog(settings) => settings.address.clone(),
            Self::Gelf(settings) => settings.address.clone(),
            Self::Fluentd(settings) => settings.address.clone(),
            Self::Journald => Address::Unixgram(journal),
        }
    }

    fn patience(&self) -> Patience {
        let (first, most) = match self {
            Self::Fluentd(settings) => (settings.retry_wait, settings.max_retries),
            Self::Gelf(settings) => (settings.reconnect_delay, settings.max_reconnect),
            Self::Syslog(_) | Self::Journald => (None, None),
        };
        let first = first.unwrap_or(Duration::from_millis(100));
        Patience {
            first,
            longest: Duration::from_secs(10).max(first),
            most,
        }
    }

    fn encoder(&self, record: &Record, options: &Options) -> Encoder {
        let tag = attributes::tag(record, options).unwrap_or_else(|| Template::id().render(record));
        let extra = attributes::chosen(record, options);
        let name = record.name.clone();
        match self {
            Self::Syslog(settings) => {
                Encoder::Syslog(syslog::Encoder::new(settings, &format!("{DAEMON}/{tag}")))
            }
            Self::Gelf(settings) => {
                let mut fields: Vec<(String, String)> = [
                    ("_container_id", record.id.to_string()),
                    ("_container_name", name),
                    ("_image_id", record.image.to_string()),
                    ("_image_name", record.config.image.clone()),
                    ("_command", record.args().join(" ")),
                    ("_tag", tag),
                    ("_created", record.created.to_string()),
                ]
                .map(|(key, value)| (key.to_owned(), value))
                .into();
                let own = |key: String| {
                    if key.starts_with('_') {
                        key
                    } else {
                        format!("_{key}")
                    }
                };
                fields.extend(extra.into_iter().map(|(key, value)| (own(key), value)));
                Encoder::Gelf(gelf::Encoder::new(settings, &fields.into_iter().collect()))
            }
            Self::Fluentd(settings) => {
                let mut fields = vec![
                    ("container_id".to_owned(), record.id.to_string()),
                    ("container_name".to_owned(), format!("/{name}")),
                ];
                fields.extend(extra);
                Encoder::Fluentd(fluentd::Encoder::new(settings, tag, fields))
            }
            Self::Journald => {
                let mut fields: Vec<(String, String)> = [
                    ("CONTAINER_ID", record.id.short().to_owned()),
                    ("CONTAINER_ID_FULL", record.id.to_string()),
                    ("CONTAINER_NAME", name),
                    ("CONTAINER_TAG", tag.clone()),
                    ("IMAGE_NAME", record.config.image.clone()),
                    ("SYSLOG_IDENTIFIER", tag),
                ]
                .map(|(key, value)| (key.to_owned(), value))
                .into();
                let more = extra.into_iter();
                fields.extend(more.map(|(key, value)| (journald::key(&key), value)));
                fields.retain(|(key, _)| !key.is_empty());
                Encoder::Journald(journald::Encoder::new(&fields))
            }
        }
    }
}

/// Writes messages of one container in its driver's format.
#[derive(Debug)]
enum Encoder {
    Syslog(syslog::Encoder),
    Gelf(gelf::Encoder),
    Fluentd(fluentd::Encoder),
    Journald(journald::Encoder),
}

impl Encoder {
    fn encode(&mut self, batch: &mut Batch, entry: &Entry<'_>) {
        match self {
            Self::Syslog(encoder) => {
                encoder.encode(batch.bytes(), entry);
                batch.end_frame();
            }
            Self::Gelf(encoder) => encoder.encode(batch, entry),
            Self::Fluentd(encoder) => encoder.encode(batch, entry),
            Self::Journald(encoder) => encoder.encode(batch, entry),
        }
    }

    /// Ends a batch.
    fn finish(&mut self, batch: &mut Batch) {
        if let Self::Fluentd(encoder) = self {
            encoder.ask(batch);
        }
    }
}
