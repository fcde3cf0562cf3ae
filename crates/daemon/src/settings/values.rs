//! Values of settings: what a text has to be.

use std::net::{IpAddr, Ipv4Addr};

use api::host_config::Ulimit;
use network::{AddressPool, PublishPolicy, Subnet};

/// RFC 8200: no link that carries IPv6 has a smaller one. Below 68 (RFC 791) not even IPv4 works.
const LEAST_MTU: i64 = 68;
const LEAST_MTU_V6: i64 = 1280;
/// The largest packet of IP.
const MOST_MTU: i64 = 65535;
/// The longest seccomp profile.
const PROFILE_MAX: u64 = 1 << 20;

/// A result with what is wrong as a text for people.
type Parsed<T> = Result<T, String>;

/// Go's `strconv.ParseBool`.
pub(super) fn switch(text: &str) -> Parsed<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {text:?}: invalid syntax"
        )),
    }
}

pub(super) fn number(text: &str, least: i64, most: i64) -> Parsed<i64> {
    let number: i64 = text
        .parse()
        .map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))?;
    if (least..=most).contains(&number) {
        Ok(number)
    } else if number < 0 && least == 0 {
        Err("must not be negative".to_owned())
    } else {
        Err(format!("must be from {least} to {most}"))
    }
}

/// A level of the engine's log, or a filter. Dockerd's two levels above `error` are that one here.
pub(super) fn level(text: &str) -> Parsed<String> {
    let level = match text {
        "" => "info",
        "fatal" | "panic" => "error",
        "warning" => "warn",
        other => other,
    };
    let wrong = || {
        format!(
            "log level {level:?} is not debug, info, warn, error or a filter such as info,engine=debug"
        )
    };
    // a word that is no level would be taken for a module's name, and nothing would be logged
    let is_level =
        |word: &str| matches!(word, "trace" | "debug" | "info" | "warn" | "error" | "off");
    let clear = |part: &str| part.contains(['=', '[']) || is_level(part);
    if !level.split(',').all(clear) {
        return Err(wrong());
    }
    crate::log::check(level).map_err(|_| wrong())?;
    Ok(level.to_owned())
}

pub(super) fn address(text: &str) -> Parsed<IpAddr> {
    text.parse().map_err(|_| format!("{text} is no IP address"))
}

pub(super) fn bridge_address(text: &str) -> Parsed<(Ipv4Addr, u8)> {
    let invalid = || format!("invalid CIDR address: {text}");
    let (address, length) = text.split_once('/').ok_or_else(invalid)?;
    let length: u8 = length
        .parse()
        .ok()
        .filter(|length| (1..=30).contains(length))
        .ok_or_else(invalid)?;
    Ok((address.parse().map_err(|_| invalid())?, length))
}

pub(super) fn publish_policy(text: &str) -> Parsed<PublishPolicy> {
    match text {
        "docker" => Ok(PublishPolicy::Docker),
        "host-firewall" => Ok(PublishPolicy::HostFirewall),
        _ => Err("must be docker or host-firewall".to_owned()),
    }
}

pub(super) fn snapshotter(text: &str) -> Parsed<engine::SnapshotterChoice> {
    let mut all = engine::SnapshotterChoice::ALL.into_iter();
    let named = all.find(|choice| choice.name() == text);
    named.ok_or_else(|| "must be auto, overlayfs or erofs".to_owned())
}

pub(super) fn mtu(text: &str, ipv6: bool) -> Parsed<u32> {
    let least = if ipv6 { LEAST_MTU_V6 } else { LEAST_MTU };
    let number = number(text, least, MOST_MTU)?;
    u32::try_from(number).map_err(|_| format!("must be from {least} to {MOST_MTU}"))
}

