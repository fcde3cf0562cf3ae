//! Syslog: RFC 3164 and RFC 5424 messages, as Docker writes them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use logfile::{Record, Stream};

use super::super::options::{Options, known_remote};
use super::super::template::hostname;
use super::address::{Address, Host, Url, existing, unsupported};
use crate::error::{Error, Result};

const PORT: u16 = 514;
const DAEMON: u8 = 3;
const ERROR: u8 = 3;
const INFORMATION: u8 = 6;

const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", DAEMON),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// What the options say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(super) address: Address,
    facility: u8,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Without the host, for the host's own syslog.
    Unix,
    Rfc3164,
    Rfc5424,
    /// With microseconds.
    Rfc5424Micro,
}

impl Settings {
    pub(super) fn parse(options: &Options) -> Result<Self> {
        known_remote(
            "syslog",
            options,
            &[
                "syslog-address",
                "syslog-facility",
                "syslog-format",
                "syslog-tls-ca-cert",
                "syslog-tls-cert",
                "syslog-tls-key",
                "syslog-tls-skip-verify",
            ],
        )?;
        let option = |name: &str| options.get(name).map_or("", String::as_str);
        Ok(Self {
            address: address(option("syslog-address"))?,
            facility: facility(option("syslog-facility"))?,
            format: match option("syslog-format") {
                "" => Format::Unix,
                "rfc3164" => Format::Rfc3164,
                "rfc5424" => Format::Rfc5424,
                "rfc5424micro" => Format::Rfc5424Micro,
                _ => return Err(Error::invalid("Invalid syslog format")),
            },
        })
    }
}

fn address(text: &str) -> Result<Address> {
    if text.is_empty() {
        return Ok(Address::LocalSyslog);
    }
    let url = Url::cut(text);
    let host = || {
        Host::parse(url.host, Some(PORT))
            .ok_or_else(|| Error::invalid(format!("invalid syslog-address {text}: invalid port")))
    };
    match url.scheme {
        "unix" => existing(url.path).map(Address::Unix),
        "unixgram" => existing(url.path).map(Address::Unixgram),
        "tcp" => host().map(Address::Tcp),
        "udp" => host().map(Address::Udp),
        other => Err(unsupported(other)),
    }
}

fn facility(text: &str) -> Result<u8> {
    if text.is_empty() {
        return Ok(DAEMON);
    }
    let named = FACILITIES.iter().find(|(name, _)| *name == text);
    let number = || text.parse().ok().filter(|number| *number <= 23);
    named
        .map(|(_, number)| *number)
        .or_else(number)
        .ok_or_else(|| Error::invalid("invalid syslog facility"))
}

/// Writes messages of one container.
#[derive(Debug)]
pub(super) struct Encoder {
    facility: u8,
    format: Format,
    host: String,
    /// The tag with the daemon before it, as Docker has it.
    tag: String,
    zone: TimeZone,
}

impl Encoder {
    pub(super) fn new(settings: &Settings, tag: &str) -> Self {
        Self {
            facility: settings.facility,
            format: settings.format,
            host: hostname(),
            tag: tag.to_owned(),
            zone: local_zone(),
        }
    }

    pub(super) fn encode(&self, into: &mut Vec<u8>, record: &Record<'_>) {
        let severity = match record.stream {
            Stream::Stdout => INFORMATION,
            Stream::Stderr => ERROR,
        };
        let priority = self.facility << 3 | severity;
        let (host, tag, pid) = (&self.host, &self.tag, std::process::id());
        let head = match self.format {
            Format::Unix => {
                format!(
                    "<{priority}>{} {tag}[{pid}]: ",
                    self.time(record, "%b %e %T")
                )
            }
            Format::Rfc3164 => {
                let time = self.time(record, "%b %e %T");
                format!("<{priority}>{time} {host} {tag}[{pid}]: ")
            }
            Format::Rfc5424 => {
                let time = self.time(record, "%FT%T%:z");
                format!("<{priority}>1 {time} {host} {tag} {pid} {tag} - ")
            }
            Format::Rfc5424Micro => {
                let time = self.time(record, "%FT%T.%6f%:z");
                format!("<{priority}>1 {time} {host} {tag} {pid} {tag} - ")
            }
        };
        into.extend_from_slice(head.as_bytes());
        into.extend_from_slice(record.text);
        into.push(b'\n');
    }

    fn time(&self, record: &Record<'_>, format: &str) -> String {
        let time = Timestamp::from_nanosecond(record.time.into()).unwrap_or_default();
        let text = time
            .to_zoned(self.zone.clone())
            .strftime(format)
            .to_string();
        match text.strip_suffix("+00:00") {
            Some(bare) => format!("{bare}Z"),
            None => text,
        }
    }
}

/// The host's time zone; messages of RFC 3164 are in local time and do not say which.
fn local_zone() -> TimeZone {
    let file = std::fs::read("/etc/localtime").unwrap_or_default();
    TimeZone::tzif("local", &file).unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(format: Format) -> String {
        let encoder = Encoder {
            facility: 16,
            format,
            host: "host".to_owned(),
            tag: "tag".to_owned(),
            zone: TimeZone::UTC,
        };
        let record = Record {
            stream: Stream::Stderr,
            time: 1_767_225_603_000_004_000,
            text: b"hello",
            line_end: true,
            attrs: b"",
            partial: None,
        };
        let mut bytes = Vec::new();
        encoder.encode(&mut bytes, &record);
        let pid = std::process::id().to_string();
        String::from_utf8(bytes).unwrap().replace(&pid, "PID")
    }

    #[test]
    fn messages_are_as_dockers() {
        assert_eq!(
            encoded(Format::Unix),
            "<131>Jan  1 00:00:03 tag[PID]: hello\n"
        );
        assert_eq!(
            encoded(Format::Rfc3164),
            "<131>Jan  1 00:00:03 host tag[PID]: hello\n"
        );
        assert_eq!(
            encoded(Format::Rfc5424),
            "<131>1 2026-01-01T00:00:03Z host tag PID tag - hello\n"
        );
        assert_eq!(
            encoded(Format::Rfc5424Micro),
            "<131>1 2026-01-01T00:00:03.000004Z host tag PID tag - hello\n"
        );
    }
}
