//! The parameters of requests.
//!
//! Booleans and numbers follow dockerd: `0`, `no`, `false`, `none` and the empty text are false
//! and anything else is true; a number that is none is refused in Go's words.

use std::collections::BTreeMap;

use crate::error::InvalidParameter;
use crate::filters::Filters;

/// A request's decoded query, first value first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    values: BTreeMap<String, Vec<String>>,
}

impl Query {
    /// Reads the part of a request target behind the question mark.
    pub fn parse(text: &str) -> Result<Self, InvalidParameter> {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            values.entry(decode(key)?).or_default().push(decode(value)?);
        }
        Ok(Self { values })
    }

    /// Gives the first value of a key, or the empty text.
    #[must_use]
    pub fn get(&self, key: &str) -> &str {
        self.opt(key).unwrap_or_default()
    }

    /// Gives the first value of a key, if the key is there.
    #[must_use]
    pub fn opt(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.first().map(String::as_str)
    }

    /// Gives all values of a key.
    #[must_use]
    pub fn all(&self, key: &str) -> &[String] {
        self.values.get(key).map_or(&[], Vec::as_slice)
    }

    /// Reads a boolean; false where it is absent.
    #[must_use]
    pub fn bool(&self, key: &str) -> bool {
        self.bool_or(key, false)
    }

    /// Reads a boolean.
    #[must_use]
    pub fn bool_or(&self, key: &str, default: bool) -> bool {
        self.opt(key).map_or(default, is_true)
    }

    /// Reads a whole number, if it is there and not empty.
    pub fn int(&self, key: &str) -> Result<Option<i64>, InvalidParameter> {
        match self.get(key) {
            "" => Ok(None),
            text => parse_int(text, "Atoi").map(Some),
        }
    }

    /// Reads the `filters`.
    pub fn filters(&self) -> Result<Filters, InvalidParameter> {
        Filters::parse(self.get("filters"))
    }

    fn owned(&self, key: &str) -> String {
        self.get(key).to_owned()
    }
}

fn is_true(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    !matches!(text.as_str(), "" | "0" | "no" | "false" | "none")
}

fn parse_int(text: &str, function: &str) -> Result<i64, InvalidParameter> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        InvalidParameter(format!("strconv.{function}: parsing {text:?}: {why}"))
    })
}

fn decode(text: &str) -> Result<String, InvalidParameter> {
    let given = text.as_bytes();
    let mut bytes = Vec::with_capacity(given.len());
    let mut at = 0;
    while let Some(&byte) = given.get(at) {
        at += 1;
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |place: usize| hex_digit(given.get(place).copied());
                let (Some(high), Some(low)) = (digit(at), digit(at + 1)) else {
                    let escape = &given[at - 1..given.len().min(at + 2)];
                    let escape = String::from_utf8_lossy(escape);
                    return Err(InvalidParameter(format!("invalid URL escape {escape:?}")));
                };
                at += 2;
                high << 4 | low
            }
            other => other,
        });
    }
    String::from_utf8(bytes)
        .map_err(|_| InvalidParameter(format!("the query {text:?} is not UTF-8")))
}

fn hex_digit(byte: Option<u8>) -> Option<u8> {
    let digit = char::from(byte?).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// A point in time of `since` and `until`: Unix seconds and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanoseconds: i32,
}

impl Timestamp {
    /// Reads `seconds[.fraction]`; empty and `0` are none.
    pub fn parse(text: &str) -> Result<Option<Self>, InvalidParameter> {
        if text.is_empty() || text == "0" {
            return Ok(None);
        }
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds = parse_int(whole, "ParseInt")?;
        let nanoseconds = match fraction {
            "" => 0,
            digits => fraction_nanoseconds(digits)?,
        };
        Ok(Some(Self {
            seconds,
            nanoseconds,
        }))
    }

    /// Gives nanoseconds since 1970, at the range's ends where it does not fit.
    #[must_use]
    pub fn unix_nanoseconds(self) -> i64 {
        self.seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::from(self.nanoseconds))
    }
}

fn fraction_nanoseconds(digits: &str) -> Result<i32, InvalidParameter> {
    parse_int(digits, "ParseInt")?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let why = format!("strconv.ParseInt: parsing {digits:?}: invalid syntax");
        return Err(InvalidParameter(why));
    }
    let nine: String = digits.chars().chain("000000000".chars()).take(9).collect();
    Ok(nine.parse().unwrap_or_default())
}

