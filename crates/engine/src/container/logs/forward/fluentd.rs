//! Fluentd's forward protocol: messages in MessagePack, `[tag, time, record]`.

use std::time::Duration;

use logfile::Record;

use super::super::options::{Options, binary_size, boolean, duration, known_remote};
use super::address::{Address, Host, Url, unsupported};
use super::batch::Batch;
use crate::error::{Error, Result};

const PORT: u16 = 24224;

/// What the options say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(super) address: Address,
    pub(super) retry_wait: Option<Duration>,
    pub(super) max_retries: Option<u32>,
    /// How far the forwarder may be behind before it leaves out the oldest.
    pub(crate) buffer_limit: Option<u64>,
    request_ack: bool,
    sub_second: bool,
}

impl Settings {
    pub(super) fn parse(options: &Options) -> Result<Self> {
        known_remote(
            "fluentd",
            options,
            &[
                "fluentd-address",
                "fluentd-async",
                "fluentd-async-reconnect-interval",
                "fluentd-buffer-limit",
                "fluentd-max-retries",
                "fluentd-request-ack",
                "fluentd-retry-wait",
                "fluentd-sub-second-precision",
                "fluentd-write-timeout",
            ],
        )?;
        let option = |name: &str| {
            let text = options.get(&format!("fluentd-{name}"))?;
            Some(text.as_str()).filter(|text| !text.is_empty())
        };
        let flag = |name: &str| option(name).map_or(Ok(false), boolean);
        flag("async")?;
        intervals(option("async-reconnect-interval"), option("write-timeout"))?;
        Ok(Self {
            address: address(option("address").unwrap_or_default())?,
            retry_wait: option("retry-wait").map(duration).transpose()?,
            max_retries: option("max-retries").map(retries).transpose()?,
            buffer_limit: option("buffer-limit").map(binary_size).transpose()?,
            request_ack: flag("request-ack")?,
            sub_second: flag("sub-second-precision")?,
        })
    }
}

/// Checks what has no meaning here: every sending is asynchronous, and none is given up for its time.
fn intervals(reconnect: Option<&str>, write: Option<&str>) -> Result<()> {
    if let Some(text) = reconnect {
        let wrong = "invalid value for fluentd-async-reconnect-interval";
        let value = duration(text).map_err(|error| error.context(wrong))?;
        if !(Duration::from_millis(100)..=Duration::from_secs(10)).contains(&value) {
            return Err(Error::invalid(format!(
                "{wrong}: value ({text:?}) must be between 100ms and 10s"
            )));
        }
    }
    let wrong = "invalid value for fluentd-write-timeout: value must be a duration";
    write.map_or(Ok(()), |text| {
        duration(text)
            .map(drop)
            .map_err(|error| error.context(wrong))
    })
}

fn retries(text: &str) -> Result<u32> {
    let number: u64 = text.parse().map_err(|_| {
        Error::invalid(format!(
            "strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

fn address(text: &str) -> Result<Address> {
    if text.is_empty() {
        return Ok(Address::Tcp(Host {
            name: "127.0.0.1".to_owned(),
            port: PORT,
        }));
    }
    let wrong = |why: &str| Error::invalid(format!("invalid fluentd-address ({text}): {why}"));
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        format!("tcp://{text}")
    };
    let url = Url::cut(&with_scheme);
    match url.scheme {
        "unix" if url.path.is_empty() => Err(wrong("path is empty")),
        "unix" => Ok(Address::Unix(url.path.into())),
        "tcp" if !url.path.is_empty() => Err(wrong("should not contain a path element")),
        "tcp" => {
            let host = Host::parse(url.host, Some(PORT)).ok_or_else(|| {
                let port = url.host.rfind(':').map_or("", |at| &url.host[at..]);
                wrong(&format!(
                    "parse {with_scheme:?}: invalid port {port:?} after host"
                ))
            })?;
            Ok(Address::Tcp(host))
        }
        other => Err(wrong(unsupported(other).message())),
    }
}

/// Writes messages of one container.
#[derive(Debug)]
pub(super) struct Encoder {
    tag: String,
    fields: Vec<(String, String)>,
    request_ack: bool,
    sub_second: bool,
    next_chunk: u64,
}

impl Encoder {
    pub(super) fn new(settings: &Settings, tag: String, fields: Vec<(String, String)>) -> Self {
        Self {
            tag,
            fields,
            request_ack: settings.request_ack,
            sub_second: settings.sub_second,
            next_chunk: logfile::timestamp::unix_now().cast_unsigned(),
        }
    }

    /// Writes a message; the last of a batch is the one that asks for an acknowledgement.
    pub(super) fn encode(&self, batch: &mut Batch, record: &Record<'_>) {
        let into = batch.bytes();
        array(into, 3);
        string(into, self.tag.as_bytes());
        self.record(into, record);
        batch.end_frame();
    }

    /// Asks for an acknowledgement of all that is in the batch.
    pub(super) fn ask(&mut self, batch: &mut Batch) {
        if !self.request_ack || batch.is_empty() {
            return;
        }
        self.next_chunk = self.next_chunk.wrapping_add(1);
        let chunk = format!("{:016x}", self.next_chunk);
        // an array of four in place of three
        batch.amend_last(0x94, |into| {
            into.push(0x81);
            string(into, b"chunk");
            string(into, chunk.as_bytes());
        });
        batch.acknowledgement = Some(chunk.into_bytes());
    }

    fn record(&self, into: &mut Vec<u8>, record: &Record<'_>) {
        let seconds = record.time.div_euclid(1_000_000_000);
        if self.sub_second {
            // EventTime: extension 0 of eight bytes
            let nanoseconds = record.time.rem_euclid(1_000_000_000);
            into.extend_from_slice(&[0xd7, 0x00]);
            for number in [seconds, nanoseconds] {
                into.extend_from_slice(&u32::try_from(number).unwrap_or(0).to_be_bytes());
            }
        } else {
            into.push(0xd3);
            into.extend_from_slice(&seconds.to_be_bytes());
        }
        let partial = record.partial.map(|partial| {
            [
                ("partial_message", "true".to_owned()),
                (
                    "partial_id",
                    String::from_utf8_lossy(partial.id).into_owned(),
                ),
                ("partial_ordinal", partial.ordinal.to_string()),
                ("partial_last", partial.last.to_string()),
            ]
        });
        let more = partial.iter().flatten();
        map(into, self.fields.len() + 2 + more.clone().count());
        for (key, value) in &self.fields {
            string(into, key.as_bytes());
            string(into, value.as_bytes());
        }
        string(into, b"source");
        string(into, record.stream.name().as_bytes());
        string(into, b"log");
        string(into, record.text);
        for (key, value) in more {
            string(into, key.as_bytes());
            string(into, value.as_bytes());
        }
    }
}

fn array(into: &mut Vec<u8>, length: u8) {
    into.push(0x90 | length);
}

fn map(into: &mut Vec<u8>, length: usize) {
    match u16::try_from(length) {
        Ok(length @ 0..16) => into.push(0x80 | length.to_be_bytes()[1]),
        Ok(length) => {
            into.push(0xde);
            into.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            into.push(0xdf);
            into.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

fn string(into: &mut Vec<u8>, text: &[u8]) {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let [_, _, high, low] = length.to_be_bytes();
    match length {
        0..32 => into.push(0xa0 | low),
        32..256 => into.extend_from_slice(&[0xd9, low]),
        256..65536 => into.extend_from_slice(&[0xda, high, low]),
        _ => {
            into.push(0xdb);
            into.extend_from_slice(&length.to_be_bytes());
        }
    }
    into.extend_from_slice(text);
}
