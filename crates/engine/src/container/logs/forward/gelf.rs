//! Graylog's extended log format: JSON over UDP in chunks, or over TCP with a zero byte between.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use logfile::{Record, Stream};

use super::super::options::{Options, known_remote};
use super::super::template::hostname;
use super::address::{Address, Host, Url};
use super::batch::Batch;
use crate::error::{Error, Result};

/// The most that goes into one datagram.
const DATAGRAM: usize = 1420;
/// What begins a chunk: two bytes of magic, eight of a message's id, its number and their count.
const CHUNK_HEADER: usize = 12;
/// The most chunks of a message.
const CHUNKS: usize = 128;

/// What the options say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(super) address: Address,
    compression: Squeeze,
    level: u32,
    pub(super) max_reconnect: Option<u32>,
    pub(super) reconnect_delay: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Squeeze {
    Gzip,
    Zlib,
    None,
}

impl Settings {
    pub(super) fn parse(options: &Options) -> Result<Self> {
        let address = address(options.get("gelf-address"))?;
        known_remote(
            "gelf",
            options,
            &[
                "gelf-address",
                "gelf-compression-level",
                "gelf-compression-type",
                "gelf-tcp-max-reconnect",
                "gelf-tcp-reconnect-delay",
            ],
        )?;
        let tcp = matches!(address, Address::Tcp(_));
        let compression = |key: &str| {
            let value = options.get(key);
            if tcp && value.is_some() {
                return Err(Error::invalid("compression is only supported on UDP"));
            }
            Ok(value.map(String::as_str))
        };
        let level = compression("gelf-compression-level")?;
        let kind = compression("gelf-compression-type")?;
        let reconnect = |key: &str| match options.get(key) {
            None => Ok(None),
            Some(_) if !tcp => Err(Error::invalid(format!("{key:?} is only valid for TCP"))),
            Some(text) => text
                .parse::<u32>()
                .map(Some)
                .map_err(|_| Error::invalid(format!("{key:?} must be a positive integer"))),
        };
        Ok(Self {
            compression: squeeze(kind)?,
            level: self::level(level)?,
            max_reconnect: reconnect("gelf-tcp-max-reconnect")?,
            reconnect_delay: reconnect("gelf-tcp-reconnect-delay")?
                .map(|seconds| Duration::from_secs(seconds.into())),
            address,
        })
    }
}

fn address(text: Option<&String>) -> Result<Address> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Err(Error::invalid("gelf-address is a required parameter"));
    };
    let url = Url::cut(text);
    if !matches!(url.scheme, "tcp" | "udp") {
        return Err(Error::invalid("gelf: endpoint needs to be TCP or UDP"));
    }
    let host = Host::parse(url.host, None)
        .ok_or_else(|| Error::invalid("gelf: please provide gelf-address as proto://host:port"))?;
    Ok(if url.scheme == "tcp" {
        Address::Tcp(host)
    } else {
        Address::Udp(host)
    })
}

fn unknown(value: &str, key: &str) -> Error {
    Error::invalid(format!(
        "unknown value {value:?} for log opt {key:?} for gelf log driver"
    ))
}

fn squeeze(kind: Option<&str>) -> Result<Squeeze> {
    match kind {
        None | Some("gzip") => Ok(Squeeze::Gzip),
        Some("zlib") => Ok(Squeeze::Zlib),
        Some("none") => Ok(Squeeze::None),
        Some(other) => Err(unknown(other, "gelf-compression-type")),
    }
}

fn level(text: Option<&str>) -> Result<u32> {
    let Some(text) = text else {
        return Ok(Compression::fast().level());
    };
    match text.parse::<i32>() {
        Ok(-1) => Ok(Compression::default().level()),
        Ok(level @ 0..=9) => Ok(level.unsigned_abs()),
        _ => Err(unknown(text, "gelf-compression-level")),
    }
}

/// Writes messages of one container.
#[derive(Debug)]
pub(super) struct Encoder {
    settings: Settings,
    host: String,
    /// The members that are the same for all messages, from a comma on.
    extra: Vec<u8>,
    /// The id of the next message that is cut into chunks.
    next_id: u64,
}

impl Encoder {
    pub(super) fn new(settings: &Settings, extra: &BTreeMap<String, String>) -> Self {
        let mut members = Vec::new();
        for (key, value) in extra {
            members.push(b',');
            string(&mut members, key.as_bytes());
            members.push(b':');
            string(&mut members, value.as_bytes());
        }
        Self {
            settings: settings.clone(),
            host: hostname(),
            extra: members,
            // two senders of one host must not draw the same
            next_id: logfile::timestamp::unix_now().cast_unsigned() << 16
                ^ u64::from(std::process::id()),
        }
    }