/// Parameters of `GET /containers/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerList {
    /// Whether stopped ones are shown too.
    pub all: bool,
    /// At most so many of the newest; 0 or less for all.
    pub limit: i64,
    /// Whether sizes are computed.
    pub size: bool,
    /// Filters.
    pub filters: Filters,
}

impl ContainerList {
    /// Reads the parameters.
    pub fn from_query(query: &Query) -> Result<Self, InvalidParameter> {
        Ok(Self {
            all: query.bool("all"),
            limit: query.int("limit")?.unwrap_or_default(),
            size: query.bool("size"),
            filters: query.filters()?,
        })
    }
}

/// Parameters of `POST /containers/create`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerCreate {
    /// Name; empty for a random one.
    pub name: String,
    /// Platform, `os[/arch[/variant]]`.
    pub platform: String,
}

impl ContainerCreate {
    /// Reads the parameters.
    #[must_use]
    pub fn from_query(query: &Query) -> Self {
        Self {
            name: query.owned("name"),
            platform: query.owned("platform"),
        }
    }
}

/// Parameters of `GET /containers/{id}/logs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// Whether the stream stays open.
    pub follow: bool,
    /// Whether stdout is wanted.
    pub stdout: bool,
    /// Whether stderr is wanted.
    pub stderr: bool,
    /// Whether each line starts with its time.
    pub timestamps: bool,
    /// Whether each line starts with its details.
    pub details: bool,
    /// First point in time.
    pub since: Option<Timestamp>,
    /// Last point in time.
    pub until: Option<Timestamp>,
    /// Only so many last lines; `None` for all.
    pub tail: Option<u64>,
}

impl Logs {
    /// Reads the parameters.
    pub fn from_query(query: &Query) -> Result<Self, InvalidParameter> {
        let logs = Self {
            follow: query.bool("follow"),
            stdout: query.bool("stdout"),
            stderr: query.bool("stderr"),
            timestamps: query.bool("timestamps"),
            details: query.bool("details"),
            since: Timestamp::parse(query.get("since"))?,
            until: Timestamp::parse(query.get("until"))?,
            // like dockerd: anything but a number means all
            tail: query.get("tail").parse().ok(),
        };
        if !(logs.stdout || logs.stderr) {
            let why = "Bad parameters: you must choose at least one stream";
            return Err(InvalidParameter(why.into()));
        }
        Ok(logs)
    }
}

/// Parameters of `POST /containers/{id}/attach`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attach {
    /// Whether what was logged comes first.
    pub logs: bool,
    /// Whether the live streams are wanted.
    pub stream: bool,
    /// Whether stdin is attached.
    pub stdin: bool,
    /// Whether stdout is attached.
    pub stdout: bool,
    /// Whether stderr is attached.
    pub stderr: bool,
    /// Keys that detach.
    pub detach_keys: String,
}

impl Attach {
    /// Reads the parameters.
    #[must_use]
    pub fn from_query(query: &Query) -> Self {
        Self {
            logs: query.bool("logs"),
            stream: query.bool("stream"),
            stdin: query.bool("stdin"),
            stdout: query.bool("stdout"),
            stderr: query.bool("stderr"),
            detach_keys: query.owned("detachKeys"),
        }
    }
}

/// Parameters of `POST /containers/{id}/stop` and `restart`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// Signal; empty for the container's.
    pub signal: String,
    /// Seconds until SIGKILL; negative for never, `None` for the container's.
    pub timeout: Option<i64>,
}

impl Stop {
    /// Reads the parameters.
    pub fn from_query(query: &Query) -> Result<Self, InvalidParameter> {
        Ok(Self {
            signal: query.owned("signal"),
            timeout: query.int("t")?,
        })
    }
}

/// Parameters of `DELETE /containers/{id}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerRemove {
    /// Whether a running one is killed.
    pub force: bool,
    /// Whether anonymous volumes go too.
    pub volumes: bool,
    /// Whether only a legacy link goes.
    pub link: bool,
}

impl ContainerRemove {
    /// Reads the parameters.
    #[must_use]
    pub fn from_query(query: &Query) -> Self {
        Self {
            force: query.bool("force"),
            volumes: query.bool("v"),
            link: query.bool("link"),
        }
    }
}

/// What `POST /containers/{id}/wait` waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// Not running now, or the end of the current run.
    #[default]
    NotRunning,
    /// The next end.
    NextExit,
    /// The removal.
    Removed,
}