/// `base=10.64.0.0/12,size=24`, as dockerd takes it.
pub(super) fn pool(text: &str) -> Parsed<AddressPool> {
    let (mut base, mut size) = (None, None);
    if text.is_empty() {
        return Err("EOF".to_owned());
    }
    for field in text.split(',') {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
        match key.to_ascii_lowercase().as_str() {
            "base" => base = Some(pool_base(value)?),
            "size" => {
                let number: u8 = value
                    .parse()
                    .map_err(|_| format!("invalid size value: {value:?} (must be integer)"))?;
                size = Some(number);
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    let (Some(base), Some(size)) = (base, size) else {
        return Err("needs both base and size, such as base=10.64.0.0/12,size=24".to_owned());
    };
    let width = if base.address().is_ipv4() { 32 } else { 128 };
    if size < base.prefix() || size > width {
        return Err(format!(
            "size {size} must be from {} to {width}, as the base is {base}",
            base.prefix()
        ));
    }
    Ok(AddressPool { base, size })
}

fn pool_base(text: &str) -> Parsed<Subnet> {
    text.parse::<Subnet>()
        .map_err(|error| format!("invalid base prefix {text:?}: {error}"))
}

pub(super) fn v6_subnet(text: &str) -> Parsed<Subnet> {
    let subnet = text.parse::<Subnet>().map_err(|error| error.to_string())?;
    match subnet.address() {
        IpAddr::V6(_) if subnet.prefix() < 128 => Ok(subnet),
        _ => Err(format!("{text} is no IPv6 subnet")),
    }
}

/// A number of bytes: `64m`, `1.5g`, `4096`.
pub(super) fn bytes(text: &str) -> Parsed<u64> {
    let bytes = size(text)?;
    u64::try_from(bytes).map_err(|_| format!("invalid size: '{text}'"))
}

/// The same as a signed number, which some of Docker's settings are.
pub(super) fn size(text: &str) -> Parsed<i64> {
    let invalid = || format!("invalid size: '{text}'");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = lower[digits.len()..].trim();
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(invalid()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: i64 = whole.parse().map_err(|_| invalid())?;
    let unit = 1_i64 << shift;
    // three digits behind the point are more than anybody writes
    let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
    let fraction: i64 = fraction.parse().map_err(|_| invalid())?;
    let bytes = whole
        .checked_mul(unit)
        .and_then(|bytes| bytes.checked_add(fraction * unit / 1000));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(invalid)
}

/// `name=soft[:hard]`.
pub(super) fn ulimit(text: &str) -> Parsed<Ulimit> {
    let invalid = || format!("invalid ulimit argument: {text}");
    let (name, limits) = text.split_once('=').ok_or_else(invalid)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let limit = |text: &str| text.parse::<i64>().map_err(|_| invalid());
    let ulimit = Ulimit {
        name: name.to_owned(),
        hard: limit(hard)?,
        soft: limit(soft)?,
    };
    if ulimit.hard != -1 && (ulimit.soft == -1 || ulimit.soft > ulimit.hard) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {} > {}",
            ulimit.soft, ulimit.hard
        ));
    }
    Ok(ulimit)
}

/// `name=value`.
pub(super) fn pair(text: &str) -> Parsed<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be name=value".to_owned()),
    }
}

pub(super) fn label(text: &str) -> Parsed<String> {
    match text.split_once('=') {
        Some((name, _)) if !name.trim().is_empty() => Ok(text.to_owned()),
        _ => Err(format!("bad attribute format: {text}")),
    }
}

/// A mirror of Docker Hub: an address without a path, as in dockerd.
pub(super) fn mirror(text: &str) -> Parsed<String> {
    let invalid = |why: &str| format!("invalid mirror: {text:?} {why}");
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| invalid("is not a valid URI"))?;
    if !matches!(scheme, "http" | "https") {
        return Err(invalid(&format!(
            "has the unsupported scheme {scheme:?}: use http or https"
        )));
    }
    let host = rest.trim_end_matches('/');
    if host.is_empty() {
        return Err(invalid("has no host"));
    }
    if host.contains(['/', '?', '#']) {
        return Err(invalid("must not have a path, a query or a fragment"));
    }
    if host.contains('@') {
        return Err(invalid("must not hold a user name and a password"));
    }
    Ok(format!("{scheme}://{host}/"))
}