    pub(super) fn encode(&mut self, batch: &mut Batch, record: &Record<'_>) {
        let json = self.json(record);
        if matches!(self.settings.address, Address::Tcp(_)) {
            batch.bytes().extend_from_slice(&json);
            batch.bytes().push(0);
            batch.end_frame();
            return;
        }
        let packed = self.pack(&json);
        if packed.len() <= DATAGRAM {
            batch.bytes().extend_from_slice(&packed);
            batch.end_frame();
            return;
        }
        self.chunks(batch, &packed);
    }

    fn json(&self, record: &Record<'_>) -> Vec<u8> {
        let level = match record.stream {
            Stream::Stdout => 6,
            Stream::Stderr => 3,
        };
        let milliseconds = record.time.div_euclid(1_000_000);
        let mut json = Vec::with_capacity(record.text.len() + self.extra.len() + 128);
        json.extend_from_slice(b"{\"version\":\"1.1\",\"host\":");
        string(&mut json, self.host.as_bytes());
        json.extend_from_slice(b",\"short_message\":");
        string(&mut json, record.text);
        let rest = format!(
            ",\"timestamp\":{}.{:03},\"level\":{level}",
            milliseconds.div_euclid(1000),
            milliseconds.rem_euclid(1000)
        );
        json.extend_from_slice(rest.as_bytes());
        json.extend_from_slice(&self.extra);
        json.push(b'}');
        json
    }

    fn pack(&self, json: &[u8]) -> Vec<u8> {
        let level = Compression::new(self.settings.level);
        // writing to memory does not fail
        match self.settings.compression {
            Squeeze::None => Ok(json.to_vec()),
            Squeeze::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(json).and_then(|()| encoder.finish())
            }
            Squeeze::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(json).and_then(|()| encoder.finish())
            }
        }
        .unwrap_or_default()
    }

    fn chunks(&mut self, batch: &mut Batch, packed: &[u8]) {
        let chunks = packed.chunks(DATAGRAM - CHUNK_HEADER);
        let count = match u8::try_from(chunks.len()) {
            Ok(count) if usize::from(count) <= CHUNKS => count,
            _ => {
                tracing::warn!(
                    bytes = packed.len(),
                    "a log message is too long for GELF over UDP"
                );
                return;
            }
        };
        self.next_id = self.next_id.wrapping_add(1);
        for (number, chunk) in (0..count).zip(chunks) {
            let bytes = batch.bytes();
            bytes.extend_from_slice(&[0x1e, 0x0f]);
            bytes.extend_from_slice(&self.next_id.to_be_bytes());
            bytes.extend_from_slice(&[number, count]);
            bytes.extend_from_slice(chunk);
            batch.end_frame();
        }
    }
}

fn string(into: &mut Vec<u8>, text: &[u8]) {
    into.push(b'"');
    logfile::escape(into, text);
    into.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn batch(kind: &str, text: &[u8]) -> Batch {
        let settings = Settings::parse(&options(&[
            ("gelf-address", "udp://h:1"),
            ("gelf-compression-type", kind),
        ]));
        let extra = BTreeMap::from([("_a".to_owned(), "b\"".to_owned())]);
        let mut encoder = Encoder::new(&settings.unwrap(), &extra);
        let mut batch = Batch::default();
        let record = Record {
            stream: Stream::Stdout,
            time: 1_767_225_603_004_000_000,
            text,
            line_end: true,
            attrs: b"",
            partial: None,
        };
        encoder.encode(&mut batch, &record);
        batch
    }

    #[test]
    fn a_message_is_json() {
        let batch = batch("none", b"hi");
        let value: serde_json::Value = serde_json::from_slice(batch.frame(0)).unwrap();
        assert_eq!(value["version"], "1.1");
        assert_eq!(value["short_message"], "hi");
        assert_eq!(value["timestamp"], 1_767_225_603.004);
        assert_eq!(value["level"], 6);
        assert_eq!(value["_a"], "b\"");
    }

    #[test]
    fn a_long_message_is_cut_into_chunks() {
        let batch = batch("none", &[b'x'; 5000]);
        assert_eq!(batch.frames(), 4);
        let mut whole = Vec::new();
        for number in 0..4 {
            let frame = batch.frame(number);
            assert!(frame.len() <= DATAGRAM);
            assert_eq!(frame[..2], [0x1e, 0x0f]);
            assert_eq!(frame[2..10], batch.frame(0)[2..10]);
            assert_eq!(frame[10..12], [u8::try_from(number).unwrap(), 4]);
            whole.extend_from_slice(&frame[CHUNK_HEADER..]);
        }
        let value: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(value["short_message"].as_str().unwrap().len(), 5000);
        assert!(
            self::batch("gzip", &[b'x'; 5000])
                .frame(0)
                .starts_with(&[0x1f, 0x8b])
        );
        assert!(
            self::batch("zlib", &[b'x'; 5000])
                .frame(0)
                .starts_with(&[0x78])
        );
    }
}