impl WaitCondition {
    /// Reads the parameter `condition`.
    pub fn from_query(query: &Query) -> Result<Self, InvalidParameter> {
        match query.get("condition") {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            other => Err(InvalidParameter(format!("invalid condition: {other:?}"))),
        }
    }
}

/// Parameters of the resize endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

impl Resize {
    /// Reads the parameters.
    pub fn from_query(query: &Query) -> Result<Self, InvalidParameter> {
        Ok(Self {
            height: dimension("height", query.get("h"))?,
            width: dimension("width", query.get("w"))?,
        })
    }
}

/// A terminal's rows or columns; more than a terminal can have is the most that it can.
fn dimension(what: &str, text: &str) -> Result<u16, InvalidParameter> {
    let refuse = |why: &str| {
        Err(InvalidParameter(format!(
            "invalid resize {what} {text:?}: {why}"
        )))
    };
    match text.parse::<i128>() {
        Ok(number) if u32::try_from(number).is_ok() => {
            Ok(u16::try_from(number).unwrap_or(u16::MAX))
        }
        Ok(_) => refuse("value out of range"),
        Err(_) => refuse("invalid syntax"),
    }
}

/// Parameters of `GET /containers/{id}/stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsQuery {
    /// Whether samples go on.
    pub stream: bool,
    /// Whether the single sample comes without the one before.
    pub one_shot: bool,
}

impl StatsQuery {
    /// Reads the parameters.
    #[must_use]
    pub fn from_query(query: &Query) -> Self {
        Self {
            stream: query.bool_or("stream", true),
            one_shot: query.bool("one-shot"),
        }
    }
}

/// Parameters of `GET /images/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageList {
    /// Whether intermediate images are shown too.
    pub all: bool,
    /// Whether shared sizes are computed.
    pub shared_size: bool,
    /// Whether manifests are listed.
    pub manifests: bool,
    /// Filters.
    pub filters: Filters,
}

impl ImageList {
    /// Reads the parameters.
    pub fn from_query(query: &Query) -> Result<Self, InvalidParameter> {
        let mut filters = query.filters()?;
        // the way of clients below 1.25
        let legacy = query.get("filter");
        if !legacy.is_empty() {
            filters.add("reference", legacy);
        }
        Ok(Self {
            all: query.bool("all"),
            shared_size: query.bool("shared-size"),
            manifests: query.bool("manifests"),
            filters,
        })
    }
}

/// Parameters of `POST /images/create`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageCreate {
    /// Image to pull.
    pub from_image: String,
    /// Source to import: `-` for the body.
    pub from_src: String,
    /// Name of the imported image.
    pub repo: String,
    /// Tag or digest to pull, or tag of the imported image.
    pub tag: String,
    /// Remark of the import.
    pub message: String,
    /// Dockerfile instructions for the imported image.
    pub changes: Vec<String>,
    /// Platform, `os[/arch[/variant]]`.
    pub platform: String,
}

impl ImageCreate {
    /// Reads the parameters.
    #[must_use]
    pub fn from_query(query: &Query) -> Self {
        Self {
            from_image: query.owned("fromImage"),
            from_src: query.owned("fromSrc"),
            repo: query.owned("repo"),
            tag: query.owned("tag"),
            message: query.owned("message"),
            changes: query.all("changes").to_vec(),
            platform: query.owned("platform"),
        }
    }
}

/// Parameters of `DELETE /images/{name}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageRemove {
    /// Whether names and stopped containers do not keep it.
    pub force: bool,
    /// Whether untagged parents stay.
    pub no_prune: bool,
}

impl ImageRemove {
    /// Reads the parameters.
    #[must_use]
    pub fn from_query(query: &Query) -> Self {
        Self {
            force: query.bool("force"),
            no_prune: query.bool("noprune"),
        }
    }
}

/// Parameters of `GET /events`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// First point in time.
    pub since: Option<Timestamp>,
    /// End of the stream.
    pub until: Option<Timestamp>,
    /// Filters.
    pub filters: Filters,
}

impl Events {
    /// Reads the parameters.
    pub fn from_query(query: &Query) -> Result<Self, InvalidParameter> {
        let events = Self {
            since: Timestamp::parse(query.get("since"))?,
            until: Timestamp::parse(query.get("until"))?,
            filters: query.filters()?,
        };
        match (events.since, events.until) {
            (Some(since), Some(until)) if until < since => Err(InvalidParameter(format!(
                "`since` time ({}) cannot be after `until` time ({})",
                query.get("since"),
                query.get("until")
            ))),
            _ => Ok(events),
        }
    }
}