/// Nothing for the built-in profile, `unconfined`, or the text of a file.
pub(super) fn seccomp(text: &str) -> Parsed<Option<String>> {
    use std::io::Read as _;
    match text {
        "" | "builtin" => return Ok(None),
        "unconfined" => return Ok(Some("unconfined".to_owned())),
        _ => {}
    }
    let failed = |error: std::io::Error| format!("opening seccomp profile failed: {error}");
    let mut profile = String::new();
    let file = std::fs::File::open(text).map_err(failed)?;
    file.take(PROFILE_MAX)
        .read_to_string(&mut profile)
        .map_err(failed)?;
    serde_json::from_str::<serde::de::IgnoredAny>(&profile)
        .map_err(|error| format!("decoding seccomp profile failed: {error}"))?;
    Ok(Some(profile))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: std::fmt::Debug>(found: Parsed<T>, expect: Result<&str, &str>) {
        match (found, expect) {
            (Ok(found), Ok(expect)) => assert_eq!(format!("{found:?}"), expect),
            (Err(found), Err(expect)) => assert!(found.contains(expect), "{found}, not {expect}"),
            (found, expect) => panic!("{found:?}, not {expect:?}"),
        }
    }

    #[test]
    fn pools() {
        let check = |text: &str, expect: Result<&str, &str>| {
            check(
                pool(text).map(|pool| format!("{} by {}", pool.base, pool.size)),
                expect,
            );
        };
        check("base=10.64.0.0/12,size=24", Ok("\"10.64.0.0/12 by 24\""));
        check("SIZE=64,Base=fd12::/48", Ok("\"fd12::/48 by 64\""));
        check("base=10.0.0.0/8", Err("needs both"));
        check(
            "base=10.0.0.0/8,size=x",
            Err("invalid size value: \"x\" (must be integer)"),
        );
        check("base=10.0.0.0/8,size=7", Err("size 7 must be from 8 to 32"));
        check(
            "base=10.0.0.0/8,size=33",
            Err("size 33 must be from 8 to 32"),
        );
        check(
            "base=10.0.0.0,size=24",
            Err("invalid base prefix \"10.0.0.0\""),
        );
        check("base", Err("invalid field 'base' must be a key=value pair"));
        check("a=b", Err("unexpected key 'a' in 'a=b'"));
        check("", Err("EOF"));
    }

    #[test]
    fn numbers_and_addresses() {
        check(mtu("1500", false), Ok("1500"));
        check(mtu("67", false), Err("from 68 to 65535"));
        check(mtu("1279", true), Err("from 1280 to 65535"));
        check(mtu("65536", false), Err("from 68 to 65535"));
        check(mtu("x", false), Err("strconv.ParseInt: parsing \"x\""));
        check(number("-1", 0, 9), Err("must not be negative"));
        check(bridge_address("10.0.0.1/24"), Ok("(10.0.0.1, 24)"));
        check(bridge_address("10.0.0.1/31"), Err("invalid CIDR address"));
        check(bridge_address("x"), Err("invalid CIDR address"));
        assert!(v6_subnet("fd00::/64").is_ok() && v6_subnet("10.0.0.0/8").is_err());
        check(publish_policy("host-firewall"), Ok("HostFirewall"));
        check(snapshotter("erofs"), Ok("Erofs"));
        check(snapshotter("zfs"), Err("must be auto, overlayfs or erofs"));
        check(publish_policy("ufw"), Err("must be docker"));
        check(address("::"), Ok("::"));
        check(switch("T"), Ok("true"));
        check(switch("yes"), Err("strconv.ParseBool: parsing \"yes\""));
    }

    #[test]
    fn sizes() {
        for (text, expect) in [
            ("4096", Ok("4096")),
            ("64m", Ok("67108864")),
            ("64MiB", Ok("67108864")),
            ("1.5 GB", Ok("1610612736")),
            ("0", Err("invalid size: '0'")),
            ("-1", Err("invalid size")),
            ("1x", Err("invalid size")),
            ("", Err("invalid size")),
            ("99999999t", Err("invalid size")),
        ] {
            check(size(text), expect);
        }
    }

    #[test]
    fn containers() {
        check(
            ulimit("nofile=1024:4096").map(|u| (u.name, u.soft, u.hard)),
            Ok("(\"nofile\", 1024, 4096)"),
        );
        check(ulimit("core=-1").map(|u| (u.soft, u.hard)), Ok("(-1, -1)"));
        check(ulimit("nofile"), Err("invalid ulimit argument: nofile"));
        check(ulimit("nofile=2:1"), Err("2 > 1"));
        check(pair("a=b=c"), Ok("(\"a\", \"b=c\")"));
        check(pair("=b"), Err("must be name=value"));
        check(label("a"), Err("bad attribute format: a"));
        check(level("fatal"), Ok("\"error\""));
        check(level("info,engine=debug"), Ok("\"info,engine=debug\""));
        check(level("loud"), Err("log level \"loud\""));
    }

    #[test]
    fn mirrors() {
        check(mirror("https://m.example"), Ok("\"https://m.example/\""));
        check(mirror("http://m:5000/"), Ok("\"http://m:5000/\""));
        check(mirror("m.example"), Err("is not a valid URI"));
        check(mirror("ftp://m"), Err("unsupported scheme"));
        check(mirror("https://m/v2"), Err("must not have a path"));
        check(mirror("https://u:p@m"), Err("must not hold a user name"));
        check(mirror("https:///"), Err("has no host"));
    }

    #[test]
    fn profiles() {
        check(seccomp("builtin"), Ok("None"));
        check(seccomp("unconfined"), Ok("Some(\"unconfined\")"));
        check(
            seccomp("/nonexistent"),
            Err("opening seccomp profile failed"),
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "{").unwrap();
        let path = file.path().to_str().unwrap();
        check(seccomp(path), Err("decoding seccomp profile failed"));
        std::fs::write(&file, "{}").unwrap();
        check(seccomp(path), Ok("Some(\"{}\")"));
    }
}
