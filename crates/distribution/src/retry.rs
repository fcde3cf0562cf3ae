//! When a failed request is sent again, and after which pause.

use std::hash::BuildHasher as _;
use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use crate::config::RetryPolicy;

/// Counts the tries of one request.
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: RetryPolicy,
    tries: u32,
}

impl Backoff {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self { policy, tries: 1 }
    }

    /// The pause before the next try, or `None` when it is not worth one.
    pub(crate) fn next_pause(&mut self, asked: Option<Duration>) -> Option<Duration> {
        if self.tries >= self.policy.attempts {
            return None;
        }
        if asked.is_some_and(|asked| asked > self.policy.longest_retry_after) {
            return None;
        }
        let doubled = self
            .policy
            .first_pause
            .saturating_mul(1 << (self.tries - 1).min(16));
        let pause = doubled.min(self.policy.longest_pause);
        self.tries += 1;
        Some(jitter(pause).max(asked.unwrap_or_default()))
    }
}

/// Between half and the whole of a pause, so that many clients do not come back at once.
fn jitter(pause: Duration) -> Duration {
    // Each hasher state has random keys: good enough to spread requests, and no dependency.
    let random = std::hash::RandomState::new().hash_one(0_u8) % 1024;
    let share = u32::try_from(random).unwrap_or(0);
    pause / 2 + pause / 2 / 1024 * share
}

/// Whether a status says that the same request may succeed later.
pub(crate) fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Whether a registry says that nothing is left of what it allows: Docker Hub counts pulls over
/// hours, so that pauses of seconds help nobody.
pub(crate) fn is_used_up(headers: &HeaderMap) -> bool {
    let left = headers.get("ratelimit-remaining");
    let left = left.and_then(|value| value.to_str().ok());
    left.is_some_and(|text| {
        text.split(';')
            .next()
            .is_some_and(|left| left.trim() == "0")
    })
}

/// What a registry says that it allows: `ratelimit-limit: 100;w=21600`.
pub(crate) fn allowance(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("ratelimit-limit")?.to_str().ok()?;
    let (count, window) = text.split_once(";w=")?;
    let (count, window): (u32, u64) = (count.trim().parse().ok()?, window.trim().parse().ok()?);
    let span = match window {
        0 => return None,
        hours if hours % 3600 == 0 => format!("{} hours", hours / 3600),
        minutes if minutes % 60 == 0 => format!("{} minutes", minutes / 60),
        seconds => format!("{seconds} seconds"),
    };
    Some(format!("the registry allows {count} pulls in {span}"))
}

/// The wait that an answer asks for: seconds or a date (RFC 9110, 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text);
    let wait = SystemTime::from(date.ok()?).duration_since(SystemTime::now());
    Some(wait.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let policy = RetryPolicy {
            attempts: 4,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_millis(250),
            ..RetryPolicy::default()
        };
        let mut backoff = Backoff::new(policy);
        for longest in [100, 200, 250] {
            let pause = backoff.next_pause(None).unwrap();
            let longest = Duration::from_millis(longest);
            assert!(pause <= longest && pause >= longest / 2, "{pause:?}");
        }
        assert_eq!(backoff.next_pause(None), None);
        let asked = Duration::from_secs(3);
        assert_eq!(Backoff::new(policy).next_pause(Some(asked)), Some(asked));
        let hours = Duration::from_secs(7200);
        assert_eq!(Backoff::new(policy).next_pause(Some(hours)), None);
    }

    #[test]
    fn reads_rate_limits() {
        let headers = |name: &'static str, text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, text.parse().unwrap());
            headers
        };
        for (text, expected) in [
            (
                "100;w=21600",
                Some("the registry allows 100 pulls in 6 hours"),
            ),
            ("5;w=90", Some("the registry allows 5 pulls in 90 seconds")),
            ("5;w=120", Some("the registry allows 5 pulls in 2 minutes")),
            ("5;w=0", None),
            ("many", None),
        ] {
            let found = allowance(&headers("ratelimit-limit", text));
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        for (text, expected) in [("0;w=21600", true), ("0", true), ("1;w=1", false)] {
            let headers = headers("ratelimit-remaining", text);
            assert_eq!(is_used_up(&headers), expected, "{text}");
        }
    }

    #[test]
    fn reads_retry_after() {
        let parse = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(parse("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(parse("Tue, 31 Dec 2199 23:59:59 GMT") > Some(Duration::from_secs(1 << 30)));
        assert_eq!(parse("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