/// Parameters of `GET /system/df`: which objects are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUsageTypes {
    /// Containers.
    pub containers: bool,
    /// Images.
    pub images: bool,
    /// Volumes.
    pub volumes: bool,
    /// Build cache.
    pub build_cache: bool,
}

impl DiskUsageTypes {
    /// Tells whether nothing is left out.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.containers && self.images && self.volumes && self.build_cache
    }

    /// Reads the parameters; no `type` is all of them.
    pub fn from_query(query: &Query) -> Result<Self, InvalidParameter> {
        let wanted = query.all("type");
        let mut types = Self::default();
        for kind in wanted {
            match kind.as_str() {
                "container" => types.containers = true,
                "image" => types.images = true,
                "volume" => types.volumes = true,
                "build-cache" => types.build_cache = true,
                other => {
                    let why = format!("unknown object type: {other}");
                    return Err(InvalidParameter(why));
                }
            }
        }
        if wanted.is_empty() {
            types = Self {
                containers: true,
                images: true,
                volumes: true,
                build_cache: true,
            };
        }
        Ok(types)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    #[test]
    fn decodes() {
        let query = query("a=1&b=x%20y+z&a=2&flag&e=&%61b=%C3%A9");
        assert_eq!(query.all("a"), ["1", "2"]);
        assert_eq!(query.get("b"), "x y z");
        assert_eq!(query.opt("flag"), Some(""));
        assert_eq!(query.get("ab"), "é");
        for bad in ["a=%", "a=%f", "a=%zz", "a=%ff"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn booleans_as_dockerd() {
        for (text, expect) in [
            ("1", true),
            ("True", true),
            ("yes", true),
            ("x", true),
            ("", false),
            ("0", false),
            ("False", false),
            (" no ", false),
            ("none", false),
        ] {
            assert_eq!(is_true(text), expect, "{text:?}");
        }
        assert!(query("").bool_or("stream", true));
        assert!(!query("stream").bool_or("stream", true));
    }

    #[test]
    fn errors_as_dockerd() {
        let cases: [(InvalidParameter, &str); 7] = [
            (
                ContainerList::from_query(&query("limit=x")).unwrap_err(),
                r#"strconv.Atoi: parsing "x": invalid syntax"#,
            ),
            (
                Stop::from_query(&query("t=99999999999999999999")).unwrap_err(),
                r#"strconv.Atoi: parsing "99999999999999999999": value out of range"#,
            ),
            (
                Logs::from_query(&query("stdout=1&since=abc")).unwrap_err(),
                r#"strconv.ParseInt: parsing "abc": invalid syntax"#,
            ),
            (
                Logs::from_query(&query("follow=1")).unwrap_err(),
                "Bad parameters: you must choose at least one stream",
            ),
            (
                Resize::from_query(&query("h=x&w=1")).unwrap_err(),
                r#"invalid resize height "x": invalid syntax"#,
            ),
            (
                WaitCondition::from_query(&query("condition=foo")).unwrap_err(),
                r#"invalid condition: "foo""#,
            ),
            (
                DiskUsageTypes::from_query(&query("type=x")).unwrap_err(),
                "unknown object type: x",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.0, text);
        }
    }

    #[test]
    fn timestamps() {
        let parse = |text| {
            Timestamp::parse(text)
                .unwrap()
                .map(Timestamp::unix_nanoseconds)
        };
        assert_eq!(parse(""), None);
        assert_eq!(parse("0"), None);
        assert_eq!(parse("12"), Some(12_000_000_000));
        assert_eq!(parse("12.5"), Some(12_500_000_000));
        assert_eq!(parse("12.000000001"), Some(12_000_000_001));
        assert_eq!(parse("9223372036854775807"), Some(i64::MAX));
        assert!(Timestamp::parse("1.-5").is_err());
        assert!(Timestamp::parse("1.x").is_err());
    }

    #[test]
    fn log_tail() {
        for (text, tail) in [
            ("all", None),
            ("", None),
            ("-1", None),
            ("x", None),
            ("0", Some(0)),
            ("5", Some(5)),
        ] {
            let logs = Logs::from_query(&query(&format!("stdout=1&tail={text}"))).unwrap();
            assert_eq!(logs.tail, tail, "{text}");
        }
    }
}
